"""A folder per class: train/<class>/*, val/<class>/*; or a tree of classes without splits."""

import os
from collections.abc import Iterator

from data_prep import images, storage
from data_prep.plan import Picture

# Folder names that people give to the splits.
SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}


def fits(source: str) -> bool:
    """Whether class folders hold pictures, and no split folder holds any itself."""
    splits = [name for name in storage.folders(source) if name in SPLIT_FOLDERS]
    if any(loose_pictures(source, name) for name in splits):
        return False
    return next(pictures(source, ""), None) is not None


def pictures(source: str, _: str) -> Iterator[Picture]:
    """Every picture of every class folder, in the order of their names.

    A file counts as a picture if its name says so (then its bytes have to agree) or if its bytes
    do. Hidden files are skipped.
    """
    splits = {
        name: SPLIT_FOLDERS[name] for name in storage.folders(source) if name in SPLIT_FOLDERS
    }
    if not splits:
        yield from classes(source, "", "train")
    for name, split in splits.items():
        yield from classes(source, name, split)


def classes(source: str, folder: str, split: str) -> Iterator[Picture]:
    """The pictures of the class folders in `folder`, a path below the source."""
    for synset in storage.folders(os.path.join(source, folder)):
        below = os.path.join(folder, synset)
        for name, size in storage.files(os.path.join(source, below)):
            path = os.path.join(below, name)
            if is_picture(source, path):
                yield Picture(split, path, -1, size, name, synset)


def loose_pictures(source: str, folder: str) -> bool:
    """Whether the folder itself, not a folder in it, holds a picture."""
    names = storage.files(os.path.join(source, folder))
    return any(is_picture(source, os.path.join(folder, name)) for name, _ in names)


def is_picture(source: str, path: str) -> bool:
    """By the name's ending or, where that says nothing, by the first bytes."""
    if path.rpartition(".")[2].lower() in images.PICTURE_SUFFIXES:
        return True
    with storage.open_binary(os.path.join(source, path)) as file:
        return images.sniff(file.read(16)) is not None
