"""What an experiment will cost on this machine, from a short measurement without training."""

import dataclasses
import os
import resource
import shutil
import statistics
import sys
import tempfile
import time

import tensorflow as tf

from alexnet_tf import evaluation
from alexnet_tf.data import evaluation_data, identity
from alexnet_tf.data.pipeline import Schedule
from alexnet_tf.experiments import milestones, networks
from alexnet_tf.experiments.results import Context
from alexnet_tf.models import catalog, compilation
from alexnet_tf.training import initialization, loop
from alexnet_tf.training.checkpoints import KEPT
from alexnet_tf.training.cluster import Cluster
from alexnet_tf.training.distributed_input import Feed

VARIANT = "alexnet_145"  # the authors' network
_CALL_SECONDS = 5.0
_TEN_CROPS = 10


def make(context: Context, seconds: float = 60.0) -> dict:
    """Measures the authors' network and recipe on the data.

    Steps run as in training: input, forward, backward, update. Their weights are discarded.

    Args:
      context: data, scale and seeds; nothing is written.
      seconds: how long to measure, not counting tracing and compiling.

    Returns:
      JSON-ready numbers: "images_per_second" of training and evaluation, "hours" by part,
      "disk_bytes", "free_bytes", "memory_bytes", "milestones" and what was measured on what.

    Raises:
      ValueError, OSError: see `initialization.prepare`.
    """
    variant = networks.narrowed(catalog.find_variant(VARIANT), context.scale.narrowing)
    catalog.add_variant(variant)
    recipe = networks.recipe(context, variant)
    strategy = compilation.default_strategy()
    with tempfile.TemporaryDirectory() as scratch:
        run = loop.Run(recipe=recipe, data_dir=context.data_dir, workdir=scratch)
        setup = initialization.prepare(run, strategy, verbose=False)
    training = _training_rate(setup, 0.75 * seconds)
    evaluating = _evaluation_rate(setup, 0.25 * seconds)
    counts = setup.dataset.counts
    epochs, images = recipe.epochs, setup.steps_per_epoch * recipe.batch_size
    held_out = counts["validation"]
    hours = {
        "training": epochs * images / training["median"] / 3600,
        "validation after each epoch": epochs * held_out / evaluating["median"] / 3600,
        "one crop and ten at the end": (1 + _TEN_CROPS) * held_out / evaluating["median"] / 3600,
    }
    weights = _bytes(setup.model.variables)
    state = weights + _bytes(setup.optimizer.variables)
    return {
        "data": context.data,
        "fingerprint": identity.fingerprint(setup.dataset),
        "counts": {split: counts[split] for split in ("train", "validation")},
        "network": recipe.model,
        "parameters": setup.model.count_params(),
        "scale": context.scale.name,
        "epochs": epochs,
        "batch_size": recipe.batch_size,
        "steps": epochs * setup.steps_per_epoch,
        "seeds": list(context.seeds),
        "images_per_second": {"training": training, "evaluation": evaluating},
        "seconds_per_epoch": images / training["median"],
        "hours": hours,
        "hours_in_all": len(context.seeds) * sum(hours.values()),
        # The newest, the best, and the one being written; then the network itself.
        "disk_bytes": (KEPT + 2) * state + len(context.seeds) * weights,
        "free_bytes": shutil.disk_usage(_existing(context.workdir)).free,
        "memory_bytes": _memory(),
        "milestones": [
            dataclasses.asdict(one) for one in milestones.milestones(setup.dataset.classes)
        ],
    }


def describe(plan: dict) -> str:
    """The plan as human-readable lines."""
    rates, hours = plan["images_per_second"], plan["hours"]
    lines = [
        f"{plan['data']}: {plan['counts']['train']:,} training and "
        f"{plan['counts']['validation']:,} validation images, fingerprint {plan['fingerprint']}",
        f"{plan['network']}: {plan['parameters']:,} parameters, {plan['epochs']} epochs of "
        f"{plan['steps'] // plan['epochs']:,} steps of {plan['batch_size']} images",
        "",
    ]
    for name, rate in rates.items():
        lines.append(
            f"{name:28}{rate['median']:10.1f} images/s, {rate['least']:.1f} to "
            f"{rate['greatest']:.1f} in {rate['calls']} measurements"
        )
    lines += [f"{name:28}{_duration(value)}" for name, value in hours.items()]
    lines += [
        f"{'all, ' + _count(len(plan['seeds']), 'seed'):28}{_duration(plan['hours_in_all'])}",
        f"{'disk':28}{plan['disk_bytes'] / 1e9:10.1f} GB; {plan['free_bytes'] / 1e9:.1f} GB free",
    ]
    for name, value in plan["memory_bytes"].items():
        lines.append(f"{name:28}{value / 1e9:10.1f} GB at the peak of this measurement")
    if plan["disk_bytes"] > plan["free_bytes"]:
        lines.append("warning: the disk is too small: name another --workdir")
    lines += ["", "Milestones:"]
    for one in plan["milestones"]:
        lines.append("  " + milestones.describe(milestones.Milestone(**one)))
    return "\n".join(lines)


def _training_rate(setup: initialization.Setup, seconds: float) -> dict:
    recipe, replicas = setup.run.recipe, setup.strategy.num_replicas_in_sync
    schedule = Schedule(recipe.batch_size, recipe.epochs, setup.run.seed, replicas=replicas)
    feed = Feed(setup.strategy, setup.dataset, setup.augmentation, schedule)
    batches, most = feed.of_epoch(0), setup.steps_per_epoch * recipe.epochs
    setup.steps.scatter()
    done, never = 0, tf.constant(0.0)

    def call(steps: int) -> float:
        nonlocal done
        started = time.perf_counter()
        setup.steps.run(batches, tf.constant(steps), never)["loss"].numpy()
        done += steps
        return time.perf_counter() - started

    if setup.jit_compile:
        print("XLA compiles the training step, once: this takes a while.", file=sys.stderr)
    call(1)  # traces and compiles
    size = max(1, round(_CALL_SECONDS / call(1))) if most > 2 else 1
    rates, ends = [], time.perf_counter() + seconds
    while not rates or time.perf_counter() < ends:
        steps = min(size, most - done)
        if steps < 1:
            break
        rates.append(steps * recipe.batch_size / call(steps))
    return _summary(rates)


def _evaluation_rate(setup: initialization.Setup, seconds: float) -> dict:
    batch_size = min(setup.run.recipe.batch_size, setup.dataset.counts["validation"])
    cluster = Cluster(setup.strategy)
    step = evaluation.forward_step(setup.model, 1, cluster.local_strategy, setup.jit_compile)
    batches = evaluation_data.evaluation_batches(
        setup.dataset, "validation", batch_size, setup.run.recipe.crop_size
    )
    batches = iter(cluster.local_strategy.experimental_distribute_dataset(batches.repeat()))
    step(*next(batches))  # traces
    rates, ends = [], time.perf_counter() + seconds
    while not rates or time.perf_counter() < ends:
        started, images = time.perf_counter(), 0
        while time.perf_counter() < started + min(1.0, seconds):
            step(*next(batches))
            images += batch_size
        rates.append(images / (time.perf_counter() - started))
    return _summary(rates)


def _summary(rates: list[float]) -> dict:
    median = statistics.median(rates)
    return {"median": median, "least": min(rates), "greatest": max(rates), "calls": len(rates)}


def _bytes(variables) -> int:
    return sum(int(tf.size(value)) * tf.as_dtype(value.dtype).size for value in variables)


def _memory() -> dict[str, int]:
    """Peaks so far: of this process and of each GPU."""
    found = {"memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}
    for index in range(len(tf.config.list_physical_devices("GPU"))):
        name = f"GPU:{index}"
        found[name] = tf.config.experimental.get_memory_info(name)["peak"]
    return found


def _existing(path: str) -> str:
    path = os.path.abspath(path)
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return path


def _count(number: int, word: str) -> str:
    return f"{number} {word}" + ("" if number == 1 else "s")


def _duration(hours: float) -> str:
    return f"{hours:10.1f} hours" if hours >= 1 else f"{60 * hours:10.1f} minutes"
