"""The training pipeline: the same bits for the same image, wherever and whenever it is read."""

import collections
import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.data import records
from alexnet_tf.data.pipeline import (
    Augmentation,
    Schedule,
    epoch_rows,
    steps_per_epoch,
    training_batches,
)

NOISY = "source"


def test_shapes_types_and_range(dataset):
    augmentation = Augmentation(crop_size=224)
    images, labels = next(
        iter(training_batches(dataset, augmentation, Schedule(batch_size=32, epochs=1)))
    )
    assert images.shape == (32, 224, 224, 3) and images.dtype == tf.float32
    assert labels.shape == (32,) and labels.dtype == tf.int64
    assert float(tf.reduce_min(images)) >= 0 and float(tf.reduce_max(images)) <= 255


def test_every_image_once_per_epoch_in_another_order(dataset, read_run, stored_images):
    augmentation = Augmentation(crop_size=256, mirror=False)
    images, _ = read_run(dataset, augmentation, Schedule(batch_size=32, epochs=2))
    stored = collections.Counter(image.tobytes() for image, _ in stored_images)
    epochs = [images[:96].astype(np.uint8), images[96:].astype(np.uint8)]
    for epoch in epochs:
        assert collections.Counter(image.tobytes() for image in epoch) == stored
    assert (epochs[0] != epochs[1]).any()


@pytest.mark.parametrize("changes", [{"replicas": 2}, {"replicas": 4}])
def test_replicas_share_the_same_global_batches(dataset, changes, noise, read_run):
    augmentation = Augmentation(noise=noise(NOISY))
    schedule = Schedule(batch_size=32, epochs=2, seed=3)
    images, labels = read_run(dataset, augmentation, schedule)
    split_images, split_labels = read_run(
        dataset, augmentation, dataclasses.replace(schedule, **changes)
    )
    np.testing.assert_array_equal(images, split_images)
    np.testing.assert_array_equal(labels, split_labels)


def test_workers_read_their_part_of_each_global_batch(dataset, noise, read_run):
    augmentation = Augmentation(noise=noise(NOISY))
    whole = Schedule(batch_size=32, epochs=2, seed=3)
    images, _ = read_run(dataset, augmentation, whole)
    for worker in range(2):
        part = dataclasses.replace(whole, replicas=2, workers=2, worker=worker)
        got, _ = read_run(dataset, augmentation, part)
        expected = images.reshape(-1, 2, 16, *images.shape[1:])[:, worker]
        np.testing.assert_array_equal(got, expected.reshape(got.shape))


@pytest.mark.parametrize("first_step", [1, 2, 3, 5])
def test_a_run_goes_on_at_any_step(dataset, first_step, noise, read_run):
    augmentation = Augmentation(noise=noise(NOISY), noise_epochs=1)
    schedule = Schedule(batch_size=32, epochs=2, seed=5)
    images, _ = read_run(dataset, augmentation, schedule)
    rest, _ = read_run(dataset, augmentation, dataclasses.replace(schedule, first_step=first_step))
    np.testing.assert_array_equal(images[first_step * 32 :], rest)


def test_the_global_seed_changes_nothing(dataset, read_run):
    schedule = Schedule(batch_size=32, epochs=1)
    tf.random.set_seed(0)
    first, _ = read_run(dataset, Augmentation(), schedule)
    tf.random.set_seed(99)
    second, _ = read_run(dataset, Augmentation(), schedule)
    np.testing.assert_array_equal(first, second)


def test_seeds_differ(dataset, read_run):
    runs = [read_run(dataset, Augmentation(), Schedule(32, 1, seed=seed))[0] for seed in (0, 1)]
    assert (runs[0] != runs[1]).mean() > 0.9


def test_raw_records_give_the_same_pipeline(dataset, tmp_path, read_run, stored_images):
    """Raw records hold the decoded pixels; the crops must be the JPEG's pixels at that place."""
    raw = _raw(dataset, stored_images, tmp_path / "raw", size=256)
    images, _ = read_run(raw, Augmentation(crop_size=256, mirror=False), Schedule(32, 1))
    stored = collections.Counter(image.tobytes() for image, _ in stored_images)
    assert collections.Counter(i.tobytes() for i in images.astype(np.uint8)) == stored


def _raw(dataset, images, folder, size):
    """The same training images as raw records of their central `size` pixels, in three shards."""
    low = (256 - size) // 2
    files, counts = [], (40, 7, 49)
    folder.mkdir()
    for number, (pixels, label) in enumerate(images):
        if number in np.cumsum((0, *counts)):
            files.append(str(folder / f"shard-{len(files)}"))
            writer = tf.io.TFRecordWriter(files[-1])
        content = pixels[low : low + size, low : low + size].tobytes()
        # File names of several lengths: the pixels begin at another byte in each record.
        writer.write(records.encode_example(content, label, "f" * (number % 7), "s"))
        writer.flush()
    return dataclasses.replace(
        dataset,
        format=records.RecordFormat(size, 3, "raw"),
        shards={"train": tuple(files)},
        shard_counts={"train": counts},
    )


@pytest.mark.parametrize("border", [0, 3])
def test_raw_batches_are_what_numpy_makes_of_each_image(
    dataset, tmp_path, border, noise, read_run, stored_images
):
    """Images are read by position; here every one is cut out of protobuf's bytes."""
    raw = _raw(dataset, stored_images, tmp_path / "raw", size=64)
    own = noise(NOISY)
    augmentation = Augmentation(crop_size=60, border=border, noise=own, noise_epochs=1)
    schedule = Schedule(batch_size=16, epochs=2, seed=4)
    expected, truths = [], []
    for epoch in range(2):
        rows = epoch_rows(raw, augmentation, schedule)(tf.constant(epoch, tf.int64))
        for serialized, draws in rows.as_numpy_iterator():
            features = tf.train.Example.FromString(serialized).features.feature
            (content,), (label,) = (
                features["image"].bytes_list.value,
                features["label"].int64_list.value,
            )
            original = np.frombuffer(content, np.uint8).reshape(64, 64, 3)
            original = np.pad(original, [(border, border), (border, border), (0, 0)])
            top, left = draws["crop"]
            view = original[top : top + 60, left : left + 60].astype(np.float32)
            view = view[:, ::-1] if draws["mirror"] else view
            shifted = view + draws["shift"]
            expected.append(own.mean + (shifted - own.mean) / draws["divisor"])
            truths.append(label)
    images, labels = read_run(raw, augmentation, schedule)
    assert images.dtype == expected[0].dtype == np.float32
    np.testing.assert_array_equal(labels, truths)
    np.testing.assert_allclose(images[:96], np.stack(expected[:96]), rtol=0, atol=1e-4)
    np.testing.assert_array_equal(images[96:], np.stack(expected[96:]))  # without noise
    crops = {image.tobytes() for image in images}
    assert len(crops) > 150  # the two epochs and their draws differ


@pytest.mark.parametrize(
    "changes",
    [{}, {"first_step": 4}, {"replicas": 2}, {"replicas": 2, "workers": 2, "worker": 1}],
)
@pytest.mark.parametrize("located", [True, False])
@pytest.mark.parametrize("encoding", ["jpeg", "raw"])
def test_records_resume_and_split_to_the_same_bits(
    dataset, tmp_path, changes, encoding, located, noise, read_run, stored_images
):
    """Also between records read by position, as from a disk, and streamed, as from a network."""
    stored = (
        dataset if encoding == "jpeg" else _raw(dataset, stored_images, tmp_path / "raw", size=64)
    )
    augmentation = Augmentation(crop_size=60, noise=noise(NOISY))
    schedule = Schedule(batch_size=16, epochs=2, seed=4)
    images, _ = read_run(stored, augmentation, schedule)
    stored = stored if located else dataclasses.replace(stored, shard_counts={})
    got, _ = read_run(stored, augmentation, dataclasses.replace(schedule, **changes))
    expected = images[changes.get("first_step", 0) * 16 :]
    if "worker" in changes:
        expected = expected.reshape(-1, 2, 8, *images.shape[1:])[:, 1].reshape(got.shape)
    np.testing.assert_array_equal(got, expected)


def test_bad_requests_are_refused_in_a_sentence(dataset, noise):
    with pytest.raises(ValueError, match=r"31 cannot be split over 2 replicas"):
        Schedule(batch_size=31, epochs=1, replicas=2)
    with pytest.raises(ValueError, match=r"96 train images, fewer than the batch size 128"):
        steps_per_epoch(dataset, 128)
    with pytest.raises(ValueError, match=r"takes 300 pixels.*stores 256"):
        training_batches(dataset, Augmentation(crop_size=300), Schedule(32, 1))
    untrained = dataclasses.replace(dataset, counts={"test": 5})
    with pytest.raises(ValueError, match=r"no split 'train'.*test \(5\)"):
        steps_per_epoch(untrained, 32)
    with pytest.raises(ValueError, match="'paper' or 'source', not 'strong'"):
        noise("strong")


def test_deterministic_operations_do_not_stop_reading_ahead(photo_records):
    """As in `train`: tf.data runs what has a stateful operation one by one then."""
    program = f"""
import dataclasses, threading, time
import tensorflow as tf
from alexnet_tf.data import pipeline, records

tf.config.experimental.enable_op_determinism()
lock = threading.Lock()

def slowly(value):
    global running, most, calls
    with lock:
        running, calls = running + 1, calls + 1
        most = max(most, running)
    time.sleep(0.02)
    with lock:
        running -= 1
    return value

class Slow(pipeline.LocatedRecords):
    def _read(self, *given):
        slowly(0)
        return super()._read(*given)

def stored_image(encoded, form, original=pipeline.stored_image):
    return original(tf.numpy_function(slowly, [encoded], tf.string, stateful=False), form)

pipeline.LocatedRecords, pipeline.stored_image = Slow, stored_image
pipeline.usable_processors = lambda: 4
stored = records.open_dataset({photo_records!r})
# Records of known places are read in one call for a batch, those of a stream in one for each.
for dataset, for_a_batch in ((stored, 1), (dataclasses.replace(stored, shard_counts={{}}), 4)):
    running, most, calls = 0, 0, 0
    batches = pipeline.training_batches(
        dataset, pipeline.Augmentation(crop_size=64), pipeline.Schedule(4, epochs=50)
    )
    iterator = iter(batches)
    next(iterator)
    deadline = time.monotonic() + 20
    while (most == 1 or calls <= 2 * for_a_batch) and time.monotonic() < deadline:
        time.sleep(0.05)
    print(most, calls, for_a_batch)
    del iterator
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    for line in lines:
        at_a_time, calls, for_a_batch = map(int, line.split())
        assert at_a_time > 1 and calls > 2 * for_a_batch, line
