"""ILSVRC as people keep it: the original tars, flat validation folders, Kaggle's archive.

Tars are not unpacked: their headers are read once, and each picture is then read from its place in
the tar. That needs uncompressed tars, as the originals are.
"""

import os
import re
import tarfile
from collections.abc import Iterator

from data_prep import storage
from data_prep.layouts import devkit, folders
from data_prep.plan import Picture

_TAR = re.compile(r"ILSVRC(2010|2012)_(?:img|images)_(train|val|test)\.tar$")
_SPLITS = {"val": "validation", "test": "test"}


def tars_fit(source: str) -> bool:
    return any(_TAR.match(name) for name, _ in storage.files(source))


def tars(source: str, _: str) -> Iterator[Picture]:
    """ILSVRC2012_img_train.tar (a tar of tars), ..._val.tar and devkit; or those of 2010."""
    years = {int(found[1]) for name, _ in storage.files(source) if (found := _TAR.match(name))}
    if len(years) != 1:
        raise ValueError(
            f"{source} holds ILSVRC tars of the years {sorted(years)}: expected one year, move the "
            "others away."
        )
    year = years.pop()
    kind = "img" if year == 2012 else "images"
    names = {split: f"ILSVRC{year}_{kind}_{split}.tar" for split in ("train", "val", "test")}
    paths = {split: os.path.join(source, name) for split, name in names.items()}
    for split in ("train", "val"):
        storage.first_existing([paths[split]], f"The {split} archive of ILSVRC-{year}")
    labels = {"val": devkit.labels_of_devkit(source, year, "validation")}
    # The labels of 2012's test pictures are not public.
    if year == 2010 and storage.exists(paths["test"]):
        labels["test"] = devkit.labels_of_devkit(source, year, "test")
    yield from _nested(source, names["train"])
    for split in labels:
        for name, path, offset, size in _members(source, names[split]):
            synset = labels[split](name)
            yield Picture(_SPLITS[split], path, offset, size, name, synset)


def flat_fits(source: str) -> bool:
    """Class folders for training, and a validation folder that holds pictures itself."""
    split_folders = _split_folders(source)
    return "train" in split_folders and any(
        folders.loose_pictures(source, folder)
        for split, folder in split_folders.items()
        if split != "train"
    )


def flat(source: str, _: str) -> Iterator[Picture]:
    """train/<synset>/*, and val/* with a ground-truth text."""
    split_folders = _split_folders(source)
    if "train" not in split_folders:
        raise FileNotFoundError(f"The training pictures are missing; looked for {source}/train.")
    synsets = storage.folders(os.path.join(source, split_folders["train"]))
    yield from folders.classes(source, split_folders["train"], "train")
    for split, folder in split_folders.items():
        if split == "train":
            continue
        files = storage.files(os.path.join(source, folder))
        label = devkit.labels_of_lists(source, folder, synsets)
        if label is None:
            if not files:
                continue
            year = 2010 if files[0][0].startswith("ILSVRC2010") else 2012
            label = devkit.labels_of_devkit(source, year, split)
        for name, size in files:
            path = os.path.join(folder, name)
            if folders.is_picture(source, path):
                yield Picture(split, path, -1, size, name, label(name))


def kaggle_fits(source: str) -> bool:
    return _kaggle_root(source) is not None


def kaggle(source: str, _: str) -> Iterator[Picture]:
    """ILSVRC/Data/CLS-LOC/{train/<synset>,val}, with LOC_val_solution.csv. Test has no labels."""
    root = _kaggle_root(source)
    if root is None:
        raise FileNotFoundError(
            f"Kaggle's folder is missing; looked for {', '.join(_kaggle_roots(source))}."
        )
    for split in ("train", "val"):
        storage.first_existing([os.path.join(source, root, split)], f"Kaggle's {split} folder")
    table = storage.first_existing(
        [
            os.path.join(source, "LOC_val_solution.csv"),
            os.path.join(source, "ILSVRC", "LOC_val_solution.csv"),
        ],
        "The table of validation labels",
    )
    label = devkit.labels_of_kaggle(table)
    yield from folders.classes(source, os.path.join(root, "train"), "train")
    for name, size in storage.files(os.path.join(source, root, "val")):
        path = os.path.join(root, "val", name)
        if folders.is_picture(source, path):
            yield Picture("validation", path, -1, size, name, label(name))


def _kaggle_roots(source):
    return [os.path.join(source, "ILSVRC/Data/CLS-LOC"), os.path.join(source, "Data/CLS-LOC")]


def _kaggle_root(source):
    for root in ("ILSVRC/Data/CLS-LOC", "Data/CLS-LOC"):
        if storage.exists(os.path.join(source, root)):
            return root
    return None


def _split_folders(source):
    names = storage.folders(source)
    return {folders.SPLIT_FOLDERS[name]: name for name in names if name in folders.SPLIT_FOLDERS}


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
