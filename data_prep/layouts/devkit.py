"""Labels of images without class folders, from ILSVRC's development kits and label lists.

A development kit numbers classes 1..1000 in its own order; everyone else sorts the synsets. Every
reader here therefore returns synsets (WNIDs).
"""

import gzip
import io
import os
import re
import zlib
from collections.abc import Callable

from alexnet_tf.files import open_binary
from data_prep.layouts import archives, meta_mat
from data_prep.listing import Listing

SYNSET = re.compile(r"n\d{8}$")
NUMBER = re.compile(r"_(\d{8})\.")
DEVKITS = {
    2010: (
        "ILSVRC2010_devkit-1.0.tar.gz",
        "devkit-1.0.tar.gz",
        "devkit-1.0",
        "ILSVRC2010_devkit-1.0",
        "devkit",
        ".",
    ),
    2012: ("ILSVRC2012_devkit_t12.tar.gz", "ILSVRC2012_devkit_t12", "devkit", "."),
}
KAGGLE_ROOTS = ("ILSVRC/Data/CLS-LOC", "Data/CLS-LOC")
_LARGEST_DEVKIT = 1 << 28  # unpacked; that of 2012 has a few megabytes
SYNSET_LISTS = (
    "synset_labels.txt",
    "imagenet_2012_validation_synset_labels.txt",
    "validation_synset_labels.txt",
)


def image_number(file_name: str) -> int:
    """57 for ILSVRC2012_val_00000057.JPEG: the line of the label list that belongs to it.

    Raises:
      ValueError: the name has no such number.
    """
    found = NUMBER.search(file_name)
    if not found:
        raise ValueError(
            f"The image {file_name} has no number: expected a name as "
            "ILSVRC2012_val_00000001.JPEG, because labels are listed in that order."
        )
    return int(found[1])


def is_kaggle(root: str) -> bool:
    return root in KAGGLE_ROOTS


def year_of(listing: Listing, folder: str) -> int | None:
    """The year of a folder of ILSVRC's numbered images, by the first name; None for others."""
    name = next((file.name for file in listing.files(folder) if NUMBER.search(file.name)), None)
    if name is None:
        return None
    return 2010 if name.startswith("ILSVRC2010") else 2012


def labels_of_devkit(listing: Listing, year: int, split: str) -> Callable[[str], str]:
    """file name -> synset, from the ground truth and meta.mat of a devkit (archive or folder).

    Raises:
      FileNotFoundError: no devkit; lists each path that was looked for.
    """
    looked_for: list[str] = []
    found = find_devkit(listing, year, split, looked_for)
    if found is None:
        places = dict.fromkeys(map(listing.place, looked_for))
        raise FileNotFoundError(
            f"The labels of the {split} images of ILSVRC-{year} are missing; looked for "
            f"{', '.join(places)}: put the development kit there."
        )
    return found


def find_devkit(
    listing: Listing, year: int, split: str, looked_for: list[str]
) -> Callable[[str], str] | None:
    """`labels_of_devkit`, or None if there is no devkit.

    Args:
      looked_for: receives the paths that do not exist.
    """
    name = f"ILSVRC{year}_{split}_ground_truth.txt"
    for kit in DEVKITS[year]:
        if kit.endswith(".tar.gz"):
            looked_for.append(kit)
            if listing.find(kit):
                truth, meta = _from_archive(listing.use(kit, "development kit"), name)
                return _by_id(truth, meta, name)
            continue
        folder = "" if kit == "." else kit
        for below in (os.path.join(folder, "data"), folder):
            paths = [os.path.join(below, name), os.path.join(below, "meta.mat")]
            looked_for += paths
            if all(map(listing.find, paths)):
                truth, meta = (listing.use(path, "development kit") for path in paths)
                return _by_id(_read(truth), _read(meta), truth)
    return None


def labels_of_lists(listing: Listing, root: str, split: str) -> Callable[[str], str] | None:
    """file name -> synset, from a list with one synset per line in the order of the images'
    numbers; None if there is no such list."""
    if split != "validation":
        return None
    for name in SYNSET_LISTS:
        for folder in (root, ""):
            path = os.path.join(folder, name)
            if listing.find(path):
                place = listing.use(path, "list of labels")
                return _by_number(_read(place).decode("utf-8", "surrogateescape").split(), place)
    return None


def _by_id(truth, meta, name):
    """Devkit ids, one a line, through the table of meta.mat."""
    try:
        synset_of = meta_mat.synsets(meta)
    except ValueError as error:
        raise ValueError(
            f"The meta.mat beside {name} is damaged ({error}): expected the table synsets of a "
            "development kit, get it again."
        ) from None
    try:
        ids = [int(line) for line in truth.split()]
        return _by_number([synset_of[number] for number in ids], name)
    except (ValueError, KeyError) as error:
        raise ValueError(
            f"{name} holds {error}, which is no ILSVRC id of its meta.mat: expected one number of "
            "1..1000 per line, use the ground truth and meta.mat of one development kit."
        ) from None


def _by_number(synsets, path):
    def label(file_name):
        number = image_number(file_name)
        if not 1 <= number <= len(synsets):
            raise ValueError(
                f"{path} has {len(synsets)} lines but there is an image {file_name}: use the list "
                "that belongs to these images."
            )
        return synsets[number - 1]

    return label


def _from_archive(path, truth_name):
    """(ground truth, meta.mat) out of a devkit's .tar.gz."""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(_read(path))) as unpacked:
            content = unpacked.read(_LARGEST_DEVKIT + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is no whole development kit ({error}): get it again.") from None
    if len(content) > _LARGEST_DEVKIT:
        raise ValueError(
            f"{path} unpacks to more than {_LARGEST_DEVKIT} bytes, which no development kit does."
        )
    found = {
        os.path.basename(member.name): content[member.offset : member.offset + member.size]
        for member in archives.members(io.BytesIO(content), 0, len(content), path)
        if not member.odd
    }
    if missing := {truth_name, "meta.mat"} - set(found):
        raise ValueError(f"{path} lacks {', '.join(sorted(missing))}: get it again.")
    return found[truth_name], found["meta.mat"]


def _read(path):
    with open_binary(path) as file:
        return file.read()
