"""PaperSGD against the published recurrences in float64 NumPy."""

import keras
import numpy as np
import pytest

from alexnet_tf.training.optimizers import PaperSGD
from alexnet_tf.training.recipes import RECIPES
from alexnet_tf.training.schedules import make_optimizer


def _network():
    keras.utils.set_random_seed(7)
    return keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3, name="conv1"), keras.layers.Dense(2, name="fc8")]
    )


def _steps(optimizer, model, gradients):
    for step in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(g) for g in step], model.trainable_variables)
    return [np.asarray(variable) for variable in model.trainable_variables]


def _gradients(model, count):
    rng = np.random.default_rng(0)
    shapes = [variable.shape for variable in model.trainable_variables]
    return [[rng.normal(size=s).astype(np.float32) for s in shapes] for _ in range(count)]


def _numpy_run(weights, gradients, rate_of, decay_of, momentum=0.9):
    """v <- m v - decay rate w - rate g; w <- w + v, in float64; rate 0 touches nothing."""
    weights = [np.asarray(w, np.float64) for w in weights]
    velocities = [np.zeros_like(w) for w in weights]
    for step, gradient in enumerate(gradients):
        for i, g in enumerate(gradient):
            rate = rate_of(step, i)
            if rate == 0:
                continue
            velocities[i] = momentum * velocities[i] - rate * (decay_of(i) * weights[i] + g)
            weights[i] = weights[i] + velocities[i]
    return weights


def test_the_paper_s_recurrence_over_100_steps():
    model = _network()
    start = [np.asarray(v) for v in model.trainable_variables]
    gradients = _gradients(model, 100)
    optimizer = PaperSGD(0.01, bias_learning_rate=1.0, bias_weight_decay=True, weight_decay=0.05)
    actual = _steps(optimizer, model, gradients)
    expected = _numpy_run(start, gradients, lambda step, i: 0.01, lambda i: 0.05)
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, e, rtol=2e-5, atol=2e-6)


def test_biases_move_at_twice_the_rate_and_do_not_decay():
    model = _network()
    start = [np.asarray(v) for v in model.trainable_variables]
    gradients = _gradients(model, 100)
    actual = _steps(PaperSGD(0.01, weight_decay=0.05), model, gradients)
    expected = _numpy_run(
        start,
        gradients,
        lambda step, i: 0.01 * (1 + i % 2),  # kernel, bias, kernel, bias
        lambda i: 0.05 * (1 - i % 2),
    )
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, e, rtol=2e-5, atol=2e-6)


def test_source_145_freezes_conv1_and_keeps_the_biases_rate():
    """The epoch table of net #145 at one step per epoch, over its 91 epochs."""
    recipe = RECIPES["source_145"]
    model = _network()
    start = [np.asarray(v) for v in model.trainable_variables]
    gradients = _gradients(model, 91)
    actual = _steps(make_optimizer(recipe, steps_per_epoch=1), model, gradients)

    def at(table, start_rate, step):
        return [start_rate, *(rate for epoch, rate in table if step >= epoch)][-1]

    def rate_of(step, i):
        rate = at(recipe.rate_steps, 0.01, step)
        conv1 = at(recipe.conv1_rate_steps, 0.01, step)
        if i % 2 == 0:
            return conv1 if i == 0 else rate
        return 0.02 * (conv1 / rate if i == 1 else 1)

    expected = _numpy_run(start, gradients, rate_of, lambda i: 0.0005 * (1 - i % 2))
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, e, rtol=5e-5, atol=5e-6)


def test_a_zero_factor_freezes_a_layer():
    model = _network()
    start = [np.asarray(v) for v in model.trainable_variables]
    optimizer = PaperSGD(0.01, layer_learning_rates={"conv1": 0.0})
    actual = _steps(optimizer, model, _gradients(model, 3))
    assert all((a == s).all() for a, s in zip(actual[:2], start[:2], strict=True))
    assert all((a != s).any() for a, s in zip(actual[2:], start[2:], strict=True))


def test_the_config_restores_the_optimizer():
    optimizer = make_optimizer(RECIPES["source_145"], steps_per_epoch=2)
    again = PaperSGD.from_config(optimizer.get_config())
    model, copy = _network(), _network()
    gradients = _gradients(model, 60)
    for a, b in zip(
        _steps(optimizer, model, gradients), _steps(again, copy, gradients), strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_an_unknown_layer_is_named():
    optimizer = PaperSGD(layer_learning_rates={"conv9": 0.1})
    with pytest.raises(ValueError, match=r"conv9.*conv1.*fc8"):
        optimizer.build(_network().trainable_variables)


def test_layer_weight_decay():
    model = _network()
    start = [np.asarray(v) for v in model.trainable_variables]
    gradients = _gradients(model, 50)
    optimizer = PaperSGD(0.01, weight_decay=0.0, layer_weight_decay={"fc8": 0.3})
    actual = _steps(PaperSGD.from_config(optimizer.get_config()), model, gradients)
    expected = _numpy_run(
        start, gradients, lambda step, i: 0.01 * (1 + i % 2), lambda i: 0.3 if i == 2 else 0.0
    )
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, e, rtol=2e-5, atol=2e-6)
    with pytest.raises(ValueError, match=r"layer_weight_decay names \['fc9'\]"):
        PaperSGD(layer_weight_decay={"fc9": 0.1}).build(_network().trainable_variables)
