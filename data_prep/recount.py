"""Checks that every image of a source is in the data set or listed as left out."""

import collections
import dataclasses
import hashlib
from collections.abc import Iterable

import numpy as np

from data_prep import accounting, layouts, preparation, writer

_SHOWN = 5


def name_hash(synset: str, file_name: str) -> int:
    """A 64-bit hash by which a record and its source image are matched."""
    text = f"{synset}\0{file_name}".encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")


def recount(data_dir: str, manifest: dict, source: str, stored: dict[str, np.ndarray]) -> list[str]:
    """Sentences about the differences between the source and the data set.

    Args:
      data_dir: the data set's directory, skipped if it is inside the source.
      manifest: of the data set.
      source: as it was given to `python -m data_prep.convert`, or a copy of it.
      stored: split -> `name_hash` of every record, uint64.

    Raises:
      FileNotFoundError, ValueError: `source` is not a source, or has another layout.
    """
    settings = _settings(manifest)
    listing = preparation.list_source(source.rstrip("/") or "/", data_dir, settings)
    layout = layouts.find(listing, manifest.get("source", {}).get("layout", settings.layout))
    account = accounting.Account(listing, layout.name, allow_unused=True)
    rejects = collections.Counter(path for path, _ in manifest["rejects"])
    # A validation split that was set aside is part of training in the source.
    merged = {"validation": "train"} if settings.validation_share is not None else {}
    left = {split: _Names(parts) for split, parts in _merge(stored, merged).items()}
    missing = []
    for image in account.watch(layout.images(listing, None)):
        split, where = merged.get(image.split, image.split), writer.where(image)
        if split in left and left[split].take(name_hash(image.synset, image.file_name)):
            continue
        if rejects[where]:
            rejects[where] -= 1
            continue
        missing.append(f"{where} ({image.split}, {image.synset})")
    problems = _named(missing, "is in the source but neither stored nor listed as left out")
    problems += [
        f"{split} has {names.rest} images that the source has not."
        for split, names in left.items()
        if names.rest
    ]
    return problems + _compare(manifest, account)


class _Names:
    """A multiset of hashes from which some are taken."""

    def __init__(self, hashes: np.ndarray):
        self._values, self._counts = np.unique(hashes, return_counts=True)
        self.rest = len(hashes)

    def take(self, value: int) -> bool:
        place = int(np.searchsorted(self._values, np.uint64(value)))
        if place == len(self._values) or self._values[place] != value or not self._counts[place]:
            return False
        self._counts[place] -= 1
        self.rest -= 1
        return True


def _settings(manifest):
    fields = {field.name for field in dataclasses.fields(preparation.Settings)}
    known = {name: value for name, value in manifest["settings"].items() if name in fields}
    return preparation.Settings(**known)


def _merge(stored, merged):
    parts: dict[str, list] = {}
    for split, hashes in stored.items():
        parts.setdefault(merged.get(split, split), []).append(hashes)
    return {split: np.concatenate(hashes) for split, hashes in parts.items()}


def _compare(manifest, account):
    """What was left out, then and now; and the listing."""
    then = manifest.get("source")
    if then is None:
        return []
    listing = account.listing
    problems = []
    if listing.digest != then["digest"]:
        problems.append(
            f"{listing.source} is not as it was converted: it has {listing.count} files of "
            f"{listing.bytes} bytes, then {then['files']} of {then['bytes']}."
        )
    listed = {path for path, _ in manifest["rejects"]} | {e["path"] for e in then["unused"]}
    unlisted = [path for path, _ in account.rejects if path not in listed]
    unlisted += [entry["path"] for entry in account.unused if entry["path"] not in listed]
    unlisted += [path for path in listing.used if path not in then["used"]]
    return problems + _named(unlisted, "is in the source but not listed in manifest.json")


def _named(paths: Iterable[str], what: str) -> list[str]:
    paths = list(paths)
    problems = [f"{path} {what}." for path in paths[:_SHOWN]]
    if len(paths) > _SHOWN:
        problems.append(f"{len(paths) - _SHOWN} more {what}.")
    return problems
