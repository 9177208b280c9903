"""The training step: compiled or not, on one replica or two, any number per call."""

import dataclasses
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import config as tf_config

from alexnet_tf.data.augmentation import Augmentation
from alexnet_tf.models import builder, catalog
from alexnet_tf.training import distributed_input, distribution, loop
from alexnet_tf.training.optimizers import PaperSGD
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
    if jit_compile:  # one replica's whole step, or once for each of several
        replicas = strategy.num_replicas_in_sync
        compiled = steps.update if replicas == 1 else steps.gradients
        assert compiled.experimental_get_tracing_count() == replicas
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


def _weights(workdir):
    model = keras.models.load_model(pathlib.Path(workdir) / "model.keras")
    return [np.asarray(weight) for weight in model.weights]


def test_a_compiled_run_goes_on_to_the_same_bits_and_compiles_once(
    photo_records, tmp_path, monkeypatch, capsys, stop_at
):
    made = []

    make = distribution.make_steps
    monkeypatch.setattr(
        distribution, "make_steps", lambda *given: made.append(make(*given)) or made[-1]
    )
    run = loop.Run(RECIPE, photo_records, str(tmp_path / "one"), seed=4, jit_compile="true")
    loop.train(run)
    (steps,) = made
    # Two epochs with an evaluation after each.
    assert steps.update.experimental_get_tracing_count() == 1
    assert steps.run.experimental_get_tracing_count() == 1
    assert capsys.readouterr().err.count("XLA compiles") == 1

    resumed = dataclasses.replace(run, workdir=str(tmp_path / "two"))
    stop = stop_at(3)
    with pytest.raises(loop.Interrupted):
        loop.train(resumed, callbacks=[stop])
    assert stop.seen == [1, 2, 3]
    loop.train(resumed)
    for one, two in zip(_weights(tmp_path / "one"), _weights(tmp_path / "two"), strict=True):
        np.testing.assert_array_equal(one, two)


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
