"""Which data set this is, and how many images each of its classes has."""

import hashlib
import json
import os

import numpy as np
import tensorflow as tf

from alexnet_tf.data import record_places, records
from alexnet_tf.data.options import with_options

_SAMPLED_SHARDS = 16
_SAMPLED_BYTES = 4096  # at either end of a shard


def fingerprint(dataset: records.PreparedDataset) -> str:
    """A short text that differs between data sets, and not between copies of one.

    Made of class names, counts, statistics.npz, and the shards' checksums in the manifest; without
    a manifest, of the shards' sizes and the ends of up to 16 of them.

    Raises:
      OSError: a file is missing. ValueError: the manifest is damaged.
    """
    digest = hashlib.sha256()
    digest.update(json.dumps([dataset.synsets, dataset.counts], sort_keys=True).encode())
    sums = _sums_of_shards(dataset.path)
    for split, files in sorted(dataset.shards.items()):
        sampled = set(files[:: max(1, len(files) // _SAMPLED_SHARDS)])
        for file in files:
            name = os.path.basename(file)
            known = sums.get(name) or _size_and_ends(file, file in sampled)
            digest.update(f"{split} {name} {known}\n".encode())
    path = f"{dataset.path}/{records.STATISTICS_FILE}"
    if tf.io.gfile.exists(path):
        for name, values in sorted(dataset.statistics().items()):
            digest.update(name.encode() + np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()[:32]


def _sums_of_shards(path: str) -> dict[str, str]:
    if not tf.io.gfile.exists(f"{path}/{records.MANIFEST_FILE}"):
        return {}
    try:
        shards = records.read_manifest(path)["shards"]
        return {shard["file"]: shard["sha256"] for shard in shards}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path}/{records.MANIFEST_FILE} cannot be read ({error}): prepare the data again with "
            "`python -m data_prep.convert`."
        ) from error


def _size_and_ends(file: str, sampled: bool) -> str:
    size = tf.io.gfile.stat(file).length
    if not sampled:
        return str(size)
    with tf.io.gfile.GFile(file, "rb") as content:
        ends = content.read(_SAMPLED_BYTES)
        content.seek(max(0, size - _SAMPLED_BYTES))
        ends += content.read(_SAMPLED_BYTES)
    return f"{size} {hashlib.sha256(ends).hexdigest()}"


def has_labels(dataset: records.PreparedDataset, split: str) -> bool:
    """Whether the first image of a split has a label; -1 means none, as in TFDS."""
    shards = tf.data.TFRecordDataset(list(dataset.shards[split])).take(1)
    labels = [records.parse_example(record, dataset.keys)[1] for record in shards]
    return any(label >= 0 for label in labels)


def class_counts(dataset: records.PreparedDataset, split: str = "train") -> np.ndarray:
    """How many images of a split each class has: int64 (classes,).

    Reads labels only where the shards are local and their lengths are known, else every record.

    Raises:
      ValueError: the split is missing, a record is damaged, or a label is out of range.
    """
    dataset.require_split(split)
    files, lengths = dataset.shards[split], dataset.shard_counts.get(split, ())
    if "://" not in dataset.path and len(files) == len(lengths):
        try:
            labels = [
                record_places.locate(file, length, dataset.keys)[1]
                for file, length in zip(files, lengths, strict=True)
            ]
        except ValueError as error:
            raise _damaged(dataset, split, error) from error
    else:
        batches = tf.data.TFRecordDataset(list(files), num_parallel_reads=4).batch(256)
        parsed = batches.map(lambda batch: records.parse_example(batch, dataset.keys)[1])
        try:
            labels = list(with_options(parsed).as_numpy_iterator())
        except (tf.errors.DataLossError, tf.errors.InvalidArgumentError) as error:
            raise _damaged(dataset, split, error) from error
    every = np.concatenate(labels)
    for label in (every.min(), every.max()):
        dataset.class_name(int(label))  # raises for one that means no class
    return np.bincount(every, minlength=dataset.classes)


def _damaged(dataset, split: str, error: Exception) -> ValueError:
    said = str(getattr(error, "message", error)).splitlines()[0].rstrip(".")
    return ValueError(
        f"The {split} images of {dataset.path} cannot be counted ({said}): run "
        f"`python -m data_prep.verify --data_dir={dataset.path}`, or get the data again."
    )
