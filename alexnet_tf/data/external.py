"""Data sets of other programs: TFRecords without metadata, and TFDS data sets of any images.

Their images may be JPEG, PNG, GIF or BMP and of any size; they are decoded whole and brought to
one size by `preprocessing.central_square` when they are read. Facts without metadata (number of
records, labels, mean) are found by reading everything once, and cached in $XDG_CACHE_HOME or
~/.cache, under alexnet_tf/foreign, until the files change.
"""

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import re

import numpy as np
import tensorflow as tf

from alexnet_tf.data import preprocessing, statistics
from alexnet_tf.data.options import with_options
from alexnet_tf.files import cache_directory, write_bytes
from alexnet_tf.machine import usable_processors

TFDS_PREFIX = "tfds:"
# Training images for the mean, taken evenly from all shards: right to a fraction of a grey level.
SAMPLE = 10_000
_SPLITS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "test": "test",
}


@dataclasses.dataclass(frozen=True)
class RecordKeys:
    """Where a record's image and label are.

    Attributes:
      image: feature of the encoded image.
      label: feature of the class.
      first_label: number of the first class: 0, or 1 as in Inception's ImageNet.
    """

    image: str = "image"
    label: str = "label"
    first_label: int = 0


# Inception's and TF-Slim's converters, then TFDS's.
_KNOWN_KEYS = (("image/encoded", "image/class/label"), ("image", "label"))
_SYNSET_KEY = "image/class/synset"


@dataclasses.dataclass(frozen=True)
class Index:
    """What is known about TFRecords without metadata.

    Attributes:
      keys: where image and label are.
      class_names: in label order: the records' own synsets, those of labels.txt, or numbers.
      shards: split -> files; counts: split -> records.
    """

    keys: RecordKeys
    class_names: tuple[str, ...]
    shards: dict[str, tuple[str, ...]]
    counts: dict[str, int]


def tfds_builder(name: str):
    """The `tfds.core.DatasetBuilder` of a data set, downloaded and prepared if need be.

    Args:
      name: as in `tfds.load` ("mnist", "imagenette/320px-v2"), or a directory that TFDS prepared.

    Raises:
      ValueError: TFDS cannot provide it.
    """
    import tensorflow_datasets as tfds

    try:
        if tf.io.gfile.exists(f"{name}/dataset_info.json"):
            return tfds.builder_from_directory(name)
        builder = tfds.builder(name)
        builder.download_and_prepare()
    except Exception as error:  # TFDS raises whatever its downloader does
        first = str(error).strip().splitlines()[:1]
        raise ValueError(
            f"TFDS cannot provide {name} ({type(error).__name__}: {' '.join(first)}): expected the "
            "name of a data set, as tfds:imagenette/320px-v2, or a directory that TFDS prepared."
        ) from None
    return builder


def record_files(path: str) -> dict[str, tuple[str, ...]]:
    """Split -> TFRecord files in `path`, found by names such as train-00000-of-01024."""
    found: dict[str, list[str]] = {}
    for name in sorted(tf.io.gfile.listdir(path)):
        words = re.split(r"[-_.]", name)
        split = next((_SPLITS[word] for word in words if word in _SPLITS), None)
        if split and ("tfrecord" in name or "tfrecords" in words or re.search(r"-of-\d", name)):
            found.setdefault(split, []).append(f"{path}/{name}")
    return {split: tuple(files) for split, files in found.items()}


def read_index(path: str, first_label: int | None = None) -> Index:
    """Reads every record's label, or the cached result of that.

    Args:
      path: a directory of TFRecords.
      first_label: 0 or 1; None to take the smallest label that occurs.

    Raises:
      ValueError: no such records, labels below `first_label`, or a damaged file.
    """
    shards = record_files(path)
    names = _label_file(path)
    kept = FileCache([file for files in shards.values() for file in files], "index.json")
    content = kept.read()
    if content is None:
        content = json.dumps(_scan(shards)).encode()
        kept.write(content)
    scanned = json.loads(content)
    lowest, highest = scanned["lowest"], scanned["highest"]
    first = lowest if first_label is None else first_label
    if first not in (0, 1) or lowest < first:
        raise ValueError(
            f"The labels in {path} run from {lowest} to {highest}: expected them to count from 0 "
            "or from 1. Say which with --first_label, or convert the data with data_prep.convert."
        )
    classes = highest - first + 1
    if names and len(names) < classes:
        raise ValueError(
            f"{path}/labels.txt has {len(names)} names, but labels run from {lowest} to {highest}: "
            "give one name per class."
        )
    if not names:
        names = [scanned["synsets"].get(str(first + n), str(first + n)) for n in range(classes)]
    image_key, label_key = scanned["keys"]
    return Index(
        keys=RecordKeys(image_key, label_key, first),
        class_names=tuple(names),
        shards=shards,
        counts=scanned["counts"],
    )


def sample_statistics(
    files: tuple[str, ...], keys: RecordKeys, image_size: int, channels: int
) -> dict[str, np.ndarray]:
    """`statistics.finish` over at most `SAMPLE` images, or the cached result of that."""
    kept = FileCache(files, f"{image_size}x{channels}.npz")
    content = kept.read()
    if content is None:
        buffer = io.BytesIO()
        np.savez(buffer, **_measure(files, keys, image_size, channels))
        content = buffer.getvalue()
        kept.write(content)
    with np.load(io.BytesIO(content)) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _measure(files, keys, image_size, channels):
    share = -(-SAMPLE // len(files))

    def square_and_products(serialized):
        specs = {keys.image: tf.io.FixedLenFeature([], tf.string)}
        encoded = tf.io.parse_single_example(serialized, specs)[keys.image]
        square = preprocessing.central_square(preprocessing.decode(encoded, channels), image_size)
        values = tf.cast(tf.reshape(square, (-1, channels)), tf.float64)
        return tf.cast(square, tf.float64), tf.matmul(values, values, transpose_a=True)

    images = (
        tf.data.Dataset.from_tensor_slices(list(files))
        .flat_map(lambda file: tf.data.TFRecordDataset(file).take(share))
        .map(square_and_products, num_parallel_calls=usable_processors())
    )
    image, count = np.zeros((image_size, image_size, channels)), 0
    products = np.zeros((channels, channels))
    for values, square in with_options(images).as_numpy_iterator():
        image += values
        products = products + square
        count += 1
    return statistics.finish(count, image, products)


def _scan(shards) -> dict:
    """Counts, keys, range of labels and synsets of all records."""
    from alexnet_tf.progress import tqdm

    counts, synsets = {}, {}
    lowest: int | None = None
    highest: int | None = None
    # A shard may be empty, the first one too.
    every = [file for files in shards.values() for file in files]
    keys = next(filter(None, map(_keys, every)), None)
    if keys is None:
        raise ValueError(f"{os.path.dirname(every[0])} holds no record.")
    with tqdm(unit="record", desc="look") as bar:
        for split, files in shards.items():
            counts[split] = 0
            specs = {
                keys[1]: tf.io.FixedLenFeature([], tf.int64),
                _SYNSET_KEY: tf.io.FixedLenFeature([], tf.string, ""),
            }
            batches = tf.data.TFRecordDataset(list(files), num_parallel_reads=4).batch(256)
            parsed = batches.map(lambda b, specs=specs: tf.io.parse_example(b, specs))
            try:
                for rows in with_options(parsed).as_numpy_iterator():
                    labels = rows[keys[1]]
                    counts[split] += len(labels)
                    ends = (int(labels.min()), int(labels.max()))
                    lowest = ends[0] if lowest is None else min(lowest, ends[0])
                    highest = ends[1] if highest is None else max(highest, ends[1])
                    for label, synset in zip(labels, rows[_SYNSET_KEY], strict=True):
                        if synset:
                            synsets[str(int(label))] = synset.decode()
                    bar.update(len(labels))
            except (tf.errors.DataLossError, tf.errors.InvalidArgumentError) as error:
                raise ValueError(
                    f"A record of {os.path.dirname(files[0])} ({split}) is damaged or has no label "
                    f"{keys[1]!r} ({str(error.message).splitlines()[0]}): get the file again."
                ) from error
    return {
        "counts": counts,
        "synsets": synsets,
        "keys": keys,
        "lowest": lowest,
        "highest": highest,
    }


def _keys(file: str) -> tuple[str, str] | None:
    try:
        first = next(tf.data.TFRecordDataset(file).take(1).as_numpy_iterator(), None)
    except tf.errors.DataLossError as error:
        with tf.io.gfile.GFile(file, "rb") as opened:
            if opened.read(2) == b"\x1f\x8b":
                raise ValueError(
                    f"{file} is compressed with gzip: expected plain TFRecords, decompress it (as "
                    "with `gunzip`) or write it without compression."
                ) from error
        raise ValueError(f"{file} is no TFRecord file, or is damaged: get it again.") from error
    if first is None:
        return None
    found = set(tf.train.Example.FromString(first).features.feature)
    for image, label in _KNOWN_KEYS:
        if {image, label} <= found:
            return image, label
    raise ValueError(
        f"The records in {file} have {sorted(found)}: expected image/encoded and "
        "image/class/label, or image and label."
    )


def _label_file(path: str) -> list[str]:
    """The names in labels.txt, as TF-Slim writes it ("0:daisy"), or one name per line; or none."""
    if not tf.io.gfile.exists(f"{path}/labels.txt"):
        return []
    with tf.io.gfile.GFile(f"{path}/labels.txt", "r") as file:
        lines = [line.strip() for line in file.read().splitlines() if line.strip()]
    return [re.sub(r"^\d+:", "", line) for line in lines]


class FileCache:
    """Caches a result about files until one of them changes."""

    def __init__(self, files, what: str):
        stats = [(file, tf.io.gfile.stat(file)) for file in files]
        stamp = [[file, stat.length, stat.mtime_nsec] for file, stat in stats]
        digest = hashlib.sha256(json.dumps(stamp).encode()).hexdigest()[:32]
        self.path = os.path.join(cache_directory("foreign"), f"{digest}-{what}")

    def read(self) -> bytes | None:
        try:
            with open(self.path, "rb") as file:
                return file.read()
        except OSError:
            return None

    def write(self, content: bytes) -> None:
        # A cache that cannot be written only costs time.
        with contextlib.suppress(OSError):
            write_bytes(self.path, content)
