"""Accounts for every file of a source: taken, read for labels, or named as left out.

A layout yields the images that it takes and what it knowingly leaves out (`plan.LeftOut`).
Everything else in the source's listing is found and named here, so that no layout can overlook a
file silently.
"""

import array
import dataclasses
import os
from collections.abc import Iterable, Iterator

import numpy as np

from alexnet_tf.files import open_binary
from data_prep import images, plan
from data_prep.listing import File, Listing

_SHOWN = 3  # folders that a message names


@dataclasses.dataclass
class _Found:
    """What was found below a folder."""

    files: int = 0
    images: int = 0
    first: str = ""  # image
    taken: bool = False  # whether anything of it is accounted for
    singles: list[tuple[File, str, str]] = dataclasses.field(default_factory=list)
    whole: list[tuple[str, int, int, str]] = dataclasses.field(default_factory=list)


class Account:
    """The accounting of one source.

    Attributes:
      rejects: [path, reason] of single images that are left out.
      unused: {"path", "reason", "files", "images"} of everything else that is left out.
      stops: sentences about folders of images that are left out; the first one is raised, unless
        they may be left out.
      members: number of rejects that are part of a file, such as an archive.
      image_files: number of image files taken; parts of archives do not count.
    """

    def __init__(self, listing: Listing, layout: str, allow_unused: bool = False):
        """
        Args:
          listing: of the source.
          layout: the layout's name, for messages.
          allow_unused: whether folders of images may be left out.
        """
        listing.used.clear()  # a layout's `fits` may have read lists already
        self.listing = listing
        self.layout = layout
        self.allow_unused = allow_unused
        self.rejects: list[list[str]] = []
        self.unused: list[dict] = []
        self.stops: list[str] = []
        self.members = self.image_files = 0
        self._taken = array.array("q")  # 8 bytes an image: hashes of paths
        self._left_out: dict[str, plan.LeftOut] = {}
        self._folders: dict[str, plan.LeftOut] = {}

    def watch(self, found: Iterable[plan.SourceImage | plan.LeftOut]) -> Iterator[plan.SourceImage]:
        """Yields a layout's images, then accounts for the rest of the source.

        Raises:
          ValueError: folders of images are left out, which `allow_unused` does not allow; or a
            file was taken twice.
        """
        for item in found:
            if isinstance(item, plan.LeftOut):
                self._leave_out(item)
                continue
            if item.offset < 0:
                self._taken.append(hash(item.path))
            yield item
        self._close()

    def _leave_out(self, item):
        if item.path.endswith("/"):
            self._folders[item.path.rstrip("/")] = item
        else:
            self._left_out[item.path] = item
        if item.kind == plan.FOLDER:
            self._stop(
                f"{self.listing.place(item.path)}: {item.reason}. --allow_unused leaves it out."
            )

    def _stop(self, sentence):
        self.stops.append(sentence)
        if not self.allow_unused:
            raise ValueError(sentence)

    def _note_item(self, item, files):
        if item.kind == plan.IMAGE:
            self.rejects.append([item.path, item.reason])
        else:
            self._note(item.path, item.reason, files, item.images)

    def _note(self, path, reason, files, images):
        self.unused.append({"path": path, "reason": reason, "files": files, "images": images})

    def _close(self):
        taken = np.sort(np.frombuffer(self._taken, np.int64))
        if len(twice := taken[1:][taken[1:] == taken[:-1]]):
            raise ValueError(
                f"{len(twice)} files of {self.listing.source} were taken twice: name another "
                "--layout."
            )
        rest = self._look("", taken)
        stopping = [entry for entry in rest.whole if entry[2] and entry[3] == plan.FOLDER]
        if stopping:
            named = "; ".join(f"{path} ({n} images)" for path, _, n, _ in stopping[:_SHOWN])
            more = f" and {len(stopping) - _SHOWN} more" if len(stopping) > _SHOWN else ""
            self._stop(
                f"{self.listing.source} holds folders of images that the layout {self.layout} does "
                f"not take: {named}{more}. Move them to where they belong, name another --layout, "
                "or leave them out with --allow_unused."
            )
        for item in self._left_out.values():  # what is no file of its own
            self._note_item(item, 0)
            self.members += item.kind == plan.IMAGE
        for path, files, count, kind in rest.whole:
            self._note(path, self._why(kind), files, count)
        for file, kind, reason in rest.singles:
            if kind == plan.IMAGE:
                self.rejects.append([file.path, reason or self._why(kind)])
            else:
                self._note(file.path, reason or self._why(kind), 1, 0)
        self.rejects.sort()
        self.unused.sort(key=lambda entry: entry["path"])

    def _why(self, kind):
        if kind == plan.OTHER:
            return "no image"
        return f"not where the layout {self.layout} takes images from"

    def _look(self, folder, taken):
        """Finds what is not accounted for in `folder` and below."""
        if folder in self._folders:
            item = self._folders[folder]
            files, count = self._count(folder)
            self._note(item.path, item.reason, files, count)
            return _Found(taken=True)
        found = _Found()
        files = self.listing.all_files(folder)
        hashes = np.fromiter((hash(file.path) for file in files), np.int64, len(files))
        places = np.searchsorted(taken, hashes)
        for file, value, place in zip(files, hashes, places, strict=True):
            if place < len(taken) and taken[place] == value:
                self.image_files += 1
                found.taken = True
            elif file.path in self.listing.used:
                found.taken = True
            elif file.path in self._left_out:
                found.taken = True
                self._note_item(self._left_out.pop(file.path), 1)
            else:
                found.files += 1
                if is_image := looks_like_image(self.listing, file):
                    found.images += 1
                    found.first = found.first or file.path
                kind = plan.IMAGE if is_image else plan.OTHER
                found.singles.append((file, kind, "hidden" if file.hidden else file.odd))
        below = [
            (name, self._look(os.path.join(folder, name), taken))
            for name in self.listing.folders(folder)
        ]
        found.taken |= any(part.taken for _, part in below)
        for _, part in below:
            found.files += part.files
            found.images += part.images
            found.first = found.first or part.first
            found.singles += part.singles
            found.whole += part.whole
        if not found.taken and folder:  # nothing below is accounted for: it is named as a whole
            hidden = os.path.basename(folder).startswith(".")
            kind = plan.FOLDER if found.images and not hidden else plan.OTHER
            entry = (f"{folder}/", found.files, 0 if hidden else found.images, kind)
            return _Found(found.files, 0 if hidden else found.images, found.first, whole=[entry])
        return found

    def _count(self, folder):
        """(files, images) below a folder that is left out as a whole."""
        files = self.listing.all_files(folder)
        count = sum(looks_like_image(self.listing, file) for file in files)
        number = len(files)
        for name in self.listing.folders(folder):
            below = self._count(os.path.join(folder, name))
            number, count = number + below[0], count + below[1]
        return number, count


def looks_like_image(listing: Listing, file: File) -> bool:
    """Decides by the file name's suffix or, if that is unknown, by the first bytes.

    A file that is not regular counts as an image, because it is not opened; a hidden one does not.
    """
    if file.hidden:
        return False
    ending = file.name.rpartition(".")[2].lower() if "." in file.name else ""
    if file.odd or ending in images.IMAGE_SUFFIXES:
        return True
    if ending in images.OTHER_SUFFIXES:
        return False
    with open_binary(listing.place(file.path)) as opened:
        return images.sniff(opened.read(16)) is not None


def summary(account: Account, found: dict[str, int]) -> dict:
    """The manifest's entry about the source.

    Args:
      account: after its `watch` has ended.
      found: images by split, bad ones included.
    """
    listing = account.listing
    return {
        "layout": account.layout,
        "files": listing.count,
        "bytes": listing.bytes,
        "digest": listing.digest,
        "found": dict(found),
        "image_files": account.image_files,
        "rejected_members": account.members,
        "used": dict(sorted(listing.used.items())),
        "unused": account.unused,
    }


def sentences(unused: list[dict], rejects: list[list[str]]) -> list[str]:
    """One line for each thing left out; single files that are no images are only counted."""
    lines = [
        f"not used: {entry['path']} ({_amount(entry)}): {entry['reason']}"
        for entry in unused
        if not _is_single(entry)
    ]
    if single := sum(map(_is_single, unused)):
        lines.append(f"not used: {single} files that are no images")
    return lines + [f"left out: {path}: {reason}" for path, reason in rejects]


def _is_single(entry):
    return not entry["images"] and not entry["path"].endswith("/")


def _amount(entry):
    parts = [(entry["files"], "files")] if entry["files"] > 1 else []
    return ", ".join(f"{n} {what}" for n, what in [*parts, (entry["images"], "images")])


def problems(manifest: dict) -> list[str]:
    """Contradictions between a manifest's counts; none for older manifests without accounting."""
    source = manifest.get("source")
    if source is None:
        return []
    found, counts = source["found"], manifest["counts"]
    wrong = [
        f"{split} has {counts.get(split, 0)} images, but the source had {found.get(split, 0)}."
        for split in sorted({*found, *counts})
        if counts.get(split, 0) > found.get(split, 0)
    ]
    unused = sum(entry["files"] for entry in source["unused"])
    rejects = len(manifest["rejects"])
    # A reject is a bad image among the found, a file that the layout did not take, or part of one.
    untaken = source["files"] - source["image_files"] - len(source["used"]) - unused
    bad = sum(found.values()) - sum(counts.values())
    outside = untaken + source["rejected_members"]
    if outside + bad != rejects or untaken < 0 or bad < 0:
        wrong.append(
            f"manifest.json accounts for {rejects} images that were left out, but of "
            f"{sum(found.values())} found images {sum(counts.values())} are stored and "
            f"{untaken} files of the source are not accounted for otherwise: "
            f"{abs(rejects - outside - bad)} do not add up."
        )
    return wrong
