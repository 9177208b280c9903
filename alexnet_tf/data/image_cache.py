"""Decoded images of small data sets, kept in memory once they were read.

CIFAR-10 is 154 MB. A network that takes milliseconds for a batch would wait for its files.
"""

import collections
import contextlib
import hashlib
import math
import os
import threading

import numpy as np

MOST = 256 << 20  # bytes that a process keeps


class Kept:
    """The images of a split, as far as they were read.

    Attributes:
      images: uint8 (n, height, width, channels).
      labels: int64 (n,), from 0.
      read: bool (n,), which of them are there.
    """

    def __init__(self, count: int, shape: tuple[int, ...]):
        # Pages that nothing was written to take no memory.
        self.images = np.empty((count, *shape), np.uint8)
        self.labels = np.empty(count, np.int64)
        self.read = np.zeros(count, bool)

    def put(self, numbers: np.ndarray, images: np.ndarray, labels: np.ndarray) -> None:
        """Keeps what was read. Several threads may keep the same images."""
        self.images[numbers], self.labels[numbers] = images, labels
        self.read[numbers] = True


# Here and not in what a pipeline calls: TensorFlow keeps those functions, and what they hold, for
# good. The data set that was used last is the last one.
_kept: collections.OrderedDict[str, Kept] = collections.OrderedDict()
_choosing = threading.Lock()


def fits(count: int, shape: tuple[int, ...]) -> bool:
    """Whether `count` images of this shape are kept."""
    return count * math.prod(shape) <= MOST


def name_of(files: tuple[str, ...]) -> str:
    """A name for the content of files, as far as sizes and times of change tell."""
    words = []
    for file in files:
        words.append(file)
        with contextlib.suppress(OSError):  # the reader reports it
            about = os.stat(file)
            words.append(f"{about.st_ino} {about.st_size} {about.st_mtime_ns}")
    return hashlib.sha256("\n".join(words).encode("utf-8", "surrogateescape")).hexdigest()


def kept(name: str, count: int, shape: tuple[int, ...]) -> Kept:
    """What is kept under a name; the data sets that were used least recently make room for it."""
    with _choosing:
        if name not in _kept:
            _kept[name] = Kept(count, shape)
        _kept.move_to_end(name)
        while len(_kept) > 1 and sum(one.images.nbytes for one in _kept.values()) > MOST:
            _kept.popitem(last=False)
        return _kept[name]
