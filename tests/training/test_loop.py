"""A run gives the same weights on one device and on two, uninterrupted and resumed.

The network is AlexNet itself on small crops (67 pixels is the least it can take), with dropout,
mirrors and colour noise on.
"""

import csv
import dataclasses
import pathlib

import keras
import numpy as np
import pytest

from alexnet_tf.training import distribution, loop
from alexnet_tf.training.errors import Diverged
from alexnet_tf.training.initialization import make_network
from alexnet_tf.training.recipes import RECIPES, Recipe
from alexnet_tf.training.run import CheckpointEvery
from alexnet_tf.training.schedules import plateau_rate

RECIPE = Recipe(
    epochs=2,
    batch_size=24,
    crop_size=67,
    initializer="he",
    schedule="steps",
    # Small: ReLU and max-pool flip on differences of 1e-7, and a larger rate lets those grow within
    # a few steps into differences that say nothing about the strategies (at 2e-5 one seed of four
    # had updates 0.3 % apart, at 2e-6 none of three more than 0.03 %).
    learning_rate=2e-6,
    rate_steps=((1, 1e-6),),
    colour_noise="source",
    mean="image",
)


def _weights(workdir):
    model = keras.models.load_model(pathlib.Path(workdir) / "model.keras")
    return {v.path: np.asarray(v) for v in model.weights}


def _rows(workdir):
    with open(pathlib.Path(workdir) / "metrics.csv", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def straight(photo_records, tmp_path_factory):
    """A run without interruption on one device."""
    workdir = tmp_path_factory.mktemp("straight")
    loop.train(loop.Run(RECIPE, photo_records, str(workdir), seed=4))
    return workdir


def test_two_replicas_give_the_losses_and_weights_of_one(straight, photo_records, tmp_path):
    strategy = distribution.make_strategy("mirrored", 2)
    assert strategy.num_replicas_in_sync == 2
    loop.train(loop.Run(RECIPE, photo_records, str(tmp_path), seed=4), strategy)
    for one, two in zip(_rows(straight), _rows(tmp_path), strict=True):
        for name in ("loss", "validation_loss"):
            assert float(one[name]) == pytest.approx(float(two[name]), rel=1e-5), name
    ends = [_weights(straight), _weights(tmp_path)]
    start = make_network(RECIPE, 14, 3, np.zeros(3, np.float32), seed=4)
    for path, initial in ((v.path, np.asarray(v)) for v in start.weights):
        moved = [weights[path] - initial for weights in ends]
        apart = np.linalg.norm(moved[0] - moved[1]) / np.linalg.norm(moved[0])
        assert apart < 1e-3, f"the updates of {path} differ by {apart:.2%}"


def test_the_papers_schedule_under_a_strategy(photo_records, tmp_path):
    """Its rate is a variable that the replicas share."""
    recipe = dataclasses.replace(
        RECIPES["cifarnet"], schedule="plateau", rate_steps=(), patience=1, epochs=3, batch_size=48
    )
    recipe = dataclasses.replace(recipe, crop_size=24)
    strategy = distribution.make_strategy("mirrored", 2)
    loop.train(loop.Run(recipe, photo_records, str(tmp_path)), strategy)
    rows = _rows(tmp_path)
    errors = [float(row["validation_top1_error"]) for row in rows]
    wanted = [plateau_rate(recipe, errors[:epoch]) for epoch in range(3)]
    assert [float(row["learning_rate"]) for row in rows] == pytest.approx(wanted)


@pytest.mark.parametrize("step", [3, 6])
def test_a_stopped_run_ends_in_the_same_bits(straight, photo_records, tmp_path, step, stop_at):
    run = loop.Run(RECIPE, photo_records, str(tmp_path), seed=4)
    with pytest.raises(loop.Interrupted, match=rf"step {step}.*goes on from there"):
        loop.train(run, callbacks=[stop_at(step)])
    assert not (tmp_path / "model.keras").exists()
    loop.train(run)
    one, two = _weights(straight), _weights(tmp_path)
    for path in one:
        np.testing.assert_array_equal(one[path], two[path], err_msg=path)
    assert _without_times(_rows(straight)) == _without_times(_rows(tmp_path))


def _without_times(rows):
    return [{k: v for k, v in row.items() if "second" not in k} for row in rows]


def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    straight, photo_records, tmp_path, capsys, stop_at
):
    every = CheckpointEvery(steps=1)
    run = loop.Run(RECIPE, photo_records, str(tmp_path), seed=4, checkpoint_every=every)
    with pytest.raises(loop.Interrupted):
        loop.train(run, callbacks=[stop_at(6)])
    (tmp_path / "checkpoints" / "best").unlink()  # as a kill right before it is written leaves it
    newest = tmp_path / "checkpoints" / "step-000000006" / "state.data-00000-of-00001"
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    loop.train(run)
    assert "step-000000006 is damaged" in capsys.readouterr().err
    best = [run / "checkpoints" / "best" for run in (straight, tmp_path)]
    assert best[0].read_text() == best[1].read_text()
    one, two = _weights(straight), _weights(tmp_path)
    assert all((one[path] == two[path]).all() for path in one)


def test_other_settings_are_refused(straight, photo_records):
    changed = dataclasses.replace(RECIPE, learning_rate=0.02)
    with pytest.raises(ValueError, match=r"learning_rate was 2e-06 and is 0.02.*--workdir"):
        loop.train(loop.Run(changed, photo_records, str(straight), seed=4))


def test_a_checkpoint_of_another_model_is_refused(straight, photo_records):
    changed = dataclasses.replace(RECIPE, model="caffenet")
    with pytest.raises(ValueError, match=r"checkpoint of alexnet, but the run trains caffenet"):
        loop.train(loop.Run(changed, photo_records, str(straight), seed=4))


def test_divergence_keeps_the_last_good_checkpoint(photo_records, tmp_path):
    wild = dataclasses.replace(RECIPE, learning_rate=1e18, epochs=3)
    with pytest.raises(Diverged, match=r"diverged\. No checkpoint had been.*learning_rate"):
        loop.train(loop.Run(wild, photo_records, str(tmp_path)))
    assert not (tmp_path / "model.keras").exists()
    assert not list((tmp_path / "checkpoints").glob(".writing*"))
