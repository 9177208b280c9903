"""Crops of records, read from where the pictures stand in local shards.

A record is nearly all picture. Passed through a pipeline it is copied several times before it is
cut; here its bytes, or of raw pixels only the rows that a crop needs, are read when its batch is
made, so that shuffling moves numbers instead of pictures. For that it must be known where in its
shard each record's picture stands: that is found out when the first record of a shard is wanted, by
reading the few bytes around the pictures.

A record's checksum is over the whole record, so it is not compared here: `data_prep.verify` does.
A shard with fewer or more records than the metadata says, or of another size than they add up to,
is an error, and so is a picture that cannot be decoded.

JPEGs are decoded by simplejpeg, one call for a whole batch. It is the library that TensorFlow's
operation calls, with the same settings, and gives the same bits.
"""

import atexit
import contextlib
import os
import struct
import threading
import time
from collections.abc import Iterator

import numpy as np
import simplejpeg
import tensorflow as tf

from alexnet_tf.data.foreign import RecordKeys
from alexnet_tf.data.records import RecordFormat

# Bytes read at once around a record's picture: names, label, and the beginning of the next record.
_WINDOW = 512
# Seconds for pipelines to come to rest when Python ends, before they are made to.
_PATIENCE = 10
_ALIGNMENT = 64  # of tensors' memory, at most (EIGEN_MAX_ALIGN_BYTES)
# A TFRecord: length (uint64), its checksum (uint32), content, the content's checksum (uint32).
_BEFORE, _AFTER = 12, 4
# Protobuf's kinds of fields, as far as tf.train.Example has them.
_VARINT, _LENGTH_DELIMITED = 0, 2
# Numbers of the fields in tf.train.Example's messages.
_FEATURES = _MAP = _KEY = _BYTES_LIST = _VALUES = 1
_VALUE = 2
_INT64_LIST = 3


class LocatedRecords:
    """The records of a split, numbered in the order of its shards.

    Args:
      files: the shards, local paths.
      counts: the records of each.
      record_format: what the pictures are: "jpeg" or "raw".
      keys: where a record's picture and label are.
    """

    def __init__(
        self,
        files: tuple[str, ...],
        counts: tuple[int, ...],
        record_format: RecordFormat,
        keys: RecordKeys,
    ):
        self._files, self._format, self._keys = files, record_format, keys
        self._begins = np.cumsum([0, *counts])
        # Threads may look through the same shard at the same time: they find the same.
        self._found: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    @tf.autograph.experimental.do_not_convert
    def of_shard(self, shard: tf.Tensor) -> tf.data.Dataset:
        """The numbers (int64) of the records of one shard (integer scalar), soon to be read."""
        shard = tf.numpy_function(_call(self._announce), [shard], shard.dtype)
        begins = tf.constant(self._begins)
        return tf.data.Dataset.range(begins[shard], begins[shard + 1])

    def _announce(self, shard):
        """Lets the system read a shard from one end to the other before its records are wanted.

        They are wanted in no order: without this, a disk that is not in memory would seek for each.
        """
        if hasattr(os, "posix_fadvise"):
            # A shard that is not there is an error where its records are read.
            with contextlib.suppress(OSError), open(self._files[shard], "rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)
        return shard

    @tf.autograph.experimental.do_not_convert
    def crops(self, numbers: tf.Tensor, corners: tf.Tensor, size: int):
        """Reads a batch, as an operation for a pipeline of this process.

        Args:
          numbers: int64 (b,), which records.
          corners: int32 (b, 2), top and left of each crop.
          size: height and width of a crop.

        Returns:
          uint8 pixels (b, size, size, channels), int64 labels (b,), from 0. A shard that cannot be
          read as described, or a picture that cannot be decoded, is an InvalidArgumentError.
        """

        def read(numbers, corners):
            try:
                return self._read(numbers, corners, size)
            except OSError as error:  # which TensorFlow would call unknown
                raise ValueError(str(error)) from error

        # The same numbers give the same pictures: several batches may be read at a time, also when
        # operations must be deterministic.
        pictures, labels = tf.numpy_function(
            _call(read), [numbers, corners], (tf.uint8, tf.int64), stateful=False
        )
        pictures.set_shape((numbers.shape[0], size, size, self._format.channels))
        labels.set_shape(numbers.shape)
        return pictures, labels

    def _read(self, numbers, corners, size):
        pictures = _aligned((len(numbers), size, size, self._format.channels))
        labels = np.empty(len(numbers), np.int64)
        crop_of = self._crop_of_raw if self._format.encoding == "raw" else self._crop_of_jpeg
        room = np.empty(self._format.shape, np.uint8)  # for one picture after the other
        shards = np.searchsorted(self._begins, numbers, side="right") - 1
        inside = numbers - self._begins[shards]
        with contextlib.ExitStack() as opened:
            files = {
                shard: opened.enter_context(open(self._files[shard], "rb", buffering=0))
                for shard in dict.fromkeys(shards.tolist())
            }
            wanted = zip(shards.tolist(), inside.tolist(), corners.tolist(), strict=True)
            for place, (shard, record, (top, left)) in enumerate(wanted):
                stand, truths = self._shard(shard)
                rows = crop_of(files[shard], stand[record], (top, size), room)
                pictures[place] = rows[:, left : left + size]
                labels[place] = truths[record]
        return pictures, labels

    def _crop_of_raw(self, file, stands, wanted, room):
        """Reads the rows (first, number of them) of a picture; `stands` is where it does."""
        top, size = wanted
        rows = room[:size]
        file.seek(stands[0] + top * rows[0].nbytes)
        if file.readinto(rows.data) < rows.nbytes:
            raise _cut_off(file.name)
        return rows

    def _crop_of_jpeg(self, file, stands, wanted, room):
        begin, end = stands
        file.seek(begin)
        encoded = file.read(end - begin)
        if len(encoded) < end - begin:
            raise _cut_off(file.name)
        try:
            pixels = _decode(encoded, room)
        except ValueError as error:
            raise ValueError(f"The picture at byte {begin} of {file.name}: {error}") from error
        top, size = wanted
        return pixels[top : top + size]

    def _shard(self, shard):
        if shard not in self._found:
            count = int(self._begins[shard + 1] - self._begins[shard])
            size = int(np.prod(self._format.shape)) if self._format.encoding == "raw" else None
            self._found[shard] = locate(self._files[shard], count, self._keys, size)
        return self._found[shard]


def _aligned(shape):
    """An uninitialised uint8 array that TensorFlow takes as it is; others it copies."""
    size = int(np.prod(shape))
    room = np.empty(size + _ALIGNMENT, np.uint8)
    begin = -room.ctypes.data % _ALIGNMENT
    return room[begin : begin + size].reshape(shape)


def _decode(encoded, room):
    """Decodes a JPEG into `room`, whose shape it must have."""
    channels = room.shape[2]
    if not encoded.startswith(b"\xff\xd8"):
        raise ValueError(f"it is no JPEG, it starts with {encoded[:8]!r}.")
    try:
        pixels = simplejpeg.decode_jpeg(encoded, "RGB" if channels == 3 else "GRAY", buffer=room)
    except ValueError as error:
        # Stray bytes and the like, which TensorFlow lets pass; or real damage, which it does not.
        accurate = "INTEGER_ACCURATE"
        try:
            pixels = tf.io.decode_jpeg(encoded, channels, dct_method=accurate).numpy()
        except tf.errors.InvalidArgumentError:
            raise ValueError(f"it cannot be decoded ({error}).") from None
    if pixels.shape != room.shape:
        raise ValueError(f"its shape is {pixels.shape}, but the metadata says {room.shape}.")
    return pixels


class _Calls:
    """How many of the functions that pipelines call are running, so that Python can end.

    Python ends by deleting what is left. An iterator among that waits for its pipeline's threads,
    and they would wait for ever for a Python that runs no other thread any more.
    """

    def __init__(self):
        self._lock = threading.Lock()
        self._running = self._begun = 0
        self._over = False

    @contextlib.contextmanager
    def one(self):
        with self._lock:
            self._begun += 1
            self._running += 1
        try:
            if self._over:
                raise RuntimeError("Python is about to end.")
            yield
        finally:
            with self._lock:
                self._running -= 1

    def finish(self):
        """Returns when all pipelines' buffers are full, so that none makes another call.

        Where something goes on taking batches, a daemon thread say, it is given an error.
        """
        seen, patience = 0, time.monotonic() + _PATIENCE
        while self._running or seen != self._begun:
            seen, self._over = self._begun, time.monotonic() > patience
            time.sleep(0.1)


_calls = _Calls()
atexit.register(_calls.finish)


def _call(function):
    """`function` for `tf.numpy_function`."""

    def call(*args):
        with _calls.one():
            return function(*args)

    return call


def locate(
    path: str, count: int, keys: RecordKeys, size: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Finds the pictures and labels of a shard without reading the pictures.

    Args:
      path: a local TFRecord file.
      count: the records that it must have.
      keys: where a record's picture and label are.
      size: bytes that each picture must have; None for any.

    Returns:
      int64 (count, 2), where in the file each record's picture begins and ends, and int64 (count,),
      its label from 0.

    Raises:
      ValueError: the file has other records than these, or is cut off.
    """
    stand, labels = np.empty((count, 2), np.int64), np.empty(count, np.int64)
    with open(path, "rb", buffering=0) as file:
        total = os.fstat(file.fileno()).st_size
        window = _Window(file, path)
        position = 0
        for record in range(count):
            (length,) = struct.unpack("<Q", window.read(position, 8))
            begin, end = position + _BEFORE, position + _BEFORE + length
            if end + _AFTER > total:
                raise _cut_off(path)
            picture, label = _features(window, (begin, end), keys)
            right = picture is not None and size in (None, picture[1] - picture[0])
            if not right or label is None:
                expected = "a picture" if size is None else f"{size} bytes"
                raise ValueError(
                    f"Record {record} of {path} is not what its data set's metadata says: expected "
                    f"{expected} called {keys.image!r} and a number called {keys.label!r}."
                )
            stand[record], labels[record] = picture, label - keys.first_label
            position = end + _AFTER
    if position != total:
        raise ValueError(
            f"{path} has {total} bytes, but {count} records, as the metadata says, end at byte "
            f"{position}."
        )
    return stand, labels


def _cut_off(path):
    return ValueError(f"{path} is cut off in the middle of a record.")


def _features(window, example, keys):
    """((first byte, end) of the picture, label) of a tf.train.Example, None for what is missing."""
    picture = label = None
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
                        picture = value
            elif name == keys.label.encode():
                for _, values in _fields(window, parts[_VALUE], _INT64_LIST):
                    for _, (first, _) in _fields(window, values, _VALUES):
                        number, _ = window.varint(first)
                        label = number - 2**64 if number >= 2**63 else number
    return picture, label


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
