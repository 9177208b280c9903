"""A tf.data service on localhost (a dispatcher, two workers) gives the very batches of the local
pipeline, in any order."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.data import service
from alexnet_tf.data.pipeline import Augmentation, Schedule, training_inputs
from alexnet_tf.data.preprocessing import ColourNoise
from alexnet_tf.data.records import RecordFormat, encode_example, open_dataset
from alexnet_tf.training import distributed_input


@pytest.fixture(scope="module")
def address():
    data_service = tf.data.experimental.service
    dispatcher = data_service.DispatchServer()
    place = dispatcher.target.split("://")[1]
    workers = [
        data_service.WorkerServer(data_service.WorkerConfig(dispatcher_address=place))
        for _ in range(2)
    ]
    yield dispatcher.target
    del workers, dispatcher


@pytest.fixture(scope="module")
def dataset(photo_records):
    return open_dataset(photo_records)


@pytest.fixture(scope="module")
def augmentation(dataset):
    statistics = dataset.statistics()
    noise = ColourNoise.from_statistics(statistics, "source", statistics["rgb_mean"])
    return Augmentation(crop_size=64, noise=noise)


def _contents(batches):
    """Each element's bytes: images, labels and draws."""
    return [
        b"".join(values.tobytes() for values in tf.nest.flatten(batch))
        for batch in batches.as_numpy_iterator()
    ]


@pytest.mark.parametrize(
    "schedule",
    [
        Schedule(batch_size=8, epochs=2, seed=5, first_step=12),
        # The rest of an epoch that was begun without the service.
        Schedule(batch_size=8, epochs=2, seed=5, first_step=19),
        # The second of two training workers: its share of each batch.
        Schedule(batch_size=8, epochs=2, seed=5, first_step=12, replicas=2, workers=2, worker=1),
    ],
)
def test_the_service_gives_the_same_batches_in_any_order(dataset, augmentation, schedule, address):
    local = _contents(training_inputs(dataset, augmentation, schedule))
    remote = _contents(
        service.epoch_from_service(dataset, augmentation, schedule, epoch=1, address=address)
    )
    assert len(local) == 24 - schedule.first_step
    assert sorted(remote) == sorted(local)


def test_raw_records_come_through_the_service(dataset, augmentation, address, tmp_path):
    """There they are read as records; here by their place in the shard."""
    shard = tmp_path / "raw"
    random = np.random.default_rng(0)
    with tf.io.TFRecordWriter(str(shard)) as writer:
        for label in range(96):
            content = random.integers(0, 256, (80, 80, 3), np.uint8).tobytes()
            writer.write(encode_example(content, label, "f", "s"))
    raw = dataclasses.replace(
        dataset,
        format=RecordFormat(80, 3, "raw"),
        shards={"train": (str(shard),)},
        shard_counts={"train": (96,)},
    )
    schedule = Schedule(batch_size=8, epochs=1, seed=5)
    local = _contents(training_inputs(raw, augmentation, schedule))
    remote = _contents(
        service.epoch_from_service(raw, augmentation, schedule, epoch=0, address=address)
    )
    assert len(set(local)) == 12
    assert sorted(remote) == sorted(local)


def test_two_replicas_get_halves_of_one_global_batch(dataset, augmentation, address):
    whole = Schedule(batch_size=8, epochs=1, seed=5)
    split = Schedule(batch_size=8, epochs=1, seed=5, replicas=2)
    batches = training_inputs(dataset, augmentation, whole).as_numpy_iterator()
    expected = {images.tobytes() + draws["crop"].tobytes() for images, _, draws in batches}
    halves = list(
        service.epoch_from_service(
            dataset, augmentation, split, epoch=0, address=address
        ).as_numpy_iterator()
    )
    assert [images.shape for images, _, _ in halves] == [(4, 256, 256, 3)] * 24
    joined = {
        np.concatenate([one[0], two[0]]).tobytes()
        + np.concatenate([one[2]["crop"], two[2]["crop"]]).tobytes()
        for one, two in zip(halves[::2], halves[1::2], strict=True)
    }
    assert joined == expected


def test_an_epoch_that_comes_short_is_an_error(dataset, augmentation, address):
    strategy = tf.distribute.get_strategy()
    schedule = Schedule(batch_size=8, epochs=2, seed=5, first_step=22)
    feed = distributed_input.Feed(strategy, dataset, augmentation, schedule, address)
    take = tf.function(lambda batches: next(batches)[1])
    batches = feed.of_epoch(1)
    for _ in range(2):  # the rest of the second epoch's 12
        take(batches)
    message = r"fewer batches than epoch 2 has: it lost a worker"
    with pytest.raises(OSError, match=message), feed.explained(1):
        take(batches)
