"""Random-access reads of images from local TFRecord shards.

Shuffling moves record numbers instead of images; each image is read or decoded directly into its
place in the batch. `record_places` finds the images in the shards.

Checksums cover whole records, so they are not compared here; `data_prep.verify` does that. A shard
whose records or size differ from the metadata, or an image that cannot be decoded, is an error when
one of its records is wanted.

simplejpeg is the library behind TensorFlow's own operation and gives the same bits. It releases the
GIL while it decodes, so threads scale.

Images of small data sets stay in memory once they are read (`image_cache`).
"""

import atexit
import contextlib
import itertools
import math
import mmap
import os
import threading
import time
import weakref

import numpy as np
import simplejpeg
import tensorflow as tf

from alexnet_tf.data import image_cache, preprocessing
from alexnet_tf.data.external import RecordKeys
from alexnet_tf.data.record_places import places
from alexnet_tf.data.records import RecordFormat

_PATIENCE = 20.0  # seconds to wait for pipelines when Python exits
_REST = 0.1  # seconds without a call after which pipelines count as stopped
_ANNOUNCED = 1 << 17  # bytes: of longer requests Linux reads a part only (read_ahead_kb)
_MOST_ANNOUNCED = 1 << 28  # bytes of a shard: many are read at a time


class LocatedRecords:
    """The records of a split, numbered in the order of its shards.

    Args:
      files: the shards, local paths.
      counts: the records of each.
      record_format: what the images are: "jpeg" or "raw".
      keys: where a record's image and label are.
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
        self._fits = image_cache.fits(sum(counts), record_format.shape)
        self._name = image_cache.name_of(files) if self._fits else ""

    @property
    def bytes_in_memory(self) -> int:
        """What the images will take in memory once they are read; 0 where they are not kept."""
        count = int(self._begins[-1])
        return count * math.prod(self._format.shape) if self._fits else 0

    @tf.autograph.experimental.do_not_convert
    def of_shard(self, shard: tf.Tensor) -> tf.data.Dataset:
        """The numbers (int64) of the records of one shard (integer scalar), soon to be read."""
        # Not stateful: under deterministic operations tf.data would run them one by one.
        shard = tf.numpy_function(_call(self._announce), [shard], shard.dtype, stateful=False)
        begins = tf.constant(self._begins)
        return tf.data.Dataset.range(begins[shard], begins[shard + 1])

    def _announce(self, shard):
        """Asks the system to read a shard ahead: records in random order would seek for each."""
        if hasattr(os, "posix_fadvise"):
            # A missing shard is an error where its records are read.
            with contextlib.suppress(OSError), open(self._files[shard], "rb") as file:
                size = min(os.fstat(file.fileno()).st_size, _MOST_ANNOUNCED)
                for begin in range(0, size, _ANNOUNCED):
                    os.posix_fadvise(file.fileno(), begin, _ANNOUNCED, os.POSIX_FADV_WILLNEED)
        return shard

    @tf.autograph.experimental.do_not_convert
    def images(self, numbers: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Reads a batch, as an operation for a pipeline of this process.

        Args:
          numbers: int64 (b,), which records.

        Returns:
          uint8 (b, height, width, channels), int64 labels (b,), from 0. A shard that cannot be read
          as described, or an image that cannot be decoded, is an InvalidArgumentError.
        """

        def read(numbers):
            try:
                return self._read(numbers)
            except OSError as error:  # which TensorFlow would call unknown
                raise ValueError(str(error)) from error

        # The same numbers give the same images: several batches may be read at a time, also when
        # operations must be deterministic.
        images, labels = tf.numpy_function(
            _call(read), [numbers], (tf.uint8, tf.int64), stateful=False
        )
        images.set_shape((numbers.shape[0], *self._format.shape))
        labels.set_shape(numbers.shape)
        return images, labels

    def _read(self, numbers):
        if not self._fits:
            return self._read_from_files(numbers)
        kept = image_cache.kept(self._name, int(self._begins[-1]), self._format.shape)
        if not kept.read[numbers].all():
            images, labels = self._read_from_files(numbers)
            kept.put(numbers, images, labels)
            return images, labels
        images = _buffers.take((len(numbers), *self._format.shape))
        # With "clip" NumPy writes to its place at once; "raise" would go through a copy.
        np.take(kept.images, numbers, axis=0, out=images, mode="clip")
        return images, kept.labels[numbers]

    def _read_from_files(self, numbers):
        images = _buffers.take((len(numbers), *self._format.shape))
        labels = np.empty(len(numbers), np.int64)
        raw = self._format.encoding == "raw"
        fill, size = (_read_exactly, images[0].nbytes) if raw else (_decode_from, None)
        shards = (np.searchsorted(self._begins, numbers, side="right") - 1).tolist()
        order = np.argsort(numbers).tolist()  # as on the disk, one file after the other
        for shard, of_shard in itertools.groupby(order, key=shards.__getitem__):
            rows, count = list(of_shard), int(self._begins[shard + 1] - self._begins[shard])
            with open(self._files[shard], "rb", buffering=0) as file:
                spans, truth = places(file, count, self._keys, size)
                records = numbers[rows] - self._begins[shard]
                labels[rows] = truth[records]
                for row, (begin, end) in zip(rows, spans[records].tolist(), strict=True):
                    _calls.require_running()
                    fill(file, begin, end, images[row])
        return images, labels


class _Buffers:
    """Memory for batches, used again when TensorFlow has let go of it.

    A batch of 256 images is 50 MB. The C library would give it back to the kernel each time, which
    then finds, clears and maps as many pages again.
    """

    def __init__(self):
        self._pool: tuple[int, list] = (0, [])  # size of a batch in bytes, memory that is free

    def take(self, shape: tuple[int, ...]) -> np.ndarray:
        """A uint8 array of any content, aligned so that TensorFlow takes it without a copy."""
        size = math.prod(shape)
        pooled, free = self._pool
        if size != pooled:  # another pipeline: the memory of the last one's batches goes
            free = []
            self._pool = (size, free)
        try:
            memory = free.pop()
        except IndexError:
            memory = mmap.mmap(-1, size)
        # Every view, TensorFlow's tensor too, keeps this array alive.
        array = np.frombuffer(memory, np.uint8)
        weakref.finalize(array, free.append, memory).atexit = False
        return array.reshape(shape)


_buffers = _Buffers()


def _read_exactly(file, begin, end, buffer):
    """Fills `buffer` (uint8 array of end - begin bytes) with bytes of a file."""
    # One call that releases the GIL instead of two, where the system has it.
    if hasattr(os, "preadv"):
        count = os.preadv(file.fileno(), [buffer.data], begin)
    else:
        file.seek(begin)
        count = file.readinto(buffer.data)
    if count < end - begin:
        raise ValueError(f"{file.name} became shorter while it was read.")


def _decode_from(file, begin, end, image):
    encoded = np.empty(end - begin, np.uint8)
    _read_exactly(file, begin, end, encoded)
    try:
        _decode(encoded, image)
    except ValueError as error:
        raise ValueError(f"The image at byte {begin} of {file.name}: {error}") from error


def _decode(encoded: np.ndarray, image: np.ndarray) -> None:
    """Decodes an image into an array of its shape."""
    channels = image.shape[2]
    try:
        if (space := simplejpeg.decode_jpeg_header(encoded)[2]) in ("CMYK", "YCCK"):
            raise ValueError(f"its colours are {space}")  # TensorFlow converts these differently
        pixels = simplejpeg.decode_jpeg(encoded, "RGB" if channels == 3 else "GRAY", buffer=image)
    except ValueError as error:
        # TensorFlow accepts other formats, CMYK, stray bytes and the like, but no real damage.
        content = encoded.tobytes()
        try:
            pixels = preprocessing.decode(content, channels).numpy()
        except tf.errors.InvalidArgumentError:
            begins = f"it starts with {content[:8]!r}"
            reason = error if content.startswith(b"\xff\xd8") else begins
            raise ValueError(f"it cannot be decoded ({reason}).") from None
    if pixels.shape != image.shape:
        raise ValueError(f"its shape is {pixels.shape}, but the metadata says {image.shape}.")
    if not np.shares_memory(pixels, image):
        image[:] = pixels


class _Calls:
    """The Python callbacks of pipelines, which must end before Python does.

    At exit, destroying an iterator joins tf.data threads that need the GIL: deadlock. So callbacks
    fail from then on, and the exit hook waits until none runs.
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
            self.require_running()
            yield
        finally:
            with self._lock:
                self._running -= 1

    def require_running(self):
        if self._over:
            raise RuntimeError("Python is about to end.")

    def finish(self):
        self._over, seen, began = True, 0, time.monotonic()
        while (self._running or seen != self._begun) and time.monotonic() - began < _PATIENCE:
            seen = self._begun
            time.sleep(_REST)


_calls = _Calls()
atexit.register(_calls.finish)


def _call(function):
    """`function` for `tf.numpy_function`."""

    def call(*args):
        with _calls.one():
            return function(*args)

    return call
