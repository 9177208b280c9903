"""Schedules and the optimiser of a recipe: warm-up, layers' rates, frozen layers, plateaus."""

import dataclasses
import math

import keras
import numpy as np
import pytest

from alexnet_tf.models import build_model
from alexnet_tf.training.optimizers import PaperSGD
from alexnet_tf.training.recipes import RECIPES, Recipe
from alexnet_tf.training.schedules import StepRates, make_optimizer, plateau_rate, watched_errors


def _rates(optimizer, steps):
    return [float(optimizer._learning_rate(np.int64(step))) for step in range(steps)]


@pytest.mark.parametrize("schedule", ["constant", "steps", "cosine"])
def test_the_rate_rises_from_zero_with_every_schedule(schedule):
    recipe = Recipe(
        schedule=schedule, epochs=4, learning_rate=0.1, warmup_epochs=1, rate_steps=((2, 0.01),)
    )
    rates = _rates(make_optimizer(recipe, steps_per_epoch=4), 12)
    assert rates[:5] == pytest.approx([0, 0.025, 0.05, 0.075, 0.1])
    after = {"constant": 0.1, "steps": 0.01, "cosine": 0.05 * (1 + math.cos(math.pi * 4 / 12))}
    assert rates[8] == pytest.approx(after[schedule])
    again = PaperSGD.from_config(make_optimizer(recipe, 4).get_config())
    assert _rates(again, 12) == pytest.approx(rates)


def test_bias_rates_warm_up_too(tiny_network):
    """At step 0 both rates are 0, whose ratio is no number."""
    recipe = dataclasses.replace(RECIPES["source_145"], model="tiny", warmup_epochs=2)
    model = build_model("tiny", classes=3)
    optimizer = make_optimizer(recipe, 2, model=model)
    optimizer.build(model.trainable_variables)
    before = [np.asarray(variable) for variable in model.trainable_variables]
    for step in range(5):
        gradients = [np.ones(variable.shape, np.float32) for variable in before]
        optimizer.apply([keras.ops.convert_to_tensor(gradient) for gradient in gradients])
        moved = {
            variable.path: np.abs(np.asarray(variable) - start).max()
            for variable, start in zip(model.trainable_variables, before, strict=True)
        }
        assert all(np.isfinite(size) for size in moved.values()), step
        assert all((size > 0) == (step > 0) for size in moved.values()), (step, moved)
    velocity = {v.path: float(np.abs(v).max()) for v in optimizer.velocities}
    names = {key.split("/")[-1]: size for key, size in velocity.items() if "fc8" in key}
    kernel, bias = (next(s for n, s in names.items() if kind in n) for kind in ("kernel", "bias"))
    assert bias == pytest.approx(2 * kernel, rel=0.01)  # decay on the kernel


@pytest.mark.parametrize("model", ["lenet5", "lenet5_softmax", "cifarnet", "alexnet_145_half"])
def test_the_first_layer_has_its_own_rates_whatever_its_name(model):
    network = build_model(model)
    recipe = dataclasses.replace(RECIPES["source_145"], model=model)
    optimizer = make_optimizer(recipe, 10, model=network)
    optimizer.build(network.trainable_variables)
    ((first, factor),) = optimizer.layer_learning_rates.items()
    assert first == next(layer.name for layer in network.layers if layer.weights)
    assert float(factor(725)) == 0 and float(factor(0)) == 1


def test_a_slow_body_is_slow_in_its_first_layer_too(tiny_network):
    recipe = dataclasses.replace(
        RECIPES["source_145"], model="tiny", weights="x", body_learning_rate=0.1
    )
    network = build_model("tiny", classes=3)
    optimizer = make_optimizer(recipe, 1, ["conv1", "conv2"], network)
    factors = optimizer.layer_learning_rates
    assert factors["conv2"] == 0.1
    assert [float(factors["conv1"](step)) for step in (0, 30, 70, 80)] == pytest.approx(
        [0.1, 0.1, 0.01, 0.0]
    )


def test_frozen_layers_have_neither_rate_nor_decay():
    network = build_model("cifarnet")
    for layer in network.layers[:-2]:
        layer.trainable = False
    recipe = dataclasses.replace(RECIPES["cifarnet"], conv1_rate_steps=((1, 0.0),))
    optimizer = make_optimizer(recipe, 1, model=network)
    optimizer.build(network.trainable_variables)
    assert optimizer.layer_weight_decay == {"fc10": 0.01}
    assert optimizer.layer_learning_rates == {}
    unknown = dataclasses.replace(recipe, layer_weight_decay=(("fc99", 0.1),))
    with pytest.raises(ValueError, match=r"names fc99, but the layers with weights of cifarnet"):
        make_optimizer(unknown, 1, model=network)


def test_without_validation_the_plateau_watches_the_training_error():
    rows = [{"validation_top1_error": None, "top1_error": error} for error in (0.9, 0.8, 0.8)]
    recipe = Recipe(schedule="plateau", patience=1, learning_rate=0.01)
    assert watched_errors(rows) == [0.9, 0.8, 0.8]
    assert plateau_rate(recipe, watched_errors(rows)) == pytest.approx(0.001)
    rows[-1]["validation_top1_error"] = 0.5
    assert watched_errors(rows) == [0.9, 0.8, 0.5]


def test_step_rates_change_at_the_boundary():
    rates = StepRates(0.1, [2, 4], [0.01, 0.001])
    got = [float(rates(np.int64(step))) for step in range(6)]
    np.testing.assert_allclose(got, [0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


def test_plateau_divides_by_ten_at_most_three_times():
    recipe = Recipe(schedule="plateau", patience=2, learning_rate=0.01)
    assert plateau_rate(recipe, []) == pytest.approx(0.01)
    assert plateau_rate(recipe, [0.5, 0.4, 0.4]) == pytest.approx(0.01)
    assert plateau_rate(recipe, [0.5, 0.4, 0.4, 0.4]) == pytest.approx(0.001)
    assert plateau_rate(recipe, [0.5] * 30) == pytest.approx(1e-5)
