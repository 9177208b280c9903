"""Is a prepared data set whole and right? Every check that `python -m data_prep.verify` makes."""

import array
import concurrent.futures
import dataclasses
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from alexnet_tf import files
from alexnet_tf.data import imagenet, records
from alexnet_tf.data.options import with_options
from data_prep import accounting, images, recount, runner

_SHOWN = 5  # examples per kind of problem


@dataclasses.dataclass
class ShardCheck:
    """What was found in one shard."""

    file: str
    problems: list[str]
    labels: Counter
    hashes: np.ndarray  # uint64, one per image, of its image bytes
    names: np.ndarray  # likewise `recount.name_hash`


def verify(
    data_dir: str,
    workers: int | None = None,
    progress: Callable | None = None,
    source: str | None = None,
) -> dict:
    """Checks every shard's sha256, counts, records, images and labels, and the files around.

    The manifest's account of the source is checked against the counts; with `source`, the source is
    counted again and every image of it looked for.

    Args:
      data_dir: what `python -m data_prep.convert` wrote.
      workers: processes; None takes one per core.
      progress: called with the number of images checked.
      source: what the data set was made from, or a copy; None if it is not at hand.

    Returns:
      {"data_dir", "problems": list of sentences, "counts", "classes", "repairs", "rejects",
      "duplicates": images stored twice within a split}.

    Raises:
      FileNotFoundError, ValueError: it is no prepared data set at all.
    """
    data_dir = data_dir.rstrip("/")
    manifest = _manifest(data_dir)
    problems = _check_metadata(data_dir, manifest)
    synsets = _synsets(data_dir, problems)
    settings = _format(data_dir)
    shards = manifest["shards"]
    checks = {}
    for check in _each_shard(data_dir, shards, (settings, synsets), workers):
        checks[check.file] = check
        if progress:
            progress(len(check.hashes))
    for shard in shards:
        problems += checks[shard["file"]].problems
    labels: dict[str, Counter] = {
        split: sum((checks[s["file"]].labels for s in shards if s["split"] == split), Counter())
        for split in manifest["counts"]
    }
    problems += _check_published(labels, synsets, manifest)
    hashes = {
        split: np.concatenate([checks[s["file"]].hashes for s in shards if s["split"] == split])
        for split in manifest["counts"]
    }
    problems += _check_shared(hashes)
    problems += accounting.problems(manifest)
    if source is not None:
        names = {
            split: np.concatenate([checks[s["file"]].names for s in shards if s["split"] == split])
            for split in manifest["counts"]
        }
        problems += recount.recount(data_dir, manifest, source, names)
    return {
        "data_dir": data_dir,
        "problems": problems,
        "counts": {split: len(found) for split, found in hashes.items()},
        "classes": len(synsets),
        "repairs": len(manifest["repairs"]),
        "rejects": len(manifest["rejects"]),
        "duplicates": {
            split: int(len(found) - len(np.unique(found))) for split, found in hashes.items()
        },
    }


def _manifest(data_dir):
    if not tf.io.gfile.isdir(data_dir):
        raise FileNotFoundError(
            f"There is no directory {data_dir}: name one that `python -m data_prep.convert` wrote."
        )
    path = os.path.join(data_dir, records.MANIFEST_FILE)
    if not tf.io.gfile.exists(path):
        raise FileNotFoundError(
            f"{path} is missing, so there is nothing to compare with: name a directory that "
            "`python -m data_prep.convert` wrote."
        )
    try:
        manifest = records.read_manifest(data_dir)
        for key in ("shards", "counts", "settings", "repairs", "rejects"):
            manifest[key]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is damaged ({error!r}): prepare the data again with "
            "`python -m data_prep.convert`."
        ) from None
    return manifest


def _check_metadata(data_dir, manifest):
    problems = []
    try:
        with tf.io.gfile.GFile(os.path.join(data_dir, "dataset_info.json"), "r") as file:
            info = json.loads(file.read())
        lengths = {
            split["name"]: [int(n) for n in split["shardLengths"]] for split in info["splits"]
        }
        for split in manifest["counts"]:
            expected = [s["count"] for s in manifest["shards"] if s["split"] == split]
            if lengths.get(split) != expected:
                problems.append(
                    f"dataset_info.json says that {split} has {sum(lengths.get(split, []))} "
                    f"images, manifest.json says {sum(expected)}."
                )
    except (OSError, tf.errors.OpError, ValueError, KeyError, TypeError) as error:
        problems.append(f"dataset_info.json cannot be read: {error}.")
    listed = {shard["file"] for shard in manifest["shards"]}
    for name in tf.io.gfile.listdir(data_dir):
        if ".tfrecord" in name and name not in listed:
            problems.append(f"{name} is not in manifest.json: it belongs to something else.")
    return problems + _check_statistics(data_dir, manifest)


def _check_statistics(data_dir, manifest):
    if "train" not in manifest["counts"]:
        return []
    try:
        path = os.path.join(data_dir, records.STATISTICS_FILE)
        with tf.io.gfile.GFile(path, "rb") as file, np.load(file) as arrays:
            count, mean, rgb = int(arrays["count"]), arrays["mean_image"], arrays["rgb_mean"]
    except (OSError, tf.errors.OpError, ValueError, KeyError) as error:
        return [f"statistics.npz cannot be read: {error}."]
    if count != manifest["counts"]["train"]:
        return [
            f"statistics.npz is about {count} images, training has {manifest['counts']['train']}."
        ]
    if not np.allclose(mean.mean(axis=(0, 1), dtype=np.float64), rgb, atol=1e-2):
        return ["statistics.npz disagrees with itself: the mean image's mean is not the RGB mean."]
    return []


def _synsets(data_dir, problems):
    path = os.path.join(data_dir, "label.labels.txt")
    try:
        with tf.io.gfile.GFile(path, "r") as file:
            return file.read().splitlines()
    except tf.errors.OpError:
        problems.append("label.labels.txt is missing: the classes have no names.")
        return []


def _format(data_dir):
    """The record format, read from features.json without opening the shards."""
    import tensorflow_datasets as tfds

    try:
        image = tfds.features.FeaturesDict.from_config(data_dir)["image"]
    except (OSError, tf.errors.OpError, ValueError, KeyError) as error:
        raise ValueError(
            f"{data_dir}/features.json cannot be read ({error}): prepare the data again with "
            "`python -m data_prep.convert`."
        ) from None
    encoding = "jpeg" if isinstance(image, tfds.features.Image) else "raw"
    return records.RecordFormat(image.shape[0], image.shape[2], encoding)


def _each_shard(data_dir, shards, what, workers):
    workers = workers or os.cpu_count() or 1
    if workers == 1 or len(shards) <= 1:
        for shard in shards:
            yield check_shard(data_dir, shard, what)
        return
    with concurrent.futures.ProcessPoolExecutor(workers, runner.worker_context()) as pool:
        waiting = [pool.submit(check_shard, data_dir, shard, what) for shard in shards]
        for future in concurrent.futures.as_completed(waiting):
            yield future.result()


def check_shard(data_dir: str, shard: dict, what) -> ShardCheck:
    """Reads one shard from end to end; `shard` is its entry in the manifest."""
    record_format, synsets = what
    path = os.path.join(data_dir, shard["file"])
    nothing = np.zeros(0, np.uint64)
    check = ShardCheck(shard["file"], [], Counter(), nothing, nothing)
    if not tf.io.gfile.exists(path):
        check.problems.append(f"{shard['file']} is missing.")
        return check
    size, sha256 = files.fingerprint(path)
    if size != shard["bytes"]:
        check.problems.append(
            f"{shard['file']} has {size} bytes, manifest.json says {shard['bytes']}."
        )
    elif sha256 != shard["sha256"]:
        check.problems.append(f"{shard['file']} was changed: its sha256 is not the manifest's.")
    hashes, names, count, bad = array.array("Q"), array.array("Q"), 0, []
    try:
        for record in with_options(tf.data.TFRecordDataset(path)).as_numpy_iterator():
            problem = _check_record(record, record_format, synsets, (check.labels, hashes, names))
            if problem:
                bad.append(f"{shard['file']} record {count} {problem}.")
            count += 1
    except tf.errors.OpError as error:
        check.problems.append(
            f"{shard['file']} cannot be read beyond record {count} ({type(error).__name__})."
        )
    else:
        if count != shard["count"]:
            check.problems.append(
                f"{shard['file']} has {count} records, manifest.json says {shard['count']}."
            )
    check.problems += bad[:_SHOWN]
    if len(bad) > _SHOWN:
        check.problems.append(f"{shard['file']} has {len(bad) - _SHOWN} more bad records.")
    if hashes:
        check.hashes, check.names = (np.frombuffer(each, np.uint64) for each in (hashes, names))
    return check


def _check_record(record, record_format, synsets, found):
    labels, hashes, names = found
    try:
        example = tf.train.Example.FromString(record).features.feature
        encoded = example["image"].bytes_list.value[0]
        label = example["label"].int64_list.value[0]
        synset, file_name = (
            example[key].bytes_list.value[0].decode("utf-8", "surrogateescape")
            for key in ("synset", "file_name")
        )
    except Exception as error:  # protobuf's own class of errors is private
        return f"is no record of this format ({type(error).__name__})"
    hashes.append(int.from_bytes(hashlib.blake2b(encoded, digest_size=8).digest(), "big"))
    names.append(recount.name_hash(synset, file_name))
    if not 0 <= label < len(synsets):
        return f"has the label {label}, expected 0..{len(synsets) - 1}"
    if synsets[label] != synset:
        return f"has the label {label}, which is {synsets[label]}, but the synset {synset}"
    labels[label] += 1
    return _check_image(encoded, record_format)


def _check_image(encoded, record_format):
    if record_format.encoding == "raw":
        expected = int(np.prod(record_format.shape))
        if len(encoded) != expected:
            return f"has {len(encoded)} bytes of pixels, expected {expected}"
        return None
    try:
        conversion = images.Conversion(channels=record_format.channels)
        pixels, _ = images.decode(encoded, conversion)
    except images.BadImage as error:
        return f"cannot be decoded: {error}"
    if pixels.shape != record_format.shape:
        return f"is an image of {pixels.shape}, expected {record_format.shape}"
    return None


def _check_published(labels, synsets, manifest):
    if len(synsets) != imagenet.CLASSES:
        return []
    years = {challenge.first_synset: challenge for challenge in imagenet.CHALLENGES}
    published = years.get(synsets[0])
    if published is None:
        return []
    problems = []
    rejected = len(manifest["rejects"])
    for split, found in labels.items():
        expected, count = getattr(published, split), sum(found.values())
        if not expected - rejected <= count <= expected:
            problems.append(
                f"{split} has {count} images, {published.name} has {expected} "
                f"({rejected} were left out in preparation)."
            )
        each = published.train_per_class
        if split != "train":
            each = (expected // imagenet.CLASSES, expected // imagenet.CLASSES)
        for label in range(imagenet.CLASSES):
            if not each[0] - rejected <= found[label] <= each[1]:
                problems.append(
                    f"{split} has {found[label]} images of {synsets[label]}, {published.name} "
                    f"has {each[0]} to {each[1]} of each class."
                )
                break
    return problems


def _check_shared(hashes):
    problems = []
    splits = list(hashes)
    for i, first in enumerate(splits):
        for second in splits[i + 1 :]:
            shared = np.intersect1d(hashes[first], hashes[second])
            if len(shared):
                problems.append(f"{len(shared)} images are both in {first} and in {second}.")
    return problems
