"""The strategies behind `--strategy`, and the training steps of each."""

import json
import os
import subprocess
import sys

import tensorflow as tf

from alexnet_tf.data.pipeline import replica_batch_size
from alexnet_tf.models import compilation
from alexnet_tf.models.catalog import find_variant
from alexnet_tf.models.towers import stages
from alexnet_tf.training import cluster
from alexnet_tf.training.recipes import Recipe
from alexnet_tf.training.step import ReplicaSteps, Steps
from alexnet_tf.training.towers import Towers, TwoTowers

STRATEGIES = ("none", "mirrored", "multi_worker", "towers")


def make_strategy(name: str, devices: int | None = None) -> tf.distribute.Strategy:
    """The `tf.distribute` strategy of that name. Call it before TensorFlow computes anything.

    Args:
      name: "none": one device. "mirrored": a replica on each GPU of this machine; without a GPU the
        CPU is split into logical devices. "multi_worker": one process per worker, as the
        environment variable TF_CONFIG lists them. "towers": half of the network on each of two
        GPUs or logical CPUs.
      devices: replicas of "mirrored". None takes all GPUs, or 2 logical CPUs. More than one splits
        a single GPU, also for "towers".

    Raises:
      ValueError: no such strategy, more devices than there are, or no TF_CONFIG.
    """
    if name not in STRATEGIES:
        raise ValueError(f"There is no strategy {name!r}: use one of {', '.join(STRATEGIES)}.")
    if name == "towers":
        return TwoTowers(_two_devices(devices))
    if name != "mirrored" and devices not in (None, 1):
        raise ValueError(f"--devices={devices} needs --strategy=mirrored, not {name}.")
    if name == "none":
        return compilation.default_strategy()
    if name == "multi_worker":
        return _multi_worker()
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        cpus = _logical_devices("CPU", 2 if devices is None else devices)
        # The default packs all gradients (240 MB) into one buffer: no gain within one memory.
        return tf.distribute.MirroredStrategy(
            cpus, cross_device_ops=tf.distribute.ReductionToOneDevice()
        )
    if len(gpus) == 1 and devices is not None and devices > 1:
        # NCCL wants a card for each replica.
        return tf.distribute.MirroredStrategy(
            _logical_devices("GPU", devices),
            cross_device_ops=tf.distribute.ReductionToOneDevice(),
        )
    if devices is not None and not 1 <= devices <= len(gpus):
        raise ValueError(
            f"--devices={devices}, but this machine has {len(gpus)} GPU(s): ask for no more."
        )
    # Logical devices: one GPU may have been split.
    logical = tf.config.list_logical_devices("GPU")
    return tf.distribute.MirroredStrategy([f"GPU:{i}" for i in range(devices or len(logical))])


def require_trainable(strategy: tf.distribute.Strategy, recipe: Recipe, jit_compile: str) -> None:
    """Raises ValueError for a recipe or `jit_compile` flag that the strategy cannot train with."""
    replica_batch_size(recipe.batch_size, strategy.num_replicas_in_sync)
    if isinstance(strategy, TwoTowers):
        stages(find_variant(recipe.model))
        if jit_compile == "true":
            raise ValueError(
                "jit_compile=true needs another strategy than towers: XLA compiles for one device, "
                "and the halves of the network are on two."
            )


def compiles(strategy: tf.distribute.Strategy, jit_compile: str, images: int) -> bool:
    """Whether XLA compiles the steps of a run over `images` training images; never of towers."""
    wanted = compilation.is_worthwhile(jit_compile, strategy, images)
    return wanted and not isinstance(strategy, TwoTowers)


def make_steps(
    strategy, recipe: Recipe, model, optimizer, augment, jit_compile=False, class_weights=None
) -> Steps:
    """The strategy's training steps; see `ReplicaSteps` for the arguments."""
    if isinstance(strategy, TwoTowers):
        variant = find_variant(recipe.model)
        return Towers(strategy, variant, model, optimizer, augment, class_weights=class_weights)
    options = {"jit_compile": jit_compile, "class_weights": class_weights}
    return ReplicaSteps(strategy, model, optimizer, recipe.batch_size, augment, **options)


def _two_devices(devices: int | None) -> tuple[str, str]:
    if devices not in (None, 2):
        raise ValueError(f"--strategy=towers has 2 devices, not --devices={devices}: leave it out.")
    gpus = tf.config.list_physical_devices("GPU")
    if len(gpus) > 1:
        return ("GPU:0", "GPU:1")
    if gpus and devices is None and len(tf.config.list_logical_devices("GPU")) < 2:
        raise ValueError(
            "--strategy=towers needs two GPUs and found one: add --devices=2 to split it, or use "
            "--strategy=none."
        )
    first, second = _logical_devices("GPU" if gpus else "CPU", 2)
    return first, second


def _logical_devices(kind: str, count: int) -> list[str]:
    """Splits the first CPU or GPU into `count` devices; those of a GPU share its free memory."""
    if count < 1:
        raise ValueError(f"--devices={count}: expected 1 or more.")
    physical = tf.config.list_physical_devices(kind)[0]
    configured = tf.config.get_logical_device_configuration(physical)
    if configured is None or len(configured) < count:
        each = _free_megabytes() // count if kind == "GPU" else None
        part = tf.config.LogicalDeviceConfiguration(memory_limit=each)
        try:
            tf.config.set_logical_device_configuration(physical, [part] * count)
        except RuntimeError as error:
            raise ValueError(
                f"The {kind} can no longer be split into {count} devices, because TensorFlow has "
                "already started: make the strategy first, or restart the notebook's kernel."
            ) from error
        if kind == "GPU":
            print(
                f"note: one GPU is split into {count} logical ones of {each:,} MB, to try several; "
                "they are no faster than one.",
                file=sys.stderr,
            )
    return [f"{kind}:{i}" for i in range(count)]


def _free_megabytes() -> int:
    """Free memory of the first visible GPU, less a tenth for CUDA itself."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0] or "0"
    query = ["--query-gpu=memory.free", "--format=csv,noheader,nounits", f"--id={visible}"]
    try:
        run = subprocess.run(["nvidia-smi", *query], capture_output=True, text=True, check=True)
        return int(run.stdout.split()[0]) * 9 // 10
    except (OSError, subprocess.CalledProcessError, ValueError, IndexError) as error:
        raise ValueError(
            f"To split a GPU, its free memory must be known, but nvidia-smi does not say "
            f"({error}): leave --devices out."
        ) from error


def _multi_worker() -> tf.distribute.Strategy:
    try:
        workers = json.loads(os.environ["TF_CONFIG"])["cluster"]["worker"]
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(
            "--strategy=multi_worker needs the environment variable TF_CONFIG, such as "
            '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": {"type": "worker", '
            '"index": 0}}.'
        ) from error
    if not workers:
        raise ValueError("TF_CONFIG names no worker: list host:port of each under cluster.worker.")
    with cluster.lost_workers():
        return tf.distribute.MultiWorkerMirroredStrategy()
