"""Crops of raw records, read from where they stand in local shards.

A raw record is nearly all pixels. Passed through a pipeline it is copied four times before it is
cut; here the rows that a crop needs are read straight into the batch, at the moment they are
needed, so that shuffling moves numbers instead of pictures. For that it must be known where in its
shard each record's pixels begin: that is found out when the first record of a shard is wanted, by
reading the few bytes around the pixels.

A record's checksum is over the whole record, so it is not compared here: `data_prep.verify` does.
A shard with fewer or more records than the metadata says, or of another size than they add up to,
is an error.
"""

import contextlib
import os
import struct
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from alexnet_tf.data.foreign import RecordKeys

# Bytes read at once around a record's pixels: names, label, and the beginning of the next record.
_WINDOW = 512
# A TFRecord: length (uint64), its checksum (uint32), content, the content's checksum (uint32).
_BEFORE, _AFTER = 12, 4
# Protobuf's kinds of fields, as far as tf.train.Example has them.
_VARINT, _LENGTH_DELIMITED = 0, 2
# Numbers of the fields in tf.train.Example's messages.
_FEATURES = _MAP = _KEY = _BYTES_LIST = _VALUES = 1
_VALUE = 2
_INT64_LIST = 3


class RawRecords:
    """The raw records of a split, numbered in the order of its shards.

    Args:
      files: the shards, local paths.
      counts: the records of each.
      shape: (height, width, channels) of a picture.
      keys: where a record's picture and label are.
    """

    def __init__(
        self,
        files: tuple[str, ...],
        counts: tuple[int, ...],
        shape: tuple[int, int, int],
        keys: RecordKeys,
    ):
        self._files, self._shape, self._keys = files, shape, keys
        self._begins = np.cumsum([0, *counts])
        # Threads may look through the same shard at the same time: they find the same.
        self._found: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def of_shard(self, shard: tf.Tensor) -> tf.data.Dataset:
        """The numbers (int64) of the records of one shard (integer scalar)."""
        begins = tf.constant(self._begins)
        return tf.data.Dataset.range(begins[shard], begins[shard + 1])

    def crops(self, numbers: tf.Tensor, corners: tf.Tensor, size: int):
        """Reads a batch, as an operation for a pipeline of this process.

        Args:
          numbers: int64 (b,), which records.
          corners: int32 (b, 2), top and left of each crop.
          size: height and width of a crop.

        Returns:
          uint8 pixels (b, size, size, channels), int64 labels (b,), from 0. A shard that cannot be
          read as described is an InvalidArgumentError.
        """

        def read(numbers, corners):
            try:
                return self._read(numbers, corners, size)
            except OSError as error:  # which TensorFlow would call unknown
                raise ValueError(str(error)) from error

        # The same numbers give the same pictures: several batches may be read at a time, also when
        # operations must be deterministic.
        pictures, labels = tf.numpy_function(
            read, [numbers, corners], (tf.uint8, tf.int64), stateful=False
        )
        pictures.set_shape((numbers.shape[0], size, size, self._shape[2]))
        labels.set_shape(numbers.shape)
        return pictures, labels

    def _read(self, numbers, corners, size):
        channels = self._shape[2]
        pictures = np.empty((len(numbers), size, size, channels), np.uint8)
        labels = np.empty(len(numbers), np.int64)
        rows = np.empty((size, *self._shape[1:]), np.uint8)
        shards = np.searchsorted(self._begins, numbers, side="right") - 1
        inside = numbers - self._begins[shards]
        with contextlib.ExitStack() as opened:
            files = {
                shard: opened.enter_context(open(self._files[shard], "rb", buffering=0))
                for shard in dict.fromkeys(shards.tolist())
            }
            wanted = zip(shards.tolist(), inside.tolist(), corners.tolist(), strict=True)
            for place, (shard, record, (top, left)) in enumerate(wanted):
                begins, truths = self._shard(shard)
                files[shard].seek(begins[record] + top * rows[0].nbytes)
                if files[shard].readinto(rows.data) < rows.nbytes:
                    raise _cut_off(self._files[shard])
                pictures[place] = rows[:, left : left + size]
                labels[place] = truths[record]
        return pictures, labels

    def _shard(self, shard):
        if shard not in self._found:
            count = int(self._begins[shard + 1] - self._begins[shard])
            size = int(np.prod(self._shape))
            self._found[shard] = locate(self._files[shard], count, size, self._keys)
        return self._found[shard]


def locate(path: str, count: int, size: int, keys: RecordKeys) -> tuple[np.ndarray, np.ndarray]:
    """Finds the pixels and labels of a shard without reading the pixels.

    Args:
      path: a local TFRecord file of raw records.
      count: the records that it must have.
      size: bytes of a picture.
      keys: where a record's picture and label are.

    Returns:
      int64 (count,), where in the file each record's pixels begin, and int64 (count,), its label
      from 0.

    Raises:
      ValueError: the file has other records than these, or is cut off.
    """
    begins, labels = np.empty(count, np.int64), np.empty(count, np.int64)
    with open(path, "rb", buffering=0) as file:
        total = os.fstat(file.fileno()).st_size
        window = _Window(file, path)
        position = 0
        for record in range(count):
            (length,) = struct.unpack("<Q", window.read(position, 8))
            begin, end = position + _BEFORE, position + _BEFORE + length
            if end + _AFTER > total:
                raise _cut_off(path)
            pixels, label = _features(window, (begin, end), keys)
            if pixels is None or label is None or pixels[1] - pixels[0] != size:
                raise ValueError(
                    f"Record {record} of {path} is not what its data set's metadata says: expected "
                    f"{size} bytes called {keys.image!r} and a number called {keys.label!r}."
                )
            begins[record], labels[record] = pixels[0], label - keys.first_label
            position = end + _AFTER
    if position != total:
        raise ValueError(
            f"{path} has {total} bytes, but {count} records, as the metadata says, end at byte "
            f"{position}."
        )
    return begins, labels


def _cut_off(path):
    return ValueError(f"{path} is cut off in the middle of a record.")


def _features(window, example, keys):
    """((first byte, end) of the picture, label) of a tf.train.Example, None for what is missing."""
    pixels = label = None
    for _, features in _fields(window, example, _FEATURES):
        for _, entry in _fields(window, features, _MAP):
            parts = dict(_fields(window, entry))
            if not parts.keys() >= {_KEY, _VALUE}:
                continue
            first, end = parts[_KEY]
            name = window.read(first, end - first)
            if name == keys.image.encode():
                for _, values in _fields(window, parts[_VALUE], _BYTES_LIST):
                    for _, value in _fields(window, values, _VALUES):
                        pixels = value
            elif name == keys.label.encode():
                for _, values in _fields(window, parts[_VALUE], _INT64_LIST):
                    for _, (first, _) in _fields(window, values, _VALUES):
                        number, _ = window.varint(first)
                        label = number - 2**64 if number >= 2**63 else number
    return pixels, label


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
            raise ValueError(f"{window.path} holds records that are no tf.train.Example.")
        if wanted in (None, number):
            yield number, (first, begin)


class _Window:
    """A file of which a few bytes at a time are in memory."""

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
        """A number of protobuf's encoding, and the byte behind it."""
        value = shift = 0
        while True:
            byte = self.read(position, 1)[0]
            value |= (byte & 0x7F) << shift
            position += 1
            if byte < 0x80:
                return value, position
            shift += 7
