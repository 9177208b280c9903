"""Measures images per second of the training step, without an input pipeline."""

import dataclasses
import time

from alexnet_tf import machine
from alexnet_tf.data.imagenet import ILSVRC_2012
from alexnet_tf.perf import timing

STORED = (256, 32)  # sides of stored images in pixels, before the crop
_LONG = 90 * ILSVRC_2012.train  # images of a run that is worth compiling: the paper's run
# Keras policy -> precision of its matrix products.
PRECISIONS = {"float32": "float32", "mixed_bfloat16": "bfloat16", "mixed_float16": "float16"}


@dataclasses.dataclass(frozen=True)
class StepSettings:
    """What to measure: every combination of these.

    Attributes:
      model: a variant.
      batch_sizes: images per global batch.
      precisions: Keras policies, see PRECISIONS.
      strategies: "none" and "mirrored".
      devices: replicas of "mirrored"; None for all GPUs, or 2 logical CPUs.
      jit_compile: whether XLA compiles: "true", "false", or "auto" (only on a GPU).
      runs: timed runs of each combination.
    """

    model: str = "alexnet"
    batch_sizes: tuple[int, ...] = (128,)
    precisions: tuple[str, ...] = ("float32",)
    strategies: tuple[str, ...] = ("none",)
    devices: int | None = None
    jit_compile: str = "auto"
    runs: int = 5


def measure_step(settings: StepSettings) -> dict:
    """Times full training steps on stored images, and matrix products for comparison.

    Forward, backward, weight decay and update, as `train` runs them with the paper's recipe.

    Returns:
      {"machine", "settings", "ceilings": precision -> summary of operations per second of large
      matrix products, "rows": one per combination}.

    Raises:
      ValueError: unknown model, or a batch that cannot be divided between the replicas.
    """
    from alexnet_tf.training import distribution

    # The CPU can only be split into devices before TensorFlow runs anything.
    strategies = {
        name: distribution.make_strategy(name, settings.devices if name == "mirrored" else None)
        for name in sorted(settings.strategies)
    }
    forms, details = {}, {}
    for name in settings.strategies:
        for precision in settings.precisions:
            for batch_size in settings.batch_sizes:
                form, operations = training_form(
                    strategies[name], settings.model, precision, batch_size, settings.jit_compile
                )
                key = f"{name} {precision} {batch_size}"
                forms[key] = form
                details[key] = {
                    "strategy": name,
                    "replicas": strategies[name].num_replicas_in_sync,
                    "precision": precision,
                    "batch_size": batch_size,
                    "operations_per_image": operations,
                }
    kinds = {PRECISIONS[precision] for precision in settings.precisions}
    products = {kind: timing.matrix_product(kind) for kind in sorted(kinds)}
    rates = timing.take_turns({**forms, **products}, settings.runs)
    ceilings = {kind: timing.summary(rates[kind]) for kind in products}
    computer = machine.describe()
    rows = []
    for key, row in details.items():
        images = timing.summary(rates[key])
        # Logical devices share one processor, so there is one ceiling; GPUs have one each.
        devices = row["replicas"] if computer["accelerator"] != "none" else 1
        ceiling = devices * ceilings[PRECISIONS[row["precision"]]]["median"]
        share = images["median"] * row["operations_per_image"] / ceiling
        rows.append({**row, "images_per_second": images, "share_of_ceiling": share})
    return {
        "machine": computer,
        "settings": dataclasses.asdict(settings),
        "ceilings": ceilings,
        "rows": rows,
    }


def training_form(strategy, model: str, precision: str, batch_size: int, jit_compile: str = "auto"):
    """(form that runs training steps on one batch, floating-point operations per image)."""
    import tensorflow as tf

    from alexnet_tf.data.augmentation import Augmentation
    from alexnet_tf.models import catalog, crop_size
    from alexnet_tf.training import distributed_input

    size = crop_size(model)
    stored = next(side for side in (*STORED, size) if side // 2 < size <= side)
    augmentation = Augmentation(crop_size=size)
    classes = catalog.find_variant(model).classes
    steps, network = trainer(
        strategy, augmentation, (model, precision, batch_size, classes), jit_compile
    )
    share = batch_size // strategy.num_replicas_in_sync
    shape = (share, stored, stored, catalog.find_variant(model).channels)
    pixels = tf.random.stateless_uniform(shape, (3, 4), maxval=256, dtype=tf.int32)
    corners = tf.random.stateless_uniform(
        (share, 2), (5, 6), maxval=stored - size + 1, dtype=tf.int32
    )
    draws = {"crop": corners, "mirror": tf.range(share) % 2 == 0}
    labels = tf.range(share, dtype=tf.int64) % network.output_shape[-1]
    batch = (tf.cast(pixels, tf.uint8), labels, draws)
    batches = distributed_input.dealt(
        strategy, lambda context: tf.data.Dataset.from_tensors(batch).repeat()
    )
    return timing.Form(step_clock(steps, batches), batch_size), training_operations(network)


def step_clock(steps, batches):
    """A form's `seconds` for training on the next batches, which are on the devices."""
    import tensorflow as tf

    def seconds(times: int) -> float:
        started = time.perf_counter()
        sums = steps.run(batches, tf.constant(times), tf.constant(0.0))
        sums["loss"].numpy()  # waits for the last step, which depends on all earlier ones
        return time.perf_counter() - started

    return seconds


def trainer(strategy, augmentation, what: tuple[str, str, int, int], jit_compile: str = "auto"):
    """(the steps of `train` with the paper's recipe, their network).

    Args:
      strategy: from `distribution.make_strategy`.
      augmentation: the step's augmentation of images.
      what: variant, Keras policy, images per global batch, classes.
      jit_compile: as the flag; "auto" compiles on a GPU.
    """
    import numpy as np

    from alexnet_tf.data.pipeline import replica_batch_size
    from alexnet_tf.models import compilation
    from alexnet_tf.models.catalog import find_variant
    from alexnet_tf.training.initialization import build, input_size
    from alexnet_tf.training.recipes import PAPER
    from alexnet_tf.training.step import ReplicaSteps

    model, precision, batch_size, classes = what
    replica_batch_size(batch_size, strategy.num_replicas_in_sync)
    # A rate so low that hundreds of steps on one batch do not affect the timing.
    recipe = dataclasses.replace(
        PAPER,
        model=model,
        batch_size=batch_size,
        precision=precision,
        learning_rate=1e-7,
        crop_size=augmentation.crop_size,
    )
    size, channels = input_size(recipe), find_variant(model).channels
    mean = np.full((size, size, channels), 120.0, np.float32)
    network, optimizer = build(strategy, recipe, (classes, channels), mean)
    run = ReplicaSteps(
        strategy,
        network,
        optimizer,
        batch_size,
        augmentation.compiled,
        jit_compile=compilation.is_worthwhile(jit_compile, strategy, _LONG),
    )
    return run, network


def training_operations(network) -> int:
    """Floating-point operations of a training step per image.

    Each multiply-add of the forward pass is two operations; gradients of inputs and of weights cost
    the same again each, except that the pixels need no gradient. Only convolutions and dense layers
    are counted.
    """
    from alexnet_tf.analysis.summary import layer_table

    each = [row.multiply_adds for row in layer_table(network) if row.multiply_adds]
    return 2 * (3 * sum(each) - each[0])
