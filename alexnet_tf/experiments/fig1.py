"""Figure 1: epochs to 25 % training error of a four-layer network with ReLU and with tanh.

The learning rate of each unit is chosen independently: the one of RATES that reaches 25 % in the
fewest epochs, with a slower neighbour on both sides. The choice uses a seed that is not measured
afterwards. A rate is abandoned when it has taken longer than the best one so far, when after three
epochs its error is above the best one's at half the time, or when its error is still at chance.
"""

import dataclasses
import math
import os
import statistics
from collections.abc import Callable, Sequence

from alexnet_tf.analysis import plots
from alexnet_tf.data import records
from alexnet_tf.experiments import data, four_layers, published
from alexnet_tf.experiments.four_layers import TARGET, UNITS, Condition
from alexnet_tf.experiments.results import ClaimRow, Context, Result, describe_data

RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)
_START = {"relu": RATES.index(3e-3), "tanh": RATES.index(1e-2)}
_COLOURS = {"relu": "#0072B2", "tanh": "#D55E00"}


@dataclasses.dataclass(frozen=True)
class Choice:
    """The rate that reaches 25 % first.

    Attributes:
      rate: one of RATES.
      epochs: rate -> epochs to 25 %, for the rates that were tried; infinity if 25 % was not
        reached, or not before a better rate.
      bracketed: whether the next rate on each side was tried and is slower.
    """

    rate: float
    epochs: dict[float, float]
    bracketed: bool

    @property
    def fewest(self) -> float:
        """Epochs with `rate`; infinity if it was not tried."""
        return self.epochs.get(self.rate, math.inf)

    def to_json(self) -> dict:
        tried = {f"{rate:g}": _finite(epochs) for rate, epochs in sorted(self.epochs.items())}
        return {"rate": self.rate, "epochs_by_rate": tried, "bracketed": self.bracketed}


def run(context: Context) -> Result:
    """Chooses each unit's rate, then measures both units for each seed."""
    there, told = prepared(context)
    choices, epochs, curves = {}, {}, {}
    for unit in UNITS:
        condition = Condition(unit)
        choices[unit] = choice = choose(context, there, condition)
        curves[unit] = [
            four_layers.curve(context, there, condition, choice.rate, seed)
            for seed in context.seeds
        ]
        epochs[unit] = [four_layers.epochs_to_target(curve) for curve in curves[unit]]
    image = os.path.join("images", "fig1.png")
    _draw(curves, choices, context.path(image))
    numbers = {
        "choices": {unit: choice.to_json() for unit, choice in choices.items()},
        "epochs": {unit: list(map(_finite, values)) for unit, values in epochs.items()},
        "curves": curves,
        "batch_size": Condition("relu").batch_size,
    }
    row = _row(context, epochs, choices, told)
    return Result((row,), numbers, (("Figure 1: training error", image),))


def prepared(context: Context) -> tuple[records.PreparedDataset, str]:
    """The data set at 32 pixels with at most the scale's number of images, and its description."""
    dataset = records.open_dataset(context.data_dir)
    most = context.scale.fig1_images
    limit = {"train": most, "validation": max(1, most // 50)}
    path = data.derive(dataset, context.path("data", "fig1"), limit, four_layers.SIZE)
    there = records.open_dataset(path)
    # Only training images are measured: with all of them it is the whole data set.
    whole = dataset.counts["train"] <= most
    described = dataclasses.replace(there, counts=dataset.counts) if whole else there
    return there, describe_data(described, os.path.basename(os.path.normpath(dataset.path)))


def choose(context: Context, dataset, condition: Condition) -> Choice:
    """Chooses the condition's rate; a smoke run tries none."""
    start = _START[condition.unit]
    if not context.scale.measures:
        return Choice(RATES[start], {}, bracketed=False)
    reached: list[dict] = []

    def epochs_at(rate: float) -> float:
        best = min(reached, key=four_layers.epochs_to_target, default=None)
        seed = four_layers.CHOICE_SEED
        curve = four_layers.curve(context, dataset, condition, rate, seed, best)
        epochs = four_layers.epochs_to_target(curve)
        if math.isfinite(epochs):
            reached.append(curve)
        return epochs

    return bracket(RATES, start, epochs_at)


def bracket(rates: Sequence[float], start: int, epochs_at: Callable[[float], float]) -> Choice:
    """Moves from a rate to its neighbours as long as they take fewer epochs.

    Args:
      rates: in ascending order.
      start: index of the first rate to try.
      epochs_at: rate -> epochs; infinity if slower than the best one so far.
    """
    tried, best = {start: epochs_at(rates[start])}, start
    # If a rate never reaches the target, a lower one is tried next.
    for direction in (1, -1) if math.isfinite(tried[start]) else (-1, 1):
        position = best + direction
        while 0 <= position < len(rates) and position not in tried:
            tried[position] = epochs_at(rates[position])
            if tried[position] < tried[best]:
                best = position
            elif math.isfinite(tried[best]):
                break
            position += direction
    bracketed = math.isfinite(tried[best]) and {best - 1, best + 1} <= tried.keys()
    return Choice(rates[best], {rates[one]: epochs for one, epochs in tried.items()}, bracketed)


def compared(epochs: dict[str, list[float]], limit: int) -> tuple[str, str]:
    """(measured values, their spread over seeds) of both units, in words."""
    missed = [name for unit, name in UNITS.items() if not all(map(math.isfinite, epochs[unit]))]
    if missed:
        return f"{' and '.join(missed)} did not get to 25 % in {limit} epochs", ""
    medians = {unit: statistics.median(values) for unit, values in epochs.items()}
    ratio = medians["tanh"] / medians["relu"]
    text = f"{ratio:.2f} times: ReLU {medians['relu']:.2f} epochs, tanh {medians['tanh']:.2f}"
    if len(epochs["relu"]) < 2:
        return text, "one seed"
    ranges = [f"{UNITS[u]} {min(v):.2f} to {max(v):.2f}" for u, v in epochs.items()]
    return text + " (medians)", f"epochs over {len(epochs['relu'])} seeds: {', '.join(ranges)}"


def rates_in_words(choices: dict[str, Choice]) -> str:
    """Both units' rates, and whether each has a slower one on both sides."""
    parts = []
    for unit, choice in choices.items():
        neighbours = "" if choice.bracketed else " (not bracketed)"
        parts.append(f"{UNITS[unit]} {choice.rate:g}{neighbours}")
    return "learning rates: " + ", ".join(parts)


def _row(context: Context, epochs, choices, told: str) -> ClaimRow:
    measured, spread = compared(epochs, context.scale.fig1_epochs)
    note = rates_in_words(choices)
    return ClaimRow(
        published.RELU_SPEED, measured, told, context.seeds, spread, note, narrowed=False
    )


def _finite(epochs: float) -> float | None:
    return epochs if math.isfinite(epochs) else None  # JSON has no infinity


def _draw(curves: dict, choices: dict[str, Choice], output: str) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), dpi=130, layout="constrained")
    axes = figure.subplots()
    for unit, measured in curves.items():
        colour, line = _COLOURS[unit], "-" if unit == "relu" else "--"
        for number, curve in enumerate(measured):
            label = f"{UNITS[unit]}, learning rate {choices[unit].rate:g}" if number == 0 else None
            axes.plot(
                curve["epoch"], curve["training_error"], color=colour, linestyle=line, label=label
            )
        paper = published.FIGURE_1_EPOCHS[unit]
        label = f"the paper's {UNITS[unit]}: about {paper} epochs, read from its figure"
        axes.plot(paper, TARGET, "o", mfc="none", color=colour, label=label)
    axes.axhline(TARGET, color="#888888", linewidth=0.8)
    where = axes.get_yaxis_transform()  # x as a fraction of the width
    axes.text(
        0.99, TARGET + 0.015, "25 %", color="#555555", fontsize=9, ha="right", transform=where
    )
    epochs = [
        epoch for measured in curves.values() for curve in measured for epoch in curve["epoch"]
    ]
    axes.set_xlim(0, max(40, math.ceil(max(epochs, default=0))))
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.set_xlabel("epochs")
    axes.set_ylabel("training error")
    axes.grid(color="#DDDDDD", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    plots.save_figure(figure, output)
