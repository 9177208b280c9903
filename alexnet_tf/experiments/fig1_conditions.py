"""How figure 1's result depends on initialisation, batch size and rate, which it does not state.

Each condition's rates are chosen as for figure 1. The result is taken from that choice: one run per
rate, all with the same seed.
"""

import dataclasses
import math

from alexnet_tf.experiments import fig1, published
from alexnet_tf.experiments.four_layers import CHOICE_SEED, UNITS, Condition
from alexnet_tf.experiments.results import ClaimRow, Context, Result

_CONDITIONS = (
    ("He's start, batches of 128", "he", 128),
    ("cuda-convnet's start, batches of 32", "published", 32),
    ("cuda-convnet's start, batches of 128", "published", 128),
)


def run(context: Context) -> Result:
    """Chooses both units' rates for each condition."""
    there, told = fig1.prepared(context)
    rows, numbers = [], {}
    for words, initializer, batch_size in _CONDITIONS:
        choices = {
            unit: fig1.choose(context, there, Condition(unit, initializer, batch_size))
            for unit in UNITS
        }
        epochs = {unit: [choice.fewest] for unit, choice in choices.items()}
        measured, spread = fig1.compared(epochs, context.scale.fig1_epochs)
        claim = dataclasses.replace(published.RELU_SPEED, text=f"the same: {words}")
        note = f"{fig1.rates_in_words(choices)}; {_with_equal_rates(choices)}"
        seeds = (CHOICE_SEED,)
        rows.append(ClaimRow(claim, measured, told, seeds, spread, note, narrowed=False))
        numbers[words] = {unit: choice.to_json() for unit, choice in choices.items()}
    return Result(tuple(rows), numbers)


def _with_equal_rates(choices: dict[str, fig1.Choice]) -> str:
    """The ratio of epochs at each rate with which both units reached 25 %."""
    relu, tanh = (choices[unit].epochs for unit in ("relu", "tanh"))
    ratios = [
        f"{rate:g}: {tanh[rate] / relu[rate]:.2f}"
        for rate in sorted(relu.keys() & tanh.keys())
        if math.isfinite(relu[rate]) and math.isfinite(tanh[rate])
    ]
    return "tanh over ReLU at equal rates " + (", ".join(ratios) or "not measured")
