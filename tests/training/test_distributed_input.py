"""Batches on the devices; runs from a tf.data service resume at the end of an epoch."""

import csv

import pytest
import tensorflow as tf

from alexnet_tf.data import records
from alexnet_tf.data.augmentation import Augmentation
from alexnet_tf.data.pipeline import Schedule
from alexnet_tf.training import distributed_input, distribution, loop
from alexnet_tf.training.recipes import Recipe
from alexnet_tf.training.run import CheckpointEvery


def test_what_travels_to_the_devices_is_bytes_that_wait_there(photo_records):
    dataset = records.open_dataset(photo_records)
    augmentation = Augmentation(crop_size=224)
    for name, devices in (("mirrored", 2), ("towers", 2), ("none", None)):
        strategy = distribution.make_strategy(name, devices)
        schedule = Schedule(24, epochs=1, replicas=strategy.num_replicas_in_sync)
        feed = distributed_input.Feed(strategy, dataset, augmentation, schedule)
        batch = next(feed.of_epoch(0))
        copies = [batch]
        if name == "mirrored":
            parts = [strategy.experimental_local_results(x) for x in tf.nest.flatten(batch)]
            copies = list(zip(*parts, strict=True))
        elif name == "towers":
            copies = [strategy.on_device(batch, number) for number in range(2)]
        images = 24 // strategy.num_replicas_in_sync
        for number, copy in enumerate(copies):
            tensors = tf.nest.flatten(copy)
            sizes = [tensor.shape.num_elements() * tensor.dtype.size for tensor in tensors]
            # 256 x 256 x 3 pixels, a label, a corner, a mirror; as float32 crops it was 602,120.
            assert sum(sizes) == images * (256 * 256 * 3 + 8 + 2 * 4 + 1)
            assert tensors[0].dtype == tf.uint8
            if len(copies) == 2:
                assert {tensor.device[-1] for tensor in tensors} == {str(number)}


@pytest.fixture
def address():
    service = tf.data.experimental.service
    dispatcher = service.DispatchServer()
    place = dispatcher.target.split("://")[1]
    workers = [
        service.WorkerServer(service.WorkerConfig(dispatcher_address=place)) for _ in range(2)
    ]
    yield dispatcher.target
    del workers, dispatcher


@pytest.mark.slow
def test_training_from_a_service_goes_on_from_the_end_of_an_epoch(
    tiny_network, photo_records, tmp_path, address, stop_at
):
    recipe = Recipe(
        model="tiny",
        epochs=3,
        batch_size=8,
        initializer="he",
        mean="rgb",
        learning_rate=0.001,
        crop_size=35,
    )
    run = loop.Run(
        recipe,
        photo_records,
        str(tmp_path),
        checkpoint_every=CheckpointEvery(steps=1),
        data_service=address,
    )
    with pytest.raises(loop.Interrupted, match=r"Stopped at step 15.*goes on from step 12"):
        loop.train(run, callbacks=[stop_at(15)])
    assert [path.name for path in (tmp_path / "checkpoints").glob("step-*")] == ["step-000000012"]
    assert loop.train(run)["steps"] == 36
    with open(tmp_path / "metrics.csv", encoding="utf-8") as file:
        assert [int(row["step"]) for row in csv.DictReader(file)] == [12, 24, 36]
