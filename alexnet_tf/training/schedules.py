"""A recipe's rates as Keras schedules, and its optimiser. Only here do epochs become steps."""

from collections.abc import Sequence

import keras
import tensorflow as tf

from alexnet_tf.training.optimizers import PaperSGD, as_schedule, serialized
from alexnet_tf.training.recipes import RatesByEpoch, Recipe


@keras.saving.register_keras_serializable(package="alexnet_tf")
class StepRates(keras.optimizers.schedules.LearningRateSchedule):
    """Piecewise constant: `values[i]` from step `boundaries[i]` on (inclusive), `initial` before.

    (Keras' PiecewiseConstantDecay changes one step later.)
    """

    def __init__(self, initial, boundaries, values):
        self.initial = float(initial)
        self.boundaries = [int(boundary) for boundary in boundaries]
        self.values = [float(value) for value in values]
        if len(self.boundaries) != len(self.values) or self.boundaries != sorted(self.boundaries):
            raise ValueError(
                f"Boundaries {self.boundaries} and values {self.values} do not fit: expected one "
                "value for each boundary, in ascending order."
            )

    def __call__(self, step):
        rate = keras.ops.convert_to_tensor(self.initial, "float32")
        for boundary, value in zip(self.boundaries, self.values, strict=True):
            rate = keras.ops.where(step >= boundary, value, rate)
        return rate

    def get_config(self):
        return {"initial": self.initial, "boundaries": self.boundaries, "values": self.values}


@keras.saving.register_keras_serializable(package="alexnet_tf")
class RatioSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """One schedule divided by another: the factor of a layer with its own rate."""

    def __init__(self, rate, base):
        self.rate, self.base = as_schedule(rate), as_schedule(base)

    def __call__(self, step):
        return self.rate(step) / self.base(step)

    def get_config(self):
        return {"rate": serialized(self.rate), "base": serialized(self.base)}


@keras.saving.register_keras_serializable(package="alexnet_tf")
class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """A rate or schedule that rises linearly from 0 over the first `steps` steps."""

    def __init__(self, rate, steps):
        self.rate = as_schedule(rate)
        self.steps = int(steps)

    def __call__(self, step):
        rate = self.rate(step) if callable(self.rate) else self.rate
        risen = keras.ops.cast(step, "float32") / self.steps
        return keras.ops.minimum(risen, 1.0) * rate

    def get_config(self):
        return {"rate": serialized(self.rate), "steps": self.steps}


def step_rates(initial: float, rates: RatesByEpoch, steps_per_epoch: int) -> StepRates:
    """Rates per epoch as rates per step, rounded to whole steps."""
    boundaries = [round(epoch * steps_per_epoch) for epoch, _ in rates]
    return StepRates(initial, boundaries, [rate for _, rate in rates])


def current_rate(optimizer) -> float:
    """The rate of an optimiser's next step, from its schedule or its variable."""
    # A variable that replicas share has no float().
    return float(tf.convert_to_tensor(optimizer.learning_rate))


def last_rate(optimizer) -> float:
    """The rate of an optimiser's last update."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    rate = optimizer.get_config()["learning_rate"]
    if not isinstance(rate, dict):  # a number, no schedule
        return current_rate(optimizer)
    schedule = keras.optimizers.schedules.deserialize(rate)
    return float(schedule(tf.convert_to_tensor(optimizer.iterations) - 1))


def watched_errors(history: Sequence[dict]) -> list[float]:
    """The error that "plateau" watches, per finished epoch: validation's, else training's."""
    both = [(row["validation_top1_error"], row["top1_error"]) for row in history]
    return [training if validation is None else validation for validation, training in both]


def plateau_rate(recipe: Recipe, errors: Sequence[float]) -> float:
    """The rate after epochs with these errors: a tenth for each plateau, three at most.

    A plateau is `patience` epochs in a row without an error below the best so far; each reduction
    restarts the count. A function of the history alone, so a resumed run agrees.
    """
    reductions, waited, best = 0, 0, float("inf")
    for error in errors:
        if error < best:
            best, waited = error, 0
        else:
            waited += 1
        if waited >= recipe.patience and reductions < 3:  # section 5: "reduced three times"
            reductions, waited = reductions + 1, 0
    return recipe.learning_rate * 0.1**reductions


def make_optimizer(
    recipe: Recipe,
    steps_per_epoch: int,
    slow: Sequence[str] = (),
    model: keras.Model | None = None,
) -> PaperSGD:
    """The optimiser of a recipe.

    With the "plateau" schedule its rate is a variable, which the loop sets before each epoch.

    Args:
      recipe: the recipe.
      steps_per_epoch: global batches in an epoch.
      slow: layers that learn at `recipe.body_learning_rate` times the rate.
      model: the network. Its frozen layers' rates and decays are left out, and the recipe's "conv1"
        is its first layer, whatever the name. None takes the recipe's names.

    Raises:
      ValueError: the recipe names a layer that the model does not have.
    """
    steps = recipe.epochs * steps_per_epoch
    warmup = round(recipe.warmup_epochs * steps_per_epoch)
    if recipe.schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=0.0 if warmup else recipe.learning_rate,
            decay_steps=max(steps - warmup, 1),
            warmup_target=recipe.learning_rate if warmup else None,
            warmup_steps=warmup,
        )
    elif recipe.schedule == "steps":
        rate = step_rates(recipe.learning_rate, recipe.rate_steps, steps_per_epoch)
    else:
        rate = recipe.learning_rate
    # Factors of the rate before the warm-up, so that all rates rise with it.
    bias = recipe.bias_learning_rate
    if recipe.bias_rate_steps:
        start = recipe.learning_rate * recipe.bias_learning_rate
        bias = RatioSchedule(step_rates(start, recipe.bias_rate_steps, steps_per_epoch), rate)
    layers = dict.fromkeys(slow, recipe.body_learning_rate)
    if recipe.conv1_rate_steps:
        first = _first_layer(model)
        share = layers.get(first, 1.0)
        its_rates = tuple((epoch, share * value) for epoch, value in recipe.conv1_rate_steps)
        own = step_rates(share * recipe.learning_rate, its_rates, steps_per_epoch)
        layers[first] = RatioSchedule(own, rate)
    decays = dict(recipe.layer_weight_decay)
    if model is not None:
        layers, decays = _learning(model, layers), _learning(model, decays)
    if warmup and recipe.schedule != "cosine":
        rate = WarmUp(rate, warmup)
    return PaperSGD(
        learning_rate=rate,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        bias_learning_rate=bias,
        bias_weight_decay=recipe.bias_weight_decay,
        layer_learning_rates=layers,
        layer_weight_decay=decays,
        loss_scale_factor=None,
    )


def _first_layer(model: keras.Model | None) -> str:
    if model is None:
        return "conv1"
    return next(layer.name for layer in model.layers if layer.weights)


def _learning(model: keras.Model, by_layer: dict) -> dict:
    """The entries of trainable layers."""
    known = {layer.name for layer in model.layers if layer.weights}
    unknown = sorted(set(by_layer) - known)
    if unknown:
        raise ValueError(
            f"The recipe names {', '.join(unknown)}, but the layers with weights of {model.name} "
            f"are {', '.join(sorted(known))}."
        )
    learning = {layer.name for layer in model.layers if layer.trainable_variables}
    return {name: value for name, value in by_layer.items() if name in learning}
