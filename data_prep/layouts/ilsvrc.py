"""Reads ILSVRC's original tars without unpacking them.

Headers are read once, and each image from its offset in the tar. So the tars must be uncompressed,
as the originals are.
"""

import os
import re
from collections.abc import Iterator

from alexnet_tf.files import open_binary
from data_prep import images
from data_prep.layouts import archives, devkit
from data_prep.listing import Listing
from data_prep.plan import IMAGE, OTHER, UNLABELLED, LeftOut, SourceImage

_TAR = re.compile(r"ILSVRC(2010|2012)_(?:img|images)_(train|val|test)\.tar$")
_SPLITS = {"val": "validation", "test": "test"}


def tars_fit(listing: Listing) -> bool:
    return any(_TAR.match(file.name) for file in listing.files())


def tars(listing: Listing, _: str) -> Iterator[SourceImage | LeftOut]:
    """ILSVRC2012_img_train.tar (a tar of tars), ..._val.tar and devkit; or those of 2010."""
    source = listing.source
    files = {file.name: file for file in listing.files()}
    years = {int(found[1]) for name in files if (found := _TAR.match(name))}
    if len(years) != 1:
        raise ValueError(
            f"{source} holds ILSVRC tars of the years {sorted(years)}: expected one year, move the "
            "others away."
        )
    year = years.pop()
    kind = "img" if year == 2012 else "images"
    names = {split: f"ILSVRC{year}_{kind}_{split}.tar" for split in ("train", "val", "test")}
    for split in ("train", "val"):
        if names[split] not in files:
            raise FileNotFoundError(
                f"The {split} archive of ILSVRC-{year} is missing; looked for "
                f"{listing.place(names[split])}: put it there."
            )
    labels = {"val": devkit.labels_of_devkit(listing, year, "validation")}
    if names["test"] in files:
        if year == 2010:
            labels["test"] = devkit.labels_of_devkit(listing, year, "test")
        else:
            reason = "test images without labels: those of 2012 were never published"
            yield LeftOut(names["test"], reason, UNLABELLED, images=0)
    yield from _training(listing, files[names["train"]])
    for split, label in labels.items():
        place = listing.use(names[split], f"{_SPLITS[split]} images")
        modified = files[names[split]].modified
        with open_binary(place) as file:
            for item in _images(file, 0, _size(file), names[split]):
                if isinstance(item, LeftOut):
                    yield item
                    continue
                name = os.path.basename(item.name)
                if not devkit.NUMBER.search(name):
                    reason = "its name has no number, and labels are listed by number"
                    yield LeftOut(f"{names[split]}:{item.name}", reason, IMAGE)
                    continue
                part = (names[split], item.offset, item.size)
                yield SourceImage(_SPLITS[split], *part, name, label(name), modified)


def _training(listing, tar):
    """The content of a tar with one tar per synset."""
    path = tar.path
    with open_binary(listing.use(path, "training images")) as file:
        for archive in archives.members(file, 0, _size(file), path):
            name = os.path.basename(archive.name)
            synset = name.removesuffix(".tar")
            if name.startswith("."):
                yield LeftOut(f"{path}:{archive.name}", "hidden", OTHER, images=0)
                continue
            if archive.odd or not name.endswith(".tar") or not devkit.SYNSET.match(synset):
                raise ValueError(
                    f"{path} holds {archive.name}{archive.odd and f', {archive.odd}'}: expected "
                    "one n########.tar per synset, as in the original archive."
                )
            taken = 0
            for item in _images(file, archive.offset, archive.size, f"{path}:{archive.name}"):
                if isinstance(item, LeftOut):
                    yield item
                    continue
                taken += 1
                part = (path, item.offset, item.size)
                yield SourceImage("train", *part, os.path.basename(item.name), synset, tar.modified)
            if not taken:
                raise ValueError(
                    f"{path}:{archive.name} holds no image, so the class {synset} would be lost: "
                    "get it again."
                )


def _images(file, begin, length, what) -> Iterator[archives.Member | LeftOut]:
    """The images of an archive, and its other members as left out."""
    for member in archives.members(file, begin, length, what):
        name = os.path.basename(member.name)
        ending = name.rpartition(".")[2].lower()
        path = f"{what}:{member.name}"
        if name.startswith("."):
            yield LeftOut(path, "hidden", OTHER, images=0)
        elif member.odd:
            kind = IMAGE if ending in images.IMAGE_SUFFIXES else OTHER
            where = f" (byte {member.offset})" if member.offset >= 0 else ""
            yield LeftOut(path + where, member.odd, kind, images=int(kind == IMAGE))
        elif ending in images.IMAGE_SUFFIXES or _is_image(file, member):
            yield member
        else:
            yield LeftOut(path, "no image", OTHER, images=0)


def _is_image(file, member):
    file.seek(member.offset)
    return images.sniff(file.read(min(16, member.size))) is not None


def _size(file):
    file.seek(0, os.SEEK_END)
    return file.tell()
