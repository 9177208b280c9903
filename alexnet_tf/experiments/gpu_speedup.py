"""The time of a training step on the CPU and on a GPU."""

import statistics
import time

import numpy as np
import tensorflow as tf

from alexnet_tf.data.augmentation import Augmentation
from alexnet_tf.data.imagenet import ILSVRC_2012
from alexnet_tf.experiments import networks, published
from alexnet_tf.experiments.results import ClaimRow, Context, Result, not_run
from alexnet_tf.models import catalog, compilation
from alexnet_tf.training import distributed_input
from alexnet_tf.training.errors import Diverged
from alexnet_tf.training.initialization import build, input_size
from alexnet_tf.training.step import ReplicaSteps

_WARM_UP, _STEPS = 3, 10
EPOCHS = 90


def run(context: Context) -> Result:
    """Times full steps (forward, backward, update) on one batch in memory."""
    rates = {"CPU": context.remembered("speed-cpu", lambda: _images_per_second(context, "CPU:0"))}
    if tf.config.list_logical_devices("GPU"):
        measured = context.remembered("speed-gpu", lambda: _images_per_second(context, "GPU:0"))
        rates["GPU"] = measured
    else:
        why = f"this machine has no GPU; its CPU trains {rates['CPU']['median']:.0f} images/s"
        if not context.scale.measures:
            why = "this machine has no GPU"
        return Result((not_run(published.TRAINING_TIME, why),), rates)
    cpu, gpu = rates["CPU"]["median"], rates["GPU"]["median"]
    days = EPOCHS * ILSVRC_2012.train / gpu / 86400
    row = ClaimRow(
        published.TRAINING_TIME,
        f"{days:.2g} days at {gpu:.0f} images/s on one GPU, {gpu / cpu:.0f} times the CPU's "
        f"{cpu:.0f}",
        "random pixels, 1.2 million images assumed: steps alone, without input",
        (0,),
        f"GPU {rates['GPU']['low']:.0f} to {rates['GPU']['high']:.0f} images/s in {_STEPS} steps",
        f"one {rates['GPU']['device']}",
    )
    return Result((row,), rates)


def _images_per_second(context: Context, device: str) -> dict:
    variant = networks.narrowed(catalog.find_variant("alexnet_145"), context.scale.narrowing)
    catalog.add_variant(variant)
    recipe = networks.recipe(context, variant)
    size, random = input_size(recipe), np.random.default_rng(0)
    strategy = tf.distribute.OneDeviceStrategy(f"/{device}")
    mean = np.full(3, 127.0, np.float32)
    model, optimizer = build(strategy, recipe, (1000, 3), mean, steps_per_epoch=1000)
    still = Augmentation(crop_size=size, mirror=False)
    compiled = compilation.is_worthwhile("auto", strategy, EPOCHS * ILSVRC_2012.train)
    steps = ReplicaSteps(
        strategy, model, optimizer, recipe.batch_size, still.compiled, jit_compile=compiled
    )
    images = random.integers(0, 256, (recipe.batch_size, size, size, 3), np.uint8)
    batch = (images, random.integers(0, 1000, recipe.batch_size), {})
    batches = distributed_input.dealt(
        strategy, lambda context: tf.data.Dataset.from_tensors(batch).repeat()
    )
    one, nothing = tf.constant(1), tf.constant(0.0)
    rates = []
    for number in range(_WARM_UP + _STEPS):
        started = time.perf_counter()
        loss = steps.run(batches, one, nothing)["loss"].numpy()[0]  # waits for the device
        if not np.isfinite(loss):
            raise Diverged("The loss of the timed steps is not a number.")
        if number >= _WARM_UP:
            rates.append(recipe.batch_size / (time.perf_counter() - started))
    return {
        "device": _device_name(device),
        "median": statistics.median(rates),
        "low": min(rates),
        "high": max(rates),
        "batch_size": recipe.batch_size,
    }


def _device_name(device: str) -> str:
    kind = device.split(":")[0]
    physical = tf.config.list_physical_devices(kind)[0]
    return tf.config.experimental.get_device_details(physical).get("device_name", kind)
