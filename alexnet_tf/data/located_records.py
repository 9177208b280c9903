"""Crops of records, read from where the pictures stand in local shards.

A record is nearly all picture. Passed through a pipeline it is copied several times before it is
cut; here its bytes, or of raw pixels only the rows that a crop needs, are read when its batch is
made, so that shuffling moves numbers instead of pictures. Where in its shard each record's picture
stands `record_places` finds out.

A record's checksum is over the whole record, so it is not compared here: `data_prep.verify` does.
A shard with fewer or more records than the metadata says, or of another size than they add up to,
is an error when one of its records is wanted, and so is a picture that cannot be decoded.

JPEGs are decoded by simplejpeg, in one operation for a whole batch. It is the library that
TensorFlow's operation calls, with the same settings, and gives the same bits.
"""

import atexit
import contextlib
import itertools
import os
import threading
import time

import numpy as np
import simplejpeg
import tensorflow as tf

from alexnet_tf.data import preprocessing
from alexnet_tf.data.foreign import RecordKeys
from alexnet_tf.data.record_places import places
from alexnet_tf.data.records import RecordFormat

# Seconds for pipelines to come to rest when Python ends, before they are made to.
_PATIENCE = 10
_REST = 0.5  # seconds without a call that are taken for rest
_ANNOUNCED = 1 << 17  # bytes: of longer requests Linux reads a part only (read_ahead_kb)
_MOST_ANNOUNCED = 1 << 28  # bytes of a shard: many are read at a time
_ALIGNMENT = 64  # of tensors' memory, at most (EIGEN_MAX_ALIGN_BYTES)


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

    @tf.autograph.experimental.do_not_convert
    def of_shard(self, shard: tf.Tensor) -> tf.data.Dataset:
        """The numbers (int64) of the records of one shard (integer scalar), soon to be read."""
        # Not stateful: where operations must be deterministic, tf.data would run all one by one.
        shard = tf.numpy_function(_call(self._announce), [shard], shard.dtype, stateful=False)
        begins = tf.constant(self._begins)
        return tf.data.Dataset.range(begins[shard], begins[shard + 1])

    def _announce(self, shard):
        """Lets the system read a shard from one end to the other before its records are wanted.

        They are wanted in no order: without this, a disk that is not in memory would seek for each.
        """
        if hasattr(os, "posix_fadvise"):
            # A shard that is not there is an error where its records are read.
            with contextlib.suppress(OSError), open(self._files[shard], "rb") as file:
                size = min(os.fstat(file.fileno()).st_size, _MOST_ANNOUNCED)
                for begin in range(0, size, _ANNOUNCED):
                    os.posix_fadvise(file.fileno(), begin, _ANNOUNCED, os.POSIX_FADV_WILLNEED)
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
        order = np.argsort(numbers).tolist()  # as they stand on the disk, one file after the other
        for shard, these in itertools.groupby(order, key=shards.tolist().__getitem__):
            with open(self._files[shard], "rb", buffering=0) as file:
                stands, truths = self._places(file, shard)
                for place in these:
                    record = numbers[place] - self._begins[shard]
                    top, left = corners[place].tolist()
                    rows = crop_of(file, stands[record].tolist(), (top, size), room)
                    pictures[place] = rows[:, left : left + size]
                    labels[place] = truths[record]
        return pictures, labels

    def _crop_of_raw(self, file, stands, wanted, room):
        """Reads the rows (first, number of them) of a picture; `stands` is where it does."""
        top, size = wanted
        rows = room[:size]
        file.seek(stands[0] + top * rows[0].nbytes)
        if file.readinto(rows.data) < rows.nbytes:
            raise _shortened(file.name)
        return rows

    def _crop_of_jpeg(self, file, stands, wanted, room):
        begin, end = stands
        file.seek(begin)
        encoded = file.read(end - begin)
        if len(encoded) < end - begin:
            raise _shortened(file.name)
        try:
            pixels = _decode(encoded, room)
        except ValueError as error:
            raise ValueError(f"The picture at byte {begin} of {file.name}: {error}") from error
        top, size = wanted
        return pixels[top : top + size]

    def _places(self, file, shard):
        count = int(self._begins[shard + 1] - self._begins[shard])
        size = int(np.prod(self._format.shape)) if self._format.encoding == "raw" else None
        return places(file, count, self._keys, size)


def _shortened(path):
    return ValueError(f"{path} became shorter while it was read.")


def _aligned(shape):
    """An uninitialised uint8 array that TensorFlow takes as it is; others it copies."""
    size = int(np.prod(shape))
    room = np.empty(size + _ALIGNMENT, np.uint8)
    begin = -room.ctypes.data % _ALIGNMENT
    return room[begin : begin + size].reshape(shape)


def _decode(encoded, room):
    """Decodes a picture, whose shape `room` must have; JPEGs into it."""
    channels = room.shape[2]
    try:
        if (space := simplejpeg.decode_jpeg_header(encoded)[2]) in ("CMYK", "YCCK"):
            raise ValueError(f"its colours are {space}")  # which TensorFlow computes differently
        pixels = simplejpeg.decode_jpeg(encoded, "RGB" if channels == 3 else "GRAY", buffer=room)
    except ValueError as error:
        # Another kind of file, or stray bytes and the like, which TensorFlow lets pass; or real
        # damage, which it does not.
        try:
            pixels = preprocessing.decode(encoded, channels).numpy()
        except tf.errors.InvalidArgumentError:
            begins = f"it starts with {encoded[:8]!r}"
            reason = error if encoded.startswith(b"\xff\xd8") else begins
            raise ValueError(f"it cannot be decoded ({reason}).") from None
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
        """Returns when all pipelines' buffers seem full, so that none makes another call.

        Where something goes on taking batches, a daemon thread say, it is given an error after a
        while; where a call hangs, on a disk say, Python ends as it can after as long again.
        """
        seen, waited, began = 0, 0.0, time.monotonic()
        while (self._running or seen != self._begun) and waited < 2 * _PATIENCE:
            seen, self._over = self._begun, waited > _PATIENCE
            time.sleep(_REST)
            waited = time.monotonic() - began


_calls = _Calls()
atexit.register(_calls.finish)


def _call(function):
    """`function` for `tf.numpy_function`."""

    def call(*args):
        with _calls.one():
            return function(*args)

    return call
