"""What the development kits and label lists of ILSVRC say about pictures without class folders.

Label orders differ: a devkit counts 1..1000 in an order of its own, everybody else sorts the
synsets. Every reader here returns synsets (WNIDs), through which all orders agree.
"""

import io
import os
import re
import tarfile
from collections.abc import Callable

from data_prep import storage
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
SYNSET_LISTS = (
    "synset_labels.txt",
    "imagenet_2012_validation_synset_labels.txt",
    "validation_synset_labels.txt",
)


def picture_number(file_name: str) -> int:
    """57 for ILSVRC2012_val_00000057.JPEG: the line of the label list that belongs to it.

    Raises:
      ValueError: the name has no such number.
    """
    found = NUMBER.search(file_name)
    if not found:
        raise ValueError(
            f"The picture {file_name} has no number: expected a name as "
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
            f"The labels of the {split} pictures of ILSVRC-{year} are missing; looked for "
            f"{', '.join(places)}: put the development kit there."
        )
    return found


def find_devkit(
    listing: Listing, year: int, split: str, looked_for: list[str]
) -> Callable[[str], str] | None:
    """`labels_of_devkit`, or None if there is no devkit.

    Args:
      looked_for: gets the paths that are not there.
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
                return _by_number(_read(place).decode().split(), place)
    return None


def _by_id(truth, meta, name):
    """Devkit ids, one a line, through the table of meta.mat."""
    synset_of = _synsets_of_meta(meta)
    try:
        ids = [int(line) for line in truth.split()]
        return _by_number([synset_of[number] for number in ids], name)
    except (ValueError, KeyError) as error:
        raise ValueError(
            f"{name} holds {error}, which is no ILSVRC id of its meta.mat: expected one number of "
            "1..1000 per line, use the ground truth and meta.mat of one development kit."
        ) from None


def _synsets_of_meta(meta: bytes) -> dict[int, str]:
    import scipy.io

    synsets = scipy.io.loadmat(io.BytesIO(meta), squeeze_me=True, struct_as_record=False)["synsets"]
    first = synsets.flat[0]
    # Later copies call the field after their own year and keep the numbers.
    field = next(name for name in first._fieldnames if name.endswith("_ID"))
    return {int(getattr(entry, field)): str(entry.WNID) for entry in synsets.flat}


def _by_number(synsets, path):
    def label(file_name):
        number = picture_number(file_name)
        if not 1 <= number <= len(synsets):
            raise ValueError(
                f"{path} has {len(synsets)} lines but there is a picture {file_name}: use the list "
                "that belongs to these pictures."
            )
        return synsets[number - 1]

    return label


def _from_archive(path, truth_name):
    """(ground truth, meta.mat) out of a devkit's .tar.gz, a few hundred kilobytes."""
    found = {}
    try:
        with storage.open_binary(path) as file, tarfile.open(fileobj=file, mode="r:gz") as archive:
            for member in archive:
                name = os.path.basename(member.name)
                wanted = member.isfile() and name in (truth_name, "meta.mat")
                if wanted and (content := archive.extractfile(member)):
                    found[name] = content.read()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ValueError(f"{path} is no whole development kit ({error}): get it again.") from None
    if len(found) < 2:
        missing = {truth_name, "meta.mat"} - set(found)
        raise ValueError(f"{path} lacks {', '.join(sorted(missing))}: get it again.")
    return found[truth_name], found["meta.mat"]


def _read(path):
    with storage.open_binary(path) as file:
        return file.read()
