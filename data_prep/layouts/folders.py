"""A folder per class: train/<class>/*, val/<class>/*; or a tree of classes without splits."""

import os
from collections.abc import Iterator

from data_prep import images, plan

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
    """Whether some class folder holds a picture."""
    return next(pictures(source, ""), None) is not None


def pictures(source: str, _) -> Iterator[plan.Picture]:
    """Every picture of every class folder, in the order of their names.

    A file counts as a picture if its name says so (then its bytes have to agree) or if its bytes
    do. Hidden files are skipped.
    """
    splits = {name: SPLIT_FOLDERS[name] for name in _folders(source) if name in SPLIT_FOLDERS}
    if not splits:
        yield from _classes(source, "", "train")
    for name, split in splits.items():
        yield from _classes(source, name, split)


def _classes(source, folder, split):
    for synset in _folders(os.path.join(source, folder)):
        below = os.path.join(folder, synset)
        for name, size in _files(os.path.join(source, below)):
            path = os.path.join(below, name)
            if _is_picture(source, path):
                yield plan.Picture(split, path, -1, size, name, synset)


def _is_picture(source, path):
    if path.rpartition(".")[2].lower() in images.PICTURE_SUFFIXES:
        return True
    import tensorflow as tf

    with tf.io.gfile.GFile(os.path.join(source, path), "rb") as file:
        return images.sniff(file.read(16)) is not None


def _folders(path):
    return [name for name, size in _list(path) if size is None]


def _files(path):
    return [(name, size) for name, size in _list(path) if size is not None]


def _list(path):
    """Sorted (name, bytes, or None for a directory) of what is not hidden in a directory."""
    if "://" in path:
        import tensorflow as tf

        names = sorted(name.rstrip("/") for name in tf.io.gfile.listdir(path))
        isdir = tf.io.gfile.isdir
        # Asking a remote store for each picture's size would cost a request per picture.
        return [(name, None if isdir(os.path.join(path, name)) else -1) for name in names]
    with os.scandir(path) as entries:
        return sorted(
            (entry.name, None if entry.is_dir() else entry.stat().st_size)
            for entry in entries
            if not entry.name.startswith(".")
        )
