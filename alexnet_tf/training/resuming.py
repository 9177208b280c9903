"""Starts a run or resumes it from its newest checkpoint, given the same settings and data."""

import dataclasses
import os
import sys

import tensorflow as tf

from alexnet_tf.data import identity
from alexnet_tf.machine import usable_processors
from alexnet_tf.training import initialization, reports
from alexnet_tf.training.checkpoints import Checkpoints, Progress
from alexnet_tf.training.cluster import Cluster
from alexnet_tf.training.initialization import Setup

# Rates that do not depend on the number of epochs.
_OPEN_ENDED = ("constant", "steps", "plateau")


def start_or_resume(setup: Setup, checkpoints: Checkpoints, cluster: Cluster) -> Progress:
    """Restores the newest checkpoint; without one, copies the source's weights.

    Raises:
      ValueError: the checkpoint was made with other settings, on other data, or is not the one that
        the other workers found.
    """
    run = setup.run
    weights = None if setup.class_weights is None else setup.class_weights.tolist()
    recipe = {**dataclasses.asdict(run.recipe), "class_weight": weights}
    settings = reports.as_json({**recipe, "seed": run.seed})
    data = identity.fingerprint(setup.dataset)
    now = arithmetic(setup.jit_compile)
    progress = checkpoints.restore(run.recipe.model)
    cluster.require_same_step(progress.step if progress else 0)
    if progress is None:
        if setup.source:
            _say(initialization.take_weights(setup.model, setup.source, setup.dataset.synsets))
        return Progress(model=run.recipe.model, recipe=settings, data=data, arithmetic=now)
    go_on(progress, settings, data, now, run.workdir)
    # A kill right after the best checkpoint was written left it unmarked.
    best = progress.best_step()
    if cluster.is_chief and best is not None:
        checkpoints.mark_best(best)
    return progress


def arithmetic(jit_compile: bool = False) -> dict:
    """What a run's last bits depend on, besides its settings and strategy."""
    threads = tf.config.threading.get_intra_op_parallelism_threads()
    if not threads:  # TensorFlow's default: the processors of this process
        threads = usable_processors()
    return {
        "threads": threads,
        "onednn": os.environ.get("TF_ENABLE_ONEDNN_OPTS", "1") != "0",
        "tensorflow": tf.__version__,
        "XLA": jit_compile,
        "GPU": _gpu(),
    }


def _gpu() -> str | None:
    """The first GPU's name, or None without one."""
    for device in tf.config.list_physical_devices("GPU"):
        details = tf.config.experimental.get_device_details(device)
        return details.get("device_name", device.name)
    return None


def go_on(progress: Progress, settings: dict, data: str, now: dict, workdir: str) -> None:
    """Updates a checkpoint's progress to this run's settings; prints notes on standard error.

    Args:
      progress: of the checkpoint.
      settings: the run's, as JSON gives them back.
      data: the fingerprint of the run's data set.
      now: the run's `arithmetic`.
      workdir: for the messages.

    Raises:
      ValueError: the run was started with other settings, or on other data.
    """
    differing = [name for name in settings if progress.recipe.get(name) != settings[name]]
    if differing == ["epochs"] and settings["epochs"] > progress.recipe["epochs"]:
        if settings["schedule"] not in _OPEN_ENDED:
            raise ValueError(
                f"epochs was {progress.recipe['epochs']} and is {settings['epochs']}, but the "
                f"{settings['schedule']} schedule of the run in {workdir} falls to zero at its "
                "last epoch: a longer run differs from its first step on. Use another --workdir, "
                "or --weights to start from this network."
            )
        _say(f"The run in {workdir} continues to epoch {settings['epochs']}.")
    elif differing:
        changes = ", ".join(
            f"{name} was {progress.recipe.get(name)!r} and is {settings[name]!r}"
            for name in differing
        )
        raise ValueError(
            f"The run in {workdir} was started with other settings: {changes}. Use the same flags "
            "to continue it, or another --workdir to start a new one."
        )
    if not progress.data:
        _say(
            f"note: the checkpoint in {workdir} is of an older version, which did not record its "
            "data; make sure that --data_dir is the same."
        )
    elif progress.data != data:
        raise ValueError(
            f"The run in {workdir} was started on other data (fingerprint {progress.data}, found "
            f"{data}): use the same --data_dir to continue it, or another --workdir to start a new "
            "one."
        )
    changes = ", ".join(
        f"{name} was {value} and is {now.get(name)}"
        for name, value in progress.arithmetic.items()
        if now.get(name) != value
    )
    if changes:
        _say(
            f"warning: {changes}. The results will be right, but not bit for bit those of an "
            "uninterrupted run."
        )
    progress.recipe, progress.data, progress.arithmetic = settings, data, now


def _say(text: str) -> None:
    print(text, file=sys.stderr)
