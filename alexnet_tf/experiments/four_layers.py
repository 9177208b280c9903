"""The four-layer network of figure 1, and its epochs to 25 % training error at one learning rate.

The paper states neither the network's layers nor its rates. This is the network with four weight
layers of the authors' earlier program, cuda-convnet (`layers-18pct` and `-19pct`: three 5x5
convolutions with 32, 32 and 64 maps, 3/2 pooling, and a dense layer). It has no normalisation,
weight decay or augmentation: the figure's caption says that no regularisation was used.
"""

import contextlib
import dataclasses
import json
import math
import os
import shutil
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf import files
from alexnet_tf.data import evaluation_data
from alexnet_tf.experiments.results import Context
from alexnet_tf.models import catalog, spec
from alexnet_tf.models.cifarnet import CIFAR10_MEAN
from alexnet_tf.models.lenet import TanhSpec
from alexnet_tf.training import errors, loop, recipes

TARGET = 0.25
SIZE = 32
CHOICE_SEED = 10_000  # for choosing a rate; never measured
_SAMPLE_SHARE, _SAMPLE_LEAST = 10, 1000  # a tenth of the training images, at least 1,000
_AT_ONCE = 500  # images per forward pass
_GUESSING, _PATIENCE = 0.85, 3  # abandoned at this error after this many epochs
_PER_EPOCH = 4  # evaluations of the training error per epoch
UNITS = {"relu": "ReLU", "tanh": "tanh"}


@dataclasses.dataclass(frozen=True)
class Condition:
    """What a curve depends on besides its rate and seed.

    Attributes:
      unit: "relu" or "tanh".
      initializer: "published", cuda-convnet's (N(0, 0.0001**2), then 0.01), or "he".
      batch_size: images per step.
    """

    unit: str
    initializer: str = "published"
    batch_size: int = 128

    @property
    def name(self) -> str:
        """A name for files."""
        other = "" if self.initializer == "published" else f"-{self.initializer}"
        return f"{self.unit}{other}" + (
            "" if self.batch_size == 128 else f"-batch{self.batch_size}"
        )


@dataclasses.dataclass(frozen=True)
class AveragePool:
    """3/2 average pooling whose last window may extend past the edge, as in cuda-convnet."""

    name: str

    def apply(self, x, options: spec.Options):
        return keras.layers.AveragePooling2D(3, 2, padding="same", name=self.name)(x)

    def output_size(self, n: int) -> int:
        return -(-n // 2)


def variant(unit: str, channels: int) -> spec.Variant:
    """The four-layer network; unit is "relu" or "tanh"."""

    def activation(name):
        return spec.Relu(name) if unit == "relu" else TanhSpec(name, plain=True)

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
    name = f"four_layers_{unit}_{channels}"
    return spec.Variant(
        name, "cuda-convnet's, figure 1", SIZE, mean, features, top, 1.0, "rgb", channels
    )


def curve(
    context: Context,
    dataset,
    condition: Condition,
    rate: float,
    seed: int,
    rival: dict | None = None,
) -> dict:
    """Trains until the training error is 25 %, or until that can be ruled out.

    Training ends at the scale's last epoch, when the error is still at chance after three epochs,
    or when it is slower than `rival`, another rate's curve: when that curve had reached 25 % by
    then or, after three epochs, had the same error in half the time. A finished curve is kept in
    the workdir; an interrupted one resumes from its last checkpoint.

    Returns:
      {"epoch": [...], "training_error": [...]}; shorter if training diverged.
    """
    network = variant(condition.unit, dataset.format.channels)
    name = f"fig1-{condition.name}-rate{rate:g}-seed{seed}"

    def compute() -> dict:
        catalog.add_variant(network)
        own = recipe(context, condition, network.name, rate)
        steps = dataset.counts["train"] // own.batch_size
        looks = context.path("steps", f"{name}.looks.json")
        watch = _TrainingError(*_sample(dataset), steps, rival, looks)
        workdir = context.path("networks", name)
        run = loop.Run(recipe=own, data_dir=dataset.path, workdir=workdir, seed=seed)
        with contextlib.suppress(_Done, errors.Diverged):
            loop.train(run, callbacks=[watch])
        found = watch.curve()
        shutil.rmtree(workdir, ignore_errors=True)
        if os.path.exists(looks):
            os.remove(looks)
        return found

    return context.remembered(name, compute)


def recipe(context: Context, condition: Condition, name: str, rate: float) -> recipes.Recipe:
    """Training at a constant rate, without regularisation."""
    return recipes.Recipe(
        model=name,
        epochs=context.scale.fig1_epochs,
        batch_size=condition.batch_size if context.scale.measures else 8,
        learning_rate=rate,
        schedule="constant",
        weight_decay=0.0,
        initializer=condition.initializer,
        dropout=0.0,
        mirror=False,
        colour_noise="none",
        mean="image",
    )


def epochs_to_target(curve: dict) -> float:
    """Epochs to 25 %, interpolated between evaluations; infinity if it was not reached."""
    error, epoch = curve["training_error"], curve["epoch"]
    if not error or error[-1] > TARGET:
        return math.inf
    if len(error) == 1:
        return epoch[0]
    share = (error[-2] - TARGET) / (error[-2] - error[-1])
    return epoch[-2] + share * (epoch[-1] - epoch[-2])


class _Done(Exception):
    """The training error has reached the target, or will not reach it in time."""


class _TrainingError(keras.callbacks.Callback):
    """Measures the error on some training images several times per epoch.

    Each value is kept in a file, because a resumed run has lost the earlier ones.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        steps_per_epoch: int,
        rival: dict | None,
        kept: str,
    ):
        super().__init__()
        self.images, self.labels = images, labels
        self.steps_per_epoch, self.rival, self.kept = steps_per_epoch, rival, kept
        self.every = max(1, steps_per_epoch // _PER_EPOCH)
        self.error_at: dict[int, float] = {}
        if os.path.exists(kept):
            with open(kept, encoding="utf-8") as file:
                self.error_at = {int(step): error for step, error in json.load(file).items()}
        self.call: Callable | None = None

    def on_train_batch_end(self, step, logs=None):
        if step % self.every:
            return
        if self.call is None:
            self.call = tf.function(lambda images: self.model(images, training=False))
        call, parts = self.call, range(0, len(self.labels), _AT_ONCE)
        outputs = [call(tf.constant(self.images[i : i + _AT_ONCE], tf.float32)) for i in parts]
        error = float((np.concatenate(outputs).argmax(axis=1) != self.labels).mean())
        # A resumed run repeats the steps since its checkpoint.
        self.error_at = {one: value for one, value in self.error_at.items() if one < step}
        self.error_at[step] = error
        files.write_json(self.kept, self.error_at)
        if error <= TARGET or self._is_hopeless(step / self.steps_per_epoch):
            raise _Done

    def _is_hopeless(self, epoch: float) -> bool:
        best = min(self.error_at.values())
        slow = False
        if self.rival is not None:
            if epoch >= epochs_to_target(self.rival):
                return True
            half_way = np.interp(epoch / 2, self.rival["epoch"], self.rival["training_error"])
            slow = best > half_way
        return epoch >= _PATIENCE and (slow or best > _GUESSING)

    def curve(self) -> dict:
        steps = sorted(self.error_at)
        return {
            "epoch": [step / self.steps_per_epoch for step in steps],
            "training_error": [self.error_at[step] for step in steps],
        }


def _sample(dataset) -> tuple[np.ndarray, np.ndarray]:
    """The first training images: uint8 (n, 32, 32, channels), int (n,)."""
    images, labels = [], []
    count = dataset.counts["train"]
    wanted = min(count, max(count // _SAMPLE_SHARE, _SAMPLE_LEAST))
    for views, truths, indices in evaluation_data.evaluation_batches(dataset, "train", 250, SIZE):
        real = indices.numpy() >= 0
        images.append(views[:, 0].numpy()[real])
        labels.append(truths.numpy()[real])
        if sum(map(len, labels)) >= wanted:
            break
    return np.concatenate(images)[:wanted], np.concatenate(labels)[:wanted]
