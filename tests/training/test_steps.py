"""The training step: compiled or not, on one replica or two, in calls of any length."""

import dataclasses
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import config as tf_config

from alexnet_tf.data import records
from alexnet_tf.data.augmentation import Augmentation
from alexnet_tf.data.pipeline import Schedule
from alexnet_tf.models import builder, catalog, compilation, layers
from alexnet_tf.training import distributed_input, distribution, loop
from alexnet_tf.training.debugging import numerics_checked
from alexnet_tf.training.optimizers import PaperSGD
from alexnet_tf.training.pace import Pace
from alexnet_tf.training.recipes import Recipe
from alexnet_tf.training.step import ReplicaSteps, cross_entropy, wrong_counts

BATCH, STEPS = 8, 4
NOTHING = tf.constant(0.0)
RECIPE = Recipe(
    model="tiny",
    epochs=2,
    batch_size=24,
    crop_size=35,
    initializer="he",
    schedule="steps",
    learning_rate=1e-4,
    colour_noise="source",
    mean="rgb",
)


@pytest.fixture(autouse=True)
def deterministic(tiny_network):
    """As `train` runs by default: there XLA refuses more than elsewhere."""
    tf.config.experimental.enable_op_determinism()
    yield
    tf_config.disable_op_determinism()


def _trained(strategy, jit_compile, calls):
    """(losses of each step, weights) after calls of these many steps; all randomness is on."""
    with strategy.scope():
        keras.utils.set_random_seed(1)
        model = builder.build(
            catalog.find_variant("tiny"), classes=10, initializer="he", dropout_seed=3
        )
        optimizer = PaperSGD(1e-3)
        optimizer.build(model.trainable_variables)
    augment = Augmentation(crop_size=35).compiled
    steps = ReplicaSteps(strategy, model, optimizer, BATCH, augment, jit_compile=jit_compile)
    rng = np.random.default_rng(0)
    count = BATCH * STEPS
    data = (
        rng.integers(0, 256, (count, 48, 48, 3), np.uint8),
        rng.integers(0, 10, count),
        {
            "crop": rng.integers(0, 14, (count, 2), np.int32),
            "mirror": rng.integers(0, 2, count).astype(bool),
        },
    )
    share = BATCH // strategy.num_replicas_in_sync
    batches = distributed_input.dealt(
        strategy, lambda context: tf.data.Dataset.from_tensor_slices(data).batch(share, True)
    )
    losses = [steps.run(batches, tf.constant(call), NOTHING)["loss"].numpy() for call in calls]
    assert steps.run.experimental_get_tracing_count() == 1
    if jit_compile:  # once for each replica
        traced = steps.gradients.experimental_get_tracing_count()
        assert traced == strategy.num_replicas_in_sync
    return np.concatenate(losses), [np.asarray(weight) for weight in model.weights]


def test_compiled_and_plain_steps_on_one_replica_and_two_are_the_same_training():
    one, two = distribution.make_strategy("none"), distribution.make_strategy("mirrored", 2)
    losses, weights = _trained(one, False, [STEPS])
    assert np.ptp(losses) > 0
    for strategy, jit_compile in ((one, True), (two, False), (two, True)):
        found, others = _trained(strategy, jit_compile, [STEPS])
        np.testing.assert_allclose(found, losses, rtol=1e-6)
        for weight, other in zip(weights, others, strict=True):
            np.testing.assert_allclose(other, weight, rtol=0, atol=1e-6)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_how_many_steps_a_call_has_changes_no_bit(jit_compile):
    strategy = distribution.make_strategy("none")
    losses, weights = _trained(strategy, jit_compile, [STEPS])
    for calls in ([1] * STEPS, [3, 1]):
        found, others = _trained(strategy, jit_compile, calls)
        np.testing.assert_array_equal(found, losses)
        for weight, other in zip(weights, others, strict=True):
            np.testing.assert_array_equal(other, weight)


def test_what_travels_to_the_devices_is_bytes_that_wait_there(photo_records):
    dataset = records.open_dataset(photo_records)
    augmentation = loop.Augmentation(crop_size=224)
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


def _weights(workdir):
    model = keras.models.load_model(pathlib.Path(workdir) / "model.keras")
    return [np.asarray(weight) for weight in model.weights]


def test_a_compiled_run_goes_on_to_the_same_bits_and_compiles_once(
    photo_records, tmp_path, monkeypatch, capsys, stop_at
):
    made = []

    class Recorded(ReplicaSteps):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            made.append(self)

    monkeypatch.setattr(loop, "ReplicaSteps", Recorded)
    run = loop.Run(RECIPE, photo_records, str(tmp_path / "one"), seed=4, jit_compile="true")
    loop.train(run)
    (steps,) = made
    # Two epochs with an evaluation after each.
    assert steps.gradients.experimental_get_tracing_count() == 1
    assert steps.run.experimental_get_tracing_count() == 1
    assert capsys.readouterr().err.count("XLA compiles") == 1

    resumed = dataclasses.replace(run, workdir=str(tmp_path / "two"))
    stop = stop_at(3)
    with pytest.raises(loop.Interrupted):
        loop.train(resumed, callbacks=[stop])
    assert stop.told == [1, 2, 3]
    loop.train(resumed)
    for one, two in zip(_weights(tmp_path / "one"), _weights(tmp_path / "two"), strict=True):
        np.testing.assert_array_equal(one, two)


def test_debugging_numerics_compiles_nothing(photo_records, tmp_path):
    broken = dataclasses.replace(RECIPE, learning_rate=1e30, epochs=1)
    run = loop.Run(broken, photo_records, str(tmp_path), jit_compile="true", debug_numerics=True)
    with pytest.raises(loop.Diverged, match="Infinity or NaN") as stopped:
        loop.train(run)
    assert 'op "Const"' not in str(stopped.value)


def test_a_healthy_run_passes_checked_numerics(photo_records, tmp_path):
    recipe = dataclasses.replace(RECIPE, epochs=1)
    results = loop.train(loop.Run(recipe, photo_records, str(tmp_path), debug_numerics=True))
    assert results["steps"] == 4
    with numerics_checked():
        pooled = tf.function(layers.CeilMaxPooling2D(3, 2))(tf.ones((1, 14, 14, 2)))
    assert pooled.shape == (1, 7, 7, 2)


def test_when_compiling_is_worth_it():
    cpu = distribution.make_strategy("none")
    assert compilation.is_worthwhile("true", cpu, 1)
    assert not compilation.is_worthwhile("false", cpu, 10**9)
    if not tf.config.list_physical_devices("GPU"):
        assert not compilation.is_worthwhile("auto", cpu, 10**9)
    with pytest.raises(ValueError, match="expected one of auto, true, false"):
        compilation.is_worthwhile("yes", cpu, 1)


def test_towers_refuse_to_be_compiled(photo_records, tmp_path, monkeypatch):
    strategy = distribution.make_strategy("towers", 2)
    run = loop.Run(RECIPE, photo_records, str(tmp_path), jit_compile="true")
    with pytest.raises(ValueError, match="needs another strategy than towers"):
        loop.train(run, strategy)


def test_a_call_lasts_a_fifth_of_a_second():
    pace = Pace(tf.distribute.get_strategy())
    assert pace.steps() == 1
    for expected in (2, 4, 8, 16, 20, 20):  # steps of 10 ms
        pace.measured(10, 0.1)
        assert pace.steps() == expected
    for _ in range(3):
        pace.measured(3, 15.0)
    assert pace.steps() == 1
    # Where calls return at their end, the time is that of the call after the one looked at.
    before, found = 1, []
    for _ in range(40):
        now = pace.steps()
        pace.measured(before, now * 0.01)
        before = now
        found.append(now)
    assert min(found[20:]) >= 15 and max(found[20:]) <= 25
    one_by_one = Pace(tf.distribute.get_strategy(), one_by_one=True)
    one_by_one.measured(100, 0.1)
    assert one_by_one.steps() == 1


def test_the_loss_is_that_of_the_published_formula():
    rng = np.random.default_rng(1)
    logits, labels = rng.normal(0, 20, (50, 7)), rng.integers(0, 7, 50)
    with tf.GradientTape() as tape:
        given = tf.constant(logits, tf.float32)
        tape.watch(given)
        losses = cross_entropy(tf.constant(labels), given)
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    softmax = shifted / shifted.sum(axis=1, keepdims=True)
    rows = np.arange(50)
    np.testing.assert_allclose(losses, -np.log(softmax[rows, labels]), rtol=1e-5, atol=1e-5)
    softmax[rows, labels] -= 1
    np.testing.assert_allclose(tape.gradient(losses, given), softmax, atol=1e-6)
    no_class = cross_entropy(tf.constant([-1, 7, 0]), tf.zeros((3, 7))).numpy()
    assert np.isnan(no_class[:2]).all() and no_class[2] == pytest.approx(np.log(7))


def test_wrong_counts_are_those_of_a_sort():
    """Ties go to the lower number, as in `evaluation.score`."""
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 6, (200, 12)).astype(np.float32)
    labels = rng.integers(0, 12, 200)
    order = np.argsort(-scores, axis=1, kind="stable")
    ranks = (order == labels[:, None]).argmax(axis=1)
    found = wrong_counts(tf.constant(labels), tf.constant(scores))
    assert [float(count) for count in found] == [np.sum(ranks >= 1), np.sum(ranks >= 5)]
