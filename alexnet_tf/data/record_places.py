"""Finds the byte range of each record's image, reading only the few bytes around it.

A shard is searched when its first record is wanted.
"""

import os
import struct
import threading
from collections.abc import Iterator

import numpy as np

from alexnet_tf.data.external import RecordKeys

# Bytes read at once around a record's image: names, label, and the beginning of the next record.
_WINDOW = 512
# A TFRecord: length (uint64), its checksum (uint32), content, the content's checksum (uint32).
_BEFORE, _AFTER = 12, 4
# Protobuf's wire types that tf.train.Example uses.
_VARINT, _LENGTH_DELIMITED = 0, 2
# Numbers of the fields in tf.train.Example's messages.
_FEATURES = _MAP = _KEY = _BYTES_LIST = _VALUES = 1
_VALUE = 2
_INT64_LIST = 3

# By path, with the arguments. Kept for the whole process, so that a second pipeline begins at once.
# TensorFlow never frees the functions that a pipeline calls, nor what they hold.
_found: dict[str, tuple[tuple, tuple[np.ndarray, np.ndarray]]] = {}
_finding = threading.Lock()


def places(
    file, count: int, keys: RecordKeys, size: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """`locate` for an open file, remembered until the file changes."""
    now = os.fstat(file.fileno())
    which = (count, keys, size, now.st_ino, now.st_size, now.st_mtime_ns)
    if (known := _found.get(file.name)) and known[0] == which:
        return known[1]
    with _finding:  # one thread builds the index: parsing holds the GIL
        known = _found.get(file.name)
        if known is None or known[0] != which:
            known = _found[file.name] = (which, locate(file.name, count, keys, size))
    return known[1]


def locate(
    path: str, count: int, keys: RecordKeys, size: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Finds the images and labels of a shard without reading the images.

    Args:
      path: a local TFRecord file.
      count: the records that it must have.
      keys: where a record's image and label are.
      size: bytes that each image must have; None for any.

    Returns:
      int64 (count, 2), where in the file each record's image begins and ends, and int64 (count,),
      its label from 0.

    Raises:
      ValueError: the file has other records than these, or is cut off.
    """
    spans, labels = np.empty((count, 2), np.int64), np.empty(count, np.int64)
    with open(path, "rb", buffering=0) as file:
        total = os.fstat(file.fileno()).st_size
        window = _Window(file, path)
        position = 0
        for record in range(count):
            (length,) = struct.unpack("<Q", window.read(position, 8))
            begin, end = position + _BEFORE, position + _BEFORE + length
            if end + _AFTER > total:
                raise _cut_off(path)
            image, label = _features(window, (begin, end), keys)
            right = image is not None and size in (None, image[1] - image[0])
            if not right or label is None:
                expected = "an image" if size is None else f"{size} bytes"
                raise ValueError(
                    f"Record {record} of {path} is not what its data set's metadata says: expected "
                    f"{expected} called {keys.image!r} and a number called {keys.label!r}."
                )
            spans[record], labels[record] = image, label - keys.first_label
            position = end + _AFTER
    if position != total:
        raise ValueError(
            f"{path} has {total} bytes, but {count} records, as the metadata says, end at byte "
            f"{position}."
        )
    return spans, labels


def _cut_off(path):
    return ValueError(f"{path} is cut off in the middle of a record.")


def _no_example(path):
    return ValueError(f"{path} holds records that are no tf.train.Example.")


def _features(window, example, keys):
    """((first byte, end) of the image, label) of a tf.train.Example, None for what is missing."""
    image = label = None
    for _, features in _fields(window, example, _FEATURES):
        for _, entry in _fields(window, features, _MAP):
            parts = dict(_fields(window, entry))
            if not parts.keys() >= {_KEY, _VALUE}:
                continue
            first, end = parts[_KEY]
            name = window.read(first, end - first)
            if name == keys.image.encode():
                image = _only(_values(window, parts[_VALUE], _BYTES_LIST))
            elif name == keys.label.encode():
                label = _only(_numbers(window, _values(window, parts[_VALUE], _INT64_LIST)))
    return image, label


def _only(values):
    values = list(values)
    return values[0] if len(values) == 1 else None


def _values(window, feature, kind):
    """(first byte, end) of a feature's values, if it is of this kind; numbers may be packed."""
    for _, values in _fields(window, feature, kind):
        for _, value in _fields(window, values, _VALUES):
            yield value


def _numbers(window, values):
    for position, end in values:
        while position < end:
            number, position = window.varint(position)
            yield number - 2**64 if number >= 2**63 else number


def _fields(window, message, wanted=None) -> Iterator[tuple[int, tuple[int, int]]]:
    """(field number, (first byte, end)) of a protobuf message's fields, or of one number's."""
    begin, end = message
    while begin < end:
        key, begin = window.varint(begin)
        first, number = begin, key >> 3
        length, begin = window.varint(begin)
        if key & 7 == _LENGTH_DELIMITED:
            first, begin = begin, begin + length
        if begin > end or key & 7 not in (_VARINT, _LENGTH_DELIMITED):
            raise _no_example(window.path)
        if wanted in (None, number):
            yield number, (first, begin)


class _Window:
    """Reads a file a few bytes at a time."""

    def __init__(self, file, path):
        self._file, self.path = file, path
        self._begin, self._bytes = 0, b""

    def read(self, position: int, count: int) -> bytes:
        start = position - self._begin
        if start < 0 or start + count > len(self._bytes):
            self._file.seek(position)
            self._begin, self._bytes = position, self._file.read(max(count, _WINDOW))
            start = 0
            if len(self._bytes) < count:
                raise _cut_off(self.path)
        return self._bytes[start : start + count]

    def varint(self, position: int) -> tuple[int, int]:
        """A protobuf varint, and the position after it."""
        value = 0
        for shift in range(0, 64, 7):
            byte = self.read(position, 1)[0]
            value |= (byte & 0x7F) << shift
            position += 1
            if byte < 0x80 and value < 2**64:
                return value, position
        raise _no_example(self.path)
