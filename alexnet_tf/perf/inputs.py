"""Measures images per second of the input pipeline and of each of its stages."""

import dataclasses
import math
import time

from alexnet_tf import machine
from alexnet_tf.perf import timing

_FOREVER = 1_000_000  # epochs
_WARM_BATCHES = 3  # fill the buffers before timing starts


@dataclasses.dataclass(frozen=True)
class InputSettings:
    """What to measure.

    Attributes:
      data_dir: a prepared data set.
      model: the variant whose crop size is used.
      batch_size: images per batch.
      batches: minimum batches per timed run; an epoch that fits into the shuffle buffer is read in
        one go, so whole epochs of such a data set are timed.
      runs: timed runs of each stage.
    """

    data_dir: str
    model: str = "alexnet"
    batch_size: int = 128
    batches: int = 16
    runs: int = 5


def measure_input(settings: InputSettings) -> dict:
    """Times the training pipeline up to each of its stages; the last one is the full pipeline.

    Crop, mirror and colour noise are on, as in the original program; grey images get no noise.
    Timing starts when the buffers are full.

    Returns:
      {"machine", "settings", "data", "images": per run, "rows": one per stage}. A row has
      "images_per_second" of the pipeline up to that stage, and "cpu_milliseconds_per_image" of the
      stage alone: processor time, which is independent of the number of cores.

    Raises:
      FileNotFoundError, ValueError: the data set does not exist or is too small.
    """
    dataset = _open(settings.data_dir)
    stages = _stages(dataset, settings)
    batches = _timed_batches(dataset, settings)
    seconds = {name: [] for name in stages}
    cpu = {name: [] for name in stages}
    for _ in range(settings.runs):
        for name, stage in stages.items():
            wall, busy = _drain(stage, batches)
            seconds[name].append(wall)
            cpu[name].append(busy)
    images = batches * settings.batch_size
    rows, before = [], 0.0
    for name in stages:
        busy = 1e3 * timing.summary(cpu[name])["median"] / images
        rates = timing.summary([images / wall for wall in seconds[name]])
        rows.append(
            {
                "stage": name,
                "images_per_second": rates,
                "cpu_milliseconds_per_image": busy - before,
                "cpu_seconds": cpu[name],
            }
        )
        before = busy
    return {
        "machine": machine.describe(),
        "settings": dataclasses.asdict(settings),
        "data": describe_data(dataset),
        "images": images,
        "rows": rows,
    }


def describe_data(dataset) -> dict:
    """Number of images, size, encoding and bytes per record of the training split."""
    import os

    return {
        "pictures": dataset.counts["train"],
        "image_size": dataset.format.image_size,
        "channels": dataset.format.channels,
        "encoding": dataset.format.encoding,
        "bytes_per_record": sum(os.path.getsize(file) for file in dataset.shards["train"])
        / dataset.counts["train"],
    }


def augmentation(dataset, model: str):
    """The original program's augmentation at the network's input size."""
    from alexnet_tf.data.pipeline import Augmentation
    from alexnet_tf.data.preprocessing import ColourNoise
    from alexnet_tf.models import crop_size

    noise = None
    if dataset.format.channels == 3:
        statistics = dataset.statistics()
        noise = ColourNoise.from_statistics(statistics, "source", statistics["rgb_mean"])
    return Augmentation(crop_size=crop_size(model), noise=noise)


def _open(data_dir: str):
    from alexnet_tf.data import records

    dataset = records.open_dataset(data_dir)
    dataset.require_split("train")
    return dataset


def _stages(dataset, settings: InputSettings) -> dict:
    from alexnet_tf.data.pipeline import Schedule, training_stages

    schedule = Schedule(settings.batch_size, epochs=_FOREVER)
    augment = augmentation(dataset, settings.model)
    return training_stages(dataset, augment, schedule)


def _timed_batches(dataset, settings: InputSettings) -> int:
    from alexnet_tf.data.pipeline import Schedule, steps_per_epoch

    steps = steps_per_epoch(dataset, settings.batch_size)
    if dataset.counts["train"] > Schedule.shuffle_buffer:
        return settings.batches
    return math.ceil(settings.batches / steps) * steps


def _drain(stage, batches: int) -> tuple[float, float]:
    """Wall-clock and processor seconds of some batches of a stage whose buffers are full."""
    iterator = iter(stage)
    for _ in range(_WARM_BATCHES):
        next(iterator)
    started, busy = time.perf_counter(), time.process_time()
    for _ in range(batches):
        next(iterator)
    return time.perf_counter() - started, time.process_time() - busy
