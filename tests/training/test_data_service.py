"""Training from a tf.data service: exact to the epoch, not to the step."""

import csv

import pytest
import tensorflow as tf

from alexnet_tf.training import loop
from alexnet_tf.training.recipes import Recipe

pytestmark = pytest.mark.slow


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
        checkpoint_every=loop.CheckpointEvery(steps=1),
        data_service=address,
    )
    with pytest.raises(loop.Interrupted, match=r"Stopped at step 15.*goes on from step 12"):
        loop.train(run, callbacks=[stop_at(15)])
    assert [path.name for path in (tmp_path / "checkpoints").glob("step-*")] == ["step-000000012"]
    assert loop.train(run)["steps"] == 36
    with open(tmp_path / "metrics.csv", encoding="utf-8") as file:
        assert [int(row["step"]) for row in csv.DictReader(file)] == [12, 24, 36]
