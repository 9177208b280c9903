"""An experiment's input (`Context`) and output (`Result`)."""

import dataclasses
import json
import os
from collections.abc import Callable

from alexnet_tf import files
from alexnet_tf.data import imagenet
from alexnet_tf.experiments import published
from alexnet_tf.experiments.published import Claim
from alexnet_tf.training import reports

PLAN_FILE = "plan.json"
_ILSVRC = {year.train: f"{year.name} validation" for year in imagenet.CHALLENGES}

_CIFAR10_CLASSES = frozenset(
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
)


@dataclasses.dataclass(frozen=True)
class Scale:
    """How much of an experiment is run.

    Attributes:
      name: the value of --scale.
      narrowing: divisor of maps and units; 1 is the published network.
      recipe: fields that replace those of the published recipe.
      enlarged_recipe: fields that replace those of `recipe` for networks on enlarged images.
      images: split -> maximum number of images; None for all.
      fig1_images: maximum number of training images in figure 1; CIFAR-10 has 50,000.
      fig1_epochs: maximum number of epochs in figure 1.
      cifar10_recipe: fields that replace those of the CIFAR-10 networks' published recipes.
      measures: whether the report may show its results as measured.
    """

    name: str
    narrowing: int
    recipe: dict
    enlarged_recipe: dict
    images: dict[str, int] | None
    fig1_images: int
    fig1_epochs: int
    cifar10_recipe: dict
    measures: bool


# Without colour noise's division and with He's initialisation, a few epochs are enough to learn.
_SHORT = {
    "schedule": "cosine",
    "warmup_epochs": 0.5,
    "initializer": "he",
    "bias_rate_steps": (),
    "conv1_rate_steps": (),
    "bias_learning_rate": 1.0,
    "colour_noise_epochs": None,
    "crop_group": 1,
    "mean": "rgb",
}
# Of the rates 0.0015, 0.003 and 0.006, the one with the lowest error after a two-epoch cosine.
_SHORT_CIFAR10 = {
    "epochs": 100,
    "learning_rate": 0.003,
    "schedule": "cosine",
    "rate_steps": (),
    "warmup_epochs": 0.25,
}
SCALES = {
    "full": Scale(
        "full",
        1,
        recipe={},
        enlarged_recipe={},
        images=None,
        fig1_images=50_000,
        fig1_epochs=60,
        cifar10_recipe={},
        measures=True,
    ),
    "small": Scale(
        "small",
        4,
        recipe={**_SHORT, "epochs": 20, "batch_size": 32, "learning_rate": 0.01, "dropout": 0.0},
        # CIFAR-10 has 50,000 images, the photographs 1,500. At a rate of 0.01 the network without
        # normalisation diverges or learns nothing.
        enlarged_recipe={"epochs": 5, "learning_rate": 0.003},
        images=None,
        fig1_images=10_000,
        fig1_epochs=40,
        cifar10_recipe=_SHORT_CIFAR10,
        measures=True,
    ),
    "smoke": Scale(
        "smoke",
        16,
        recipe={**_SHORT, "epochs": 1, "batch_size": 8, "crop_size": 96},
        enlarged_recipe={},
        images={"train": 24, "validation": 16},
        fig1_images=24,
        fig1_epochs=1,
        cifar10_recipe={**_SHORT_CIFAR10, "epochs": 1, "batch_size": 8},
        measures=False,
    ),
}


@dataclasses.dataclass(frozen=True)
class Context:
    """An experiment's input.

    Attributes:
      data_dir: a prepared data set.
      data: its description for the report.
      workdir: directory of networks, images and results.
      scale: how much is run.
      seeds: one run per seed.
    """

    data_dir: str
    data: str
    workdir: str
    scale: Scale
    seeds: tuple[int, ...]

    def path(self, *parts: str) -> str:
        """A path in the workdir."""
        return os.path.join(self.workdir, *parts)

    def planned_seconds(self, network: str) -> float | None:
        """Seconds of an epoch by the workdir's plan; None without a plan of this network."""
        try:
            with open(self.path(PLAN_FILE), encoding="utf-8") as file:
                plan = json.load(file)
        except FileNotFoundError:
            return None
        return float(plan["seconds_per_epoch"]) if plan["network"] == network else None

    def remembered(self, name: str, compute: Callable[[], dict]) -> dict:
        """The result of `compute`, computed once per name and workdir."""
        path = self.path("steps", f"{name}.json")
        if not os.path.exists(path):
            files.write_json(path, compute())
        with open(path, encoding="utf-8") as file:
            return json.load(file)


@dataclasses.dataclass(frozen=True)
class ClaimRow:
    """A published claim and the measured value.

    Attributes:
      claim: see `published`.
      measured: the value with its unit; None if it was not run.
      data: the data it was measured on.
      seeds: seeds of the runs.
      spread: spread of the value over seeds or images.
      note: why it was not run, or what the reader should know.
      narrowed: whether the scale narrows its networks.
    """

    claim: Claim
    measured: str | None
    data: str = ""
    seeds: tuple[int, ...] = ()
    spread: str = ""
    note: str = ""
    narrowed: bool = True


@dataclasses.dataclass(frozen=True)
class Result:
    """An experiment's output.

    Attributes:
      rows: rows of the report's table.
      numbers: all measurements, JSON-ready.
      images: (caption, path relative to the workdir) pairs.
    """

    rows: tuple[ClaimRow, ...]
    numbers: dict = dataclasses.field(default_factory=dict)
    images: tuple[tuple[str, str], ...] = ()

    def to_json(self) -> dict:
        return reports.as_json(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, content: dict) -> "Result":
        rows = [
            ClaimRow(**{**row, "claim": Claim(**row["claim"]), "seeds": tuple(row["seeds"])})
            for row in content["rows"]
        ]
        images = tuple(
            (caption, path) for caption, path in content.get("images", content.get("pictures", ()))
        )
        return cls(tuple(rows), content["numbers"], images)

    def unmeasured(self, why: str) -> "Result":
        """The same result without measured values in its rows."""
        rows = [
            dataclasses.replace(row, measured=None, data="", seeds=(), spread="", note=why)
            for row in self.rows
        ]
        return dataclasses.replace(self, rows=tuple(rows))


def not_run(claim: Claim, why: str) -> ClaimRow:
    """A row without a measured value."""
    return ClaimRow(claim, None, note=why)


def is_cifar10(dataset) -> bool:
    """Whether a data set is CIFAR-10, judged by counts, size and class names."""
    form, counts = dataset.format, dataset.counts
    return (
        (form.image_size, form.channels) == (32, 3)
        and (counts.get("train"), counts.get("validation")) == (50_000, 10_000)
        and set(dataset.synsets) == _CIFAR10_CLASSES
    )


def describe_data(dataset, name: str | None = None) -> str:
    """Describes a prepared data set; `name` replaces its directory's name."""
    train, validation = (dataset.counts.get(name, 0) for name in ("train", "validation"))
    if dataset.classes == imagenet.CLASSES and train in _ILSVRC:
        return _ILSVRC[train]
    if is_cifar10(dataset):
        return published.CIFAR10
    name = name or os.path.basename(os.path.normpath(dataset.path))
    return (
        f"{name} ({dataset.classes} classes, {train:,} training and {validation:,} validation "
        f"images of {dataset.format.image_size} pixels)"
    )


def percent(*values: float) -> str:
    """Fractions as "37.5 % / 17.0 %"."""
    return " / ".join(f"{100 * value:.1f} %" for value in values)


def points(*values: float) -> str:
    """Differences of fractions as "+1.7 / +1.2 points"."""
    return " / ".join(f"{100 * value:+.1f}" for value in values) + " points"


def spread_of(values: list[float], unit: str = "points", factor: float = 100) -> str:
    """The sample standard deviation over seeds, in words."""
    if len(values) < 2:
        return "one seed"
    mean = sum(values) / len(values)
    deviation = (sum((v - mean) ** 2 for v in values) / (len(values) - 1)) ** 0.5
    measure = f"{factor * deviation:.2g} {unit}".strip()
    return f"standard deviation {measure} over {len(values)} seeds"
