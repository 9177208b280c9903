"""The files of a run's workdir besides checkpoints, each written atomically."""

import csv
import dataclasses
import io
import json
import os
import pathlib
import platform
import subprocess
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import alexnet_tf
from alexnet_tf import files
from alexnet_tf.data import identity
from alexnet_tf.models import card, knowledge, saved_run
from alexnet_tf.training.initialization import Setup

METRICS = (
    "epoch",
    "step",
    "learning_rate",
    "loss",
    "top1_error",
    "top5_error",
    "validation_loss",
    "validation_top1_error",
    "validation_top5_error",
    "images_per_second",
    "seconds",
)


def as_json(value):
    """`value` as a JSON file gives it back: tuples become lists."""
    return json.loads(json.dumps(value))


def write_metrics(workdir: str, history: list[dict]) -> None:
    """metrics.csv: one row per finished epoch; errors are fractions."""
    text = io.StringIO()
    writer = csv.DictWriter(text, METRICS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    files.write_text(pathlib.Path(workdir) / "metrics.csv", text.getvalue())


def read_metrics(workdir: str | os.PathLike) -> list[dict]:
    """The rows of a run's metrics.csv as strings; empty when there is no such file."""
    path = pathlib.Path(workdir) / "metrics.csv"
    if not path.exists():
        return []
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write_model(setup: Setup) -> None:
    """model.keras: the whole network, with its preprocessing and what it knows."""
    knowledge.write(setup.model, _known(setup))
    with files.replacing(pathlib.Path(setup.run.workdir) / "model.keras") as aside:
        setup.model.save(aside)


def write_card(setup: Setup, results: Mapping[str, Any]) -> None:
    """card.md: what the network is, for people; after config.json, of which it tells."""
    workdir = setup.run.workdir
    config = saved_run.run_config(os.path.join(workdir, saved_run.MODEL_FILE))
    path = os.path.join(workdir, card.CARD_FILE)
    files.write_text(path, card.text(setup.model, config, results))


def write_config(setup: Setup) -> None:
    """config.json: everything needed to repeat the run."""
    run, dataset = setup.run, setup.dataset
    weights = None
    if setup.class_weights is not None:
        weights = dict(zip(dataset.synsets, map(float, setup.class_weights), strict=True))
    content = {
        "recipe": dataclasses.asdict(run.recipe),
        "seed": run.seed,
        "data_dir": os.path.abspath(dataset.path) if os.path.exists(dataset.path) else dataset.path,
        "class_names": list(dataset.synsets),
        "image_size": dataset.format.image_size,
        "knowledge": _known(setup),
        "counts": dataset.counts,
        "class_weights": weights,
        "strategy": type(setup.strategy).__name__,
        "replicas": setup.strategy.num_replicas_in_sync,
        "jit_compile": setup.jit_compile,
        "flags": run.flags,
        "versions": {
            "alexnet_tf": alexnet_tf.__version__,
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "git_commit": _git_commit(),
    }
    files.write_json(pathlib.Path(run.workdir) / "config.json", content)


def write_results(setup: Setup, history: list[dict], results: dict) -> None:
    """All files of a finished run; the workdir may have been removed meanwhile."""
    write_metrics(setup.run.workdir, history)
    write_model(setup)
    write_config(setup)
    write_card(setup, results)
    files.write_json(pathlib.Path(setup.run.workdir) / "results.json", results)


def _known(setup: Setup) -> dict:
    """What the network knows besides its weights, see `models.knowledge`."""
    recipe, dataset = setup.run.recipe, setup.dataset
    return as_json(
        {
            "class_names": dataset.synsets,
            "image_size": dataset.format.image_size,
            "crop_size": recipe.crop_size,
            # Other people's records are trained on as they are.
            "apply_exif": bool(dataset.turned),
            "lineage": {
                "recipe": dataclasses.asdict(recipe),
                "data": identity.fingerprint(dataset),
                "weights": recipe.weights,
            },
        }
    )


def _git_commit() -> str | None:
    """The commit of the package's checkout; None for an installed wheel."""
    root = pathlib.Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    try:
        command = ["git", "-C", str(root), "rev-parse", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
