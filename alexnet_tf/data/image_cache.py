"""Caches decoded images of small data sets in memory.

CIFAR-10 is 154 MB. A network that needs milliseconds per batch would wait for its files.
"""

import collections
import contextlib
import hashlib
import math
import os
import threading

import numpy as np

MOST = 256 << 20  # maximum bytes per process


class Kept:
    """The images of a split that were read so far.

    Attributes:
      images: uint8 (n, height, width, channels).
      labels: int64 (n,), from 0.
      read: bool (n,), whether each image was read.
    """

    def __init__(self, count: int, shape: tuple[int, ...]):
        # Pages that were never written take no memory.
        self.images = np.empty((count, *shape), np.uint8)
        self.labels = np.empty(count, np.int64)
        self.read = np.zeros(count, bool)

    def put(self, numbers: np.ndarray, images: np.ndarray, labels: np.ndarray) -> None:
        """Keeps images that were read. Several threads may keep the same ones."""
        self.images[numbers], self.labels[numbers] = images, labels
        self.read[numbers] = True


# Global, because TensorFlow never frees functions that a pipeline calls, or what they hold.
# Ordered by use; the most recently used data set is last.
_kept: collections.OrderedDict[str, Kept] = collections.OrderedDict()
_choosing = threading.Lock()


def fits(count: int, shape: tuple[int, ...]) -> bool:
    """Whether `count` images of this shape are small enough to be kept."""
    return count * math.prod(shape) <= MOST


def name_of(files: tuple[str, ...]) -> str:
    """A name for the content of files, derived from their sizes and modification times."""
    words = []
    for file in files:
        words.append(file)
        with contextlib.suppress(OSError):  # the reader reports it
            about = os.stat(file)
            words.append(f"{about.st_ino} {about.st_size} {about.st_mtime_ns}")
    return hashlib.sha256("\n".join(words).encode("utf-8", "surrogateescape")).hexdigest()


def kept(name: str, count: int, shape: tuple[int, ...]) -> Kept:
    """The images kept under a name; evicts the least recently used data sets to make space."""
    with _choosing:
        if name not in _kept:
            _kept[name] = Kept(count, shape)
        _kept.move_to_end(name)
        while len(_kept) > 1 and sum(one.images.nbytes for one in _kept.values()) > MOST:
            _kept.popitem(last=False)
        return _kept[name]
