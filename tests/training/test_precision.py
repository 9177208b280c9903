"""Mixed precision learns as float32 does, with float32 weights, and float16 survives overflow."""

import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.data.augmentation import Augmentation
from alexnet_tf.training import distribution
from alexnet_tf.training.initialization import make_network
from alexnet_tf.training.optimizers import PaperSGD, SharedLossScale
from alexnet_tf.training.recipes import Recipe
from alexnet_tf.training.step import ReplicaSteps

BATCH = 16


pytestmark = pytest.mark.usefixtures("tiny_network")


@pytest.fixture(scope="module")
def batch():
    """Bright and dark images in four classes, easy to learn."""
    rng = np.random.default_rng(0)
    labels = np.arange(BATCH) % 4
    images = rng.uniform(0, 60, (BATCH, 35, 35, 3)) + 60 * labels[:, None, None, None]
    return images.astype(np.float32), labels.astype(np.int64)


def _training(precision, strategy=None, initial_scale=2.0**15, jit_compile=False):
    strategy = strategy or tf.distribute.get_strategy()
    recipe = Recipe(model="tiny", precision=precision, initializer="he", dropout=0.1)
    with strategy.scope():
        model = make_network(recipe, 4, 3, np.full(3, 128, np.float32), seed=1)
        optimizer = PaperSGD(learning_rate=0.01)
        if precision == "mixed_float16":
            optimizer = SharedLossScale(optimizer, initial_scale=initial_scale)
        optimizer.build(model.trainable_variables)
    still = Augmentation(crop_size=35, mirror=False)
    steps = ReplicaSteps(strategy, model, optimizer, BATCH, still.compiled, jit_compile=jit_compile)
    return model, optimizer, lambda batch: steps.step((*batch, {}), tf.constant(0.0))


def _halves(strategy, *arrays):
    """Half of the batch for each of two replicas."""

    def of_replica(context):
        start = 8 * context.replica_id_in_sync_group
        return tuple(tf.constant(array[start : start + 8]) for array in arrays)

    return strategy.experimental_distribute_values_from_function(of_replica)


def _values(variables):
    return [np.asarray(variable) for variable in variables]


def _scale(optimizer):
    return float(np.asarray(optimizer.dynamic_scale))


def test_mixed_precision_learns_as_float32_does(batch):
    curves = {}
    for precision in ("float32", "mixed_bfloat16", "mixed_float16"):
        model, _, step = _training(precision)
        losses = [float(step(batch)["loss"]) / BATCH for _ in range(40)]
        assert losses[-1] < 0.6 * losses[0], (precision, losses)
        assert {variable.dtype for variable in model.weights} == {"float32"}
        compute = {"mixed_bfloat16": "bfloat16", "mixed_float16": "float16"}
        assert model.get_layer("fc6").compute_dtype == compute.get(precision, "float32")
        curves[precision] = losses
    # 8 and 11 bits of mantissa; before the first update nothing has added up.
    assert curves["mixed_bfloat16"][0] == pytest.approx(curves["float32"][0], rel=0.03)
    assert curves["mixed_float16"][0] == pytest.approx(curves["float32"][0], rel=0.004)


def test_overflow_skips_the_step_and_goes_on(batch):
    model, optimizer, step = _training("mixed_float16", initial_scale=2.0**22)
    inner = optimizer.inner_optimizer
    before = _values([*model.weights, *inner.velocities])
    step(batch)
    for old, new in zip(before, _values([*model.weights, *inner.velocities]), strict=True):
        np.testing.assert_array_equal(old, new)
    # The schedule goes on with the data, whether a batch was learned from or not.
    assert int(inner.iterations) == 1
    assert _scale(optimizer) == 2.0**21
    losses = [float(step(batch)["loss"]) for _ in range(50)]
    assert _scale(optimizer) < 2.0**21
    assert losses[-1] < 0.6 * losses[0]
    assert all(np.isfinite(value).all() for value in _values(model.weights))


def test_overflow_in_one_replica_skips_the_step_in_all(batch):
    strategy = distribution.make_strategy("mirrored", 2)
    model, optimizer, step = _training("mixed_float16", strategy)
    before = _values(model.weights)

    def spread(images):
        return _halves(strategy, images, batch[1])

    for broken in (slice(8, 16), slice(0, 8)):
        images = batch[0].copy()
        images[broken] = 1e6  # more than float16 holds
        scale = _scale(optimizer)
        step(spread(images))
        for old, new in zip(before, _values(model.weights), strict=True):
            np.testing.assert_array_equal(old, new)
        assert _scale(optimizer) == scale / 2
    # Sound images may still overflow at so large a scale; each time it is halved.
    for _ in range(16):
        step(spread(batch[0]))
        if not np.array_equal(before[0], _values(model.weights)[0]):
            break
    else:
        pytest.fail("no step went through any more")
    assert all(np.isfinite(value).all() for value in _values(model.weights))


def test_a_compiled_step_on_two_replicas_scales_its_loss_as_a_plain_one(batch):
    losses = {}
    for jit_compile in (False, True):
        strategy = distribution.make_strategy("mirrored", 2)
        _, _, step = _training("mixed_float16", strategy, 2.0**10, jit_compile)

        spread = _halves(strategy, *batch)
        losses[jit_compile] = [float(step(spread)["loss"]) for _ in range(3)]
    assert losses[True][0] > losses[True][2]
    np.testing.assert_allclose(losses[True], losses[False], rtol=1e-2)
