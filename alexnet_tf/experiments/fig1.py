"""Figure 1: a four-layer network with ReLU and with tanh, epochs to 25 % training error.

The paper names neither the network's layers nor its rates. The network here is the one of the
authors' earlier program, cuda-convnet, with four layers of weights (`layers-18pct` and `-19pct`:
three convolutions of 5x5 with 32, 32 and 64 maps, pooled 3/2, and a dense layer), without
normalisation, weight decay or augmentation, as the figure's caption says of regularisation.

The learning rate of each kind is chosen independently: the one of RATES that gets to 25 % in the
fewest epochs, tried with a seed that is not measured afterwards. A rate is given up as soon as it
has taken longer than the best before it.
"""

import contextlib
import dataclasses
import math
import os
import shutil

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf import evaluation
from alexnet_tf.analysis import plots
from alexnet_tf.data import evaluation_data, records
from alexnet_tf.experiments import data, published
from alexnet_tf.experiments.results import ClaimRow, Context, Result, describe_data, spread_of
from alexnet_tf.models import catalog, spec
from alexnet_tf.models.cifarnet import CIFAR10_MEAN
from alexnet_tf.models.lenet import TanhSpec
from alexnet_tf.training import loop, recipes

TARGET = 0.25
RATES = (0.003, 0.01, 0.001, 0.03, 0.0003, 0.0001, 0.1)  # the likely ones first
SIZE = 32
_SAMPLE = 1000
_CHOICE_SEED = 10_000  # none that is measured
_PER_EPOCH = 10  # looks at the training error in an epoch
_KINDS = {"relu": "ReLU", "tanh": "tanh"}
_COLOURS = {"relu": "#0072B2", "tanh": "#D55E00"}


@dataclasses.dataclass(frozen=True)
class AveragePool:
    """Average pooling 3/2 whose last window may hang over the edge, as cuda-convnet's."""

    name: str

    def apply(self, x, options: spec.Options):
        return keras.layers.AveragePooling2D(3, 2, padding="same", name=self.name)(x)

    def output_size(self, n: int) -> int:
        return -(-n // 2)


def variant(kind: str, channels: int) -> spec.Variant:
    """The four-layer network; kind is "relu" or "tanh"."""

    def activation(name):
        return spec.Relu(name) if kind == "relu" else TanhSpec(name, plain=True)

    pad = ((2, 2), (2, 2))
    features = (
        spec.Conv("conv1", 32, 5, pad=pad, init=spec.Init(0.0001, he=False)),
        spec.Pool("pool1", ceil=True),
        activation("act1"),
        spec.Conv("conv2", 32, 5, pad=pad, init=spec.Init(0.01)),
        activation("act2"),
        AveragePool("pool2"),
        spec.Conv("conv3", 64, 5, pad=pad, init=spec.Init(0.01)),
        activation("act3"),
        AveragePool("pool3"),
    )
    top = (spec.Flatten(), spec.Dense("fc10", init=spec.Init(0.01, he=False)))
    mean = CIFAR10_MEAN[:channels]
    name = f"four_layers_{kind}_{channels}"
    return spec.Variant(
        name, "cuda-convnet's, figure 1", SIZE, mean, features, top, 1.0, "rgb", channels
    )


def run(context: Context) -> Result:
    """Chooses each kind's rate, then measures both for each seed."""
    dataset = records.open_dataset(context.data_dir)
    most = context.scale.fig1_images
    limit = {"train": most, "validation": max(1, most // 10)}
    there = records.open_dataset(data.derive(dataset, context.path("data", "fig1"), limit, SIZE))
    told = describe_data(there, os.path.basename(os.path.normpath(dataset.path)))
    rates = RATES if context.scale.measures else RATES[:1]
    chosen, epochs, curves = {}, {}, {}
    for kind in _KINDS:
        chosen[kind] = rates[0]
        if len(rates) > 1:
            chosen[kind] = _choose(context, there, kind)
        measured = [_curve(context, there, kind, chosen[kind], seed) for seed in context.seeds]
        epochs[kind] = [epochs_to_target(curve) for curve in measured]
        curves[kind] = measured
    image = os.path.join("images", "fig1.png")
    _draw(curves, chosen, context.path(image))
    numbers = {
        "learning_rates": chosen,
        # JSON knows no infinity.
        "epochs": {
            kind: [value if math.isfinite(value) else None for value in values]
            for kind, values in epochs.items()
        },
        "curves": curves,
        "rates_tried": rates,
        "batch_size": _recipe(context, "", 1.0).batch_size,
    }
    row = _row(context, epochs, chosen, told)
    return Result((row,), numbers, (("Figure 1: training error", image),))


def _row(context: Context, epochs, chosen, told: str) -> ClaimRow:
    missed = [name for kind, name in _KINDS.items() if not np.isfinite(epochs[kind]).all()]
    rates = ", ".join(f"{_KINDS[kind]} {rate:g}" for kind, rate in chosen.items())
    if not missed:
        ratios = [t / r for t, r in zip(epochs["tanh"], epochs["relu"], strict=True)]
        means = {kind: sum(values) / len(values) for kind, values in epochs.items()}
        measured = (
            f"{sum(ratios) / len(ratios):.2f} times: ReLU {means['relu']:.2f} epochs, tanh "
            f"{means['tanh']:.2f}"
        )
        spread = "ratio: " + spread_of(ratios, "", 1)
    else:
        measured = (
            f"{' and '.join(missed)} did not get to 25 % in {context.scale.fig1_epochs} epochs"
        )
        spread = ""
    note = f"learning rates: {rates}"
    return ClaimRow(
        published.RELU_SPEED, measured, told, context.seeds, spread, note, narrowed=False
    )


def _recipe(context: Context, name: str, rate: float) -> recipes.Recipe:
    smoke = not context.scale.measures
    return recipes.Recipe(
        model=name,
        epochs=context.scale.fig1_epochs,
        batch_size=8 if smoke else 128,
        learning_rate=rate,
        schedule="constant",
        weight_decay=0.0,
        dropout=0.0,
        mirror=False,
        colour_noise="none",
        mean="image",
    )


def _choose(context: Context, dataset, kind: str) -> float:
    """The rate that gets to 25 % first."""
    best, fewest = RATES[0], math.inf
    for rate in RATES:
        epochs = epochs_to_target(_curve(context, dataset, kind, rate, None, fewest))
        if epochs < fewest:
            best, fewest = rate, epochs
    return best


def _curve(
    context: Context, dataset, kind: str, rate: float, seed: int | None, limit: float = math.inf
) -> dict:
    """{"epoch": [...], "training_error": [...]}, until 25 % or `limit` epochs are reached.

    Seed None is that of the choice of a rate.
    """
    network = variant(kind, dataset.format.channels)
    name = f"fig1-{kind}-rate{rate:g}-" + ("choice" if seed is None else f"seed{seed}")

    def compute() -> dict:
        catalog.add_variant(network)
        own_seed = _CHOICE_SEED if seed is None else seed
        recipe = _recipe(context, network.name, rate)
        steps = dataset.counts["train"] // recipe.batch_size
        watch = _TrainingError(*_sample(dataset), steps, limit)
        workdir = context.path("networks", name)
        run = loop.Run(recipe=recipe, data_dir=dataset.path, workdir=workdir, seed=own_seed)
        # What an interrupted curve left behind lacks its first looks.
        shutil.rmtree(workdir, ignore_errors=True)
        with contextlib.suppress(_Done, loop.Diverged):
            loop.train(run, callbacks=[watch])
        shutil.rmtree(workdir, ignore_errors=True)
        return {"epoch": watch.epochs, "training_error": watch.errors}

    return context.remembered(name, compute)


def epochs_to_target(curve: dict) -> float:
    """Epochs to 25 %, interpolated between the looks; infinity when it was not reached."""
    error, epoch = curve["training_error"], curve["epoch"]
    if not error or error[-1] > TARGET:
        return math.inf
    if len(error) == 1:
        return epoch[0]
    share = (error[-2] - TARGET) / (error[-2] - error[-1])
    return epoch[-2] + share * (epoch[-1] - epoch[-2])


class _Done(Exception):
    """The training error is low enough, or will not be in time."""


class _TrainingError(keras.callbacks.Callback):
    """Looks at the error on some training images ten times in an epoch."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, steps_per_epoch: int, limit: float):
        super().__init__()
        self.images, self.labels = tf.constant(images), labels
        self.steps_per_epoch, self.limit = steps_per_epoch, limit
        self.every = max(1, steps_per_epoch // _PER_EPOCH)
        self.epochs: list[float] = []
        self.errors: list[float] = []
        self.call = None

    def on_train_batch_end(self, step, logs=None):
        if step % self.every:
            return
        if self.call is None:
            self.call = tf.function(lambda images: self.model(images, training=False))
        probabilities = np.concatenate(
            [self.call(self.images[n : n + 250]).numpy() for n in range(0, len(self.labels), 250)]
        )
        if not np.isfinite(probabilities).all():
            raise loop.Diverged("The outputs are not finite.")
        self.epochs.append(step / self.steps_per_epoch)
        self.errors.append(evaluation.score(probabilities, self.labels).top1_error)
        if self.errors[-1] <= TARGET or self.epochs[-1] >= self.limit:
            raise _Done


def _sample(dataset) -> tuple[np.ndarray, np.ndarray]:
    """The first training images: float32 (n, 32, 32, channels), int (n,)."""
    images, labels = [], []
    wanted = min(_SAMPLE, dataset.counts["train"])
    for views, truths, indices in evaluation_data.evaluation_batches(dataset, "train", 250, SIZE):
        real = indices.numpy() >= 0
        images.append(views[:, 0].numpy()[real].astype(np.float32))
        labels.append(truths.numpy()[real])
        if sum(map(len, labels)) >= wanted:
            break
    return np.concatenate(images)[:wanted], np.concatenate(labels)[:wanted]


def _draw(curves: dict, chosen: dict, output: str) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), dpi=130, layout="constrained")
    axes = figure.subplots()
    for kind, measured in curves.items():
        for number, curve in enumerate(measured):
            label = f"{_KINDS[kind]}, learning rate {chosen[kind]:g}" if number == 0 else None
            style = {"color": _COLOURS[kind], "linestyle": "-" if kind == "relu" else "--"}
            axes.plot(curve["epoch"], curve["training_error"], label=label, **style)
    axes.axhline(TARGET, color="#888888", linewidth=0.8)
    where = axes.get_yaxis_transform()  # x as a share of the width
    axes.text(0.01, TARGET - 0.04, "25 %", color="#555555", fontsize=9, transform=where)
    axes.set_xlim(left=0)
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.set_xlabel("epochs")
    axes.set_ylabel("training error")
    axes.grid(color="#DDDDDD", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    plots.save_figure(figure, output)
