"""ILSVRC's original tars.

They are not unpacked: their headers are read once, and each picture is then read from its place in
the tar. That needs uncompressed tars, as the originals are.
"""

import os
import re
import tarfile
from collections.abc import Iterator

from data_prep import storage
from data_prep.layouts import devkit
from data_prep.listing import Listing
from data_prep.plan import UNLABELLED, LeftOut, Picture

_TAR = re.compile(r"ILSVRC(2010|2012)_(?:img|images)_(train|val|test)\.tar$")
_SPLITS = {"val": "validation", "test": "test"}


def tars_fit(listing: Listing) -> bool:
    return any(_TAR.match(file.name) for file in listing.files())


def tars(listing: Listing, _: str) -> Iterator[Picture | LeftOut]:
    """ILSVRC2012_img_train.tar (a tar of tars), ..._val.tar and devkit; or those of 2010."""
    source = listing.source
    years = {int(found[1]) for file in listing.files() if (found := _TAR.match(file.name))}
    if len(years) != 1:
        raise ValueError(
            f"{source} holds ILSVRC tars of the years {sorted(years)}: expected one year, move the "
            "others away."
        )
    year = years.pop()
    kind = "img" if year == 2012 else "images"
    names = {split: f"ILSVRC{year}_{kind}_{split}.tar" for split in ("train", "val", "test")}
    for split in ("train", "val"):
        listing.first([names[split]], f"The {split} archive of ILSVRC-{year}")
    labels = {"val": devkit.labels_of_devkit(listing, year, "validation")}
    if listing.find(names["test"]):
        if year == 2010:
            labels["test"] = devkit.labels_of_devkit(listing, year, "test")
        else:
            reason = "test images without labels: those of 2012 were never published"
            yield LeftOut(names["test"], reason, UNLABELLED, images=0)
    listing.use(names["train"], "training images")
    yield from _nested(source, names["train"])
    for split in labels:
        listing.use(names[split], f"{_SPLITS[split]} images")
        for name, path, offset, size in _members(source, names[split]):
            synset = labels[split](name)
            yield Picture(_SPLITS[split], path, offset, size, name, synset)


def _nested(source, path):
    """The pictures of a tar that holds one tar per synset."""
    with storage.open_binary(os.path.join(source, path)) as file:
        for synset_tar, offset, size in _index(file, 0, _size(file), path):
            synset = os.path.basename(synset_tar).removesuffix(".tar")
            if not synset_tar.endswith(".tar") or not devkit.SYNSET.match(synset):
                raise ValueError(
                    f"{path} holds {synset_tar}: expected one n########.tar per synset, as in the "
                    "original archive."
                )
            for name, begin, length in _index(file, offset, size, f"{path}:{synset_tar}"):
                name = os.path.basename(name)
                yield Picture("train", path, begin, length, name, synset)


def _members(source, path):
    with storage.open_binary(os.path.join(source, path)) as file:
        for name, offset, size in _index(file, 0, _size(file), path):
            yield os.path.basename(name), path, offset, size


def _index(file, begin, length, what):
    """(name, offset in the whole file, size) of each file in the tar at begin..begin + length."""
    end = begin + length
    file.seek(begin)
    try:
        archive = tarfile.open(fileobj=file, mode="r:")  # noqa: SIM115 (closes nothing of ours)
        # The next archive's headers follow an inner one whose end mark is missing.
        while archive.offset < end and (member := archive.next()) is not None:
            if member.offset_data + member.size > end:
                raise tarfile.ReadError(
                    f"{member.name} should end at byte {member.offset_data + member.size}, but the "
                    f"archive ends at {end}"
                )
            if member.isfile():
                yield member.name, member.offset_data, member.size
            archive.members = []  # type: ignore[attr-defined]  # one object per picture would fill the memory
    except tarfile.TarError as error:
        raise ValueError(f"{what} is no whole, uncompressed tar ({error}): get it again.") from None


def _size(file):
    file.seek(0, os.SEEK_END)
    size = file.tell()
    file.seek(0)
    return size
