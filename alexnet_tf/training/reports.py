"""What a run leaves in its workdir besides checkpoints. Each file is whole or not there."""

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
from alexnet_tf.training.step import input_size

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
    """`value` as it comes back from a JSON file."""
    return json.loads(json.dumps(value))


def write_metrics(workdir: str, history: list[dict]) -> None:
    """metrics.csv: one row per finished epoch; errors are fractions."""
    text = io.StringIO()
    writer = csv.DictWriter(text, METRICS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    files.write_text(pathlib.Path(workdir) / "metrics.csv", text.getvalue())


def read_metrics(workdir: str | os.PathLike) -> list[dict]:
    """The rows of a run's metrics.csv as texts; none when there is no such file."""
    path = pathlib.Path(workdir) / "metrics.csv"
    if not path.exists():
        return []
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write_model(run, dataset, model: keras.Model) -> None:
    """model.keras: the whole network, preprocessing and what it knows included."""
    knowledge.write(model, _known(run, dataset))
    with files.replacing(pathlib.Path(run.workdir) / "model.keras") as aside:
        model.save(aside)


def write_card(workdir: str, model: keras.Model, results: Mapping[str, Any]) -> None:
    """card.md: what the network is, for people; after config.json, of which it tells."""
    model_file = os.path.join(workdir, saved_run.MODEL_FILE)
    about = card.text(model, saved_run.run_config(model_file), results)
    files.write_text(os.path.join(workdir, card.CARD_FILE), about)


def write_config(run, dataset, strategy, class_weights=None) -> None:
    """config.json: everything needed to repeat the run."""
    weights = None
    if class_weights is not None:
        weights = dict(zip(dataset.synsets, map(float, class_weights), strict=True))
    content = {
        "recipe": dataclasses.asdict(run.recipe),
        "seed": run.seed,
        "data_dir": os.path.abspath(dataset.path) if os.path.exists(dataset.path) else dataset.path,
        "class_names": list(dataset.synsets),
        "image_size": dataset.format.image_size,
        "knowledge": _known(run, dataset),
        "counts": dataset.counts,
        "class_weights": weights,
        "strategy": type(strategy).__name__,
        "replicas": strategy.num_replicas_in_sync,
        "jit_compile": run.jit_compile == "true",
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


def _known(run, dataset) -> dict:
    """What the network knows besides its weights: see `models.knowledge`."""
    return as_json(
        {
            "class_names": dataset.synsets,
            "image_size": dataset.format.image_size,
            "crop_size": input_size(run.recipe),
            # Others' images are trained on as they are.
            "apply_exif": bool(dataset.turned),
            "lineage": {
                "recipe": dataclasses.asdict(run.recipe),
                "data": identity.fingerprint(dataset),
                "weights": run.recipe.weights,
            },
        }
    )


def _git_commit() -> str | None:
    """The commit of the package's checkout, or None when it was installed from a wheel."""
    root = pathlib.Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    try:
        command = ["git", "-C", str(root), "rev-parse", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
