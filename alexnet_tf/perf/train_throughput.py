"""Measures images per second of training from records, and of step and input alone."""

import dataclasses
import time

from alexnet_tf import machine
from alexnet_tf.perf import inputs, steps, timing

_FOREVER = 1_000_000  # epochs
_WARM_BATCHES = 3


@dataclasses.dataclass(frozen=True)
class TrainSettings:
    """What to measure.

    Attributes:
      data_dir: a prepared data set.
      model: a variant.
      batch_size: images per global batch.
      precision: a Keras policy, see `steps.PRECISIONS`.
      strategy: "none" or "mirrored"; devices: its replicas.
      jit_compile: whether XLA compiles: "true", "false", or "auto" (only on a GPU).
      runs: timed runs of each form.
    """

    data_dir: str
    model: str = "alexnet"
    batch_size: int = 128
    precision: str = "float32"
    strategy: str = "none"
    devices: int | None = None
    jit_compile: str = "auto"
    runs: int = 5


def measure_train(settings: TrainSettings) -> dict:
    """Times the input pipeline alone, the step alone, and training with both.

    Returns:
      {"machine", "settings", "data", "rows": one per form with "images_per_second",
      "share_of_slower": training's rate over the lower of the other two}.

    Raises:
      FileNotFoundError, ValueError: the data set does not exist or does not suit the model.
    """
    import tensorflow as tf

    from alexnet_tf.data.pipeline import Schedule, training_inputs
    from alexnet_tf.data.records import open_dataset
    from alexnet_tf.training import distributed_input, distribution

    strategy = distribution.make_strategy(settings.strategy, settings.devices)
    dataset = open_dataset(settings.data_dir)
    dataset.require_split("train")
    augmentation = inputs.augmentation(dataset, settings.model)
    what = (settings.model, settings.precision, settings.batch_size, dataset.classes)
    run, network = steps.trainer(strategy, augmentation, what, settings.jit_compile)
    replicas = strategy.num_replicas_in_sync
    _require_channels(network, dataset)

    def of_worker(context):
        schedule = Schedule(settings.batch_size, epochs=_FOREVER, replicas=replicas)
        return training_inputs(dataset, augmentation, schedule)

    def begun():
        batches = distributed_input.dealt(strategy, of_worker)
        for _ in range(_WARM_BATCHES):
            next(batches)
        return batches

    @tf.function
    def taken(batches, times):
        for _ in tf.range(times):
            next(batches)
        return times

    def input_alone(times: int) -> float:
        batches = begun()
        started = time.perf_counter()
        taken(batches, tf.constant(times)).numpy()
        return time.perf_counter() - started

    def training(times: int) -> float:
        return steps.step_clock(run, begun())(times)

    one = next(iter(of_worker(None)))  # a replica's share
    same = distributed_input.dealt(
        strategy, lambda context: tf.data.Dataset.from_tensors(one).repeat()
    )
    size = settings.batch_size
    forms = {
        "input": timing.Form(input_alone, size),
        "step": timing.Form(steps.step_clock(run, same), size),
        "training": timing.Form(training, size),
    }
    # Long enough that the buffers, full at the start, are a small part of the total.
    rates = timing.take_turns(forms, settings.runs, at_least=3.0)
    rows = [
        {"form": name, "images_per_second": timing.summary(values)}
        for name, values in rates.items()
    ]
    median = {row["form"]: row["images_per_second"]["median"] for row in rows}
    return {
        "machine": machine.describe(),
        "settings": dataclasses.asdict(settings),
        "data": inputs.describe_data(dataset),
        "rows": rows,
        "share_of_slower": median["training"] / min(median["input"], median["step"]),
    }


def _require_channels(network, dataset) -> None:
    wanted, found = network.input_shape[-1], dataset.format.channels
    if wanted != found:
        raise ValueError(
            f"{dataset.path} has images of {found} channel(s), but {network.name} takes "
            f"{wanted}: name another --model or --data_dir."
        )
