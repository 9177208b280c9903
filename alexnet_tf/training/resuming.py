"""Whether a run may go on from a checkpoint: the same settings and data, and what may differ."""

import os
import sys

import tensorflow as tf

from alexnet_tf.training.checkpoints import Progress

# Their rates at a step do not depend on the number of epochs.
_OPEN_ENDED = ("constant", "steps", "plateau")


def arithmetic(jit_compile: bool = False) -> dict:
    """What the last bits of a run depend on besides its settings and its strategy.

    Args:
      jit_compile: whether XLA compiles the training step.
    """
    threads = tf.config.threading.get_intra_op_parallelism_threads()
    if not threads:  # TensorFlow takes the processors that this process may use
        affinity = getattr(os, "sched_getaffinity", None)
        threads = len(affinity(0)) if affinity else os.cpu_count()
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
    """Brings a checkpoint's progress to this run's settings, or refuses.

    What does not stop the run but should be known is said on standard error.

    Args:
      progress: of the checkpoint; its settings become the run's.
      settings: the run's, as JSON gives them back.
      data: the fingerprint of the run's data set.
      now: the run's `arithmetic`.
      workdir: for the sentences.

    Raises:
      ValueError: the run was started with other settings, or on other data.
    """
    differing = [name for name in settings if progress.recipe.get(name) != settings[name]]
    if differing == ["epochs"] and settings["epochs"] > progress.recipe["epochs"]:
        if settings["schedule"] not in _OPEN_ENDED:
            raise ValueError(
                f"epochs was {progress.recipe['epochs']} and is {settings['epochs']}, but the "
                f"{settings['schedule']} schedule of the run in {workdir} falls to zero at its "
                "last epoch: a longer run is another one from its first step. Use another "
                "--workdir, or --weights to start from this network."
            )
        _say(f"The run in {workdir} goes on to epoch {settings['epochs']}.")
    elif differing:
        changes = ", ".join(
            f"{name} was {progress.recipe.get(name)!r} and is {settings[name]!r}"
            for name in differing
        )
        raise ValueError(
            f"The run in {workdir} was started with other settings: {changes}. Use the same flags "
            "to go on, or another --workdir to start anew."
        )
    if not progress.data:
        _say(
            f"note: the checkpoint in {workdir} was written by an older version, which did not "
            "keep which data it was trained on; make sure that --data_dir is the same."
        )
    elif progress.data != data:
        raise ValueError(
            f"The run in {workdir} was started on other data (fingerprint {progress.data}, found "
            f"{data}): use the same --data_dir to go on, or another --workdir to start anew."
        )
    changes = ", ".join(
        f"{name} was {value} and is {now.get(name)}"
        for name, value in progress.arithmetic.items()
        if now.get(name) != value
    )
    if changes:
        _say(
            f"warning: {changes}. The results will be right, but not bit for bit those of a run "
            "that was never stopped."
        )
    progress.recipe, progress.data, progress.arithmetic = settings, data, now


def _say(text: str) -> None:
    print(text, file=sys.stderr)
