"""Computes top-1 and top-5 errors of networks. Counts every image of a split exactly once.

Evaluates one centre crop, the paper's ten, or the nine of its CIFAR-10 networks, and averages their
softmax outputs (section 4.1), also over several networks (section 6.1).
"""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from alexnet_tf.data import class_names, evaluation_data, image_cache, records
from alexnet_tf.data.pipeline import replica_batch_size
from alexnet_tf.models import compilation, saved_run

OUTPUTS = ("all", "restricted")
# The normal distribution's two-sided 95 % quantile.
_Z_95 = 1.959963984540054


@dataclasses.dataclass(frozen=True)
class EvaluationSettings:
    """Which images to evaluate, and how.

    Attributes:
      split: a split of the data set.
      crops: 1, 9 or 10.
      batch_size: views per step over all replicas: with ten crops, a tenth as many images.
      image_size: side in pixels to which images are resized before the crop; None for the stored
        size.
    """

    split: str = "validation"
    crops: int = 1
    batch_size: int = 128
    image_size: int | None = None


@dataclasses.dataclass(frozen=True)
class Score:
    """An evaluation's result; errors are fractions 0..1.

    Attributes:
      count: number of images.
      top1_error, top5_error: each with Wilson's 95 % interval. The top-5 error is 0 with five
        classes or fewer.
      loss: mean of -log of the true class's (averaged) probability, in nats.
      class_counts, class_errors: per class, images and top-1 error (NaN without images).
      confusions: (true class, predicted class, how often), most frequent first, errors only.
    """

    count: int
    top1_error: float
    top1_interval: tuple[float, float]
    top5_error: float
    top5_interval: tuple[float, float]
    loss: float
    class_counts: np.ndarray
    class_errors: np.ndarray
    confusions: list[tuple[int, int, int]]


def evaluate(
    models: Sequence[str],
    data_dir: str,
    view: EvaluationSettings,
    label_order: str | None = None,
    strategy=None,
    first_label: int | None = None,
    jit_compile: str = "auto",
    outputs: str = "all",
) -> dict:
    """Evaluates a network, or several with averaged predictions, on a prepared data set.

    Args:
      models: paths of `.keras` files or workdirs.
      data_dir: a data set, see `records.open_dataset`.
      view: which split, how many crops.
      label_order: a file with the data set's class names (synsets), one per line, in the order of
        the models' outputs. None uses a model's `class_names`, or else the data set's order.
      strategy: a `tf.distribute` strategy, or None for one device.
      first_label: see `records.open_dataset`.
      jit_compile: whether XLA compiles the forward pass: "true", "false", or "auto" (on a GPU with
        enough images).
      outputs: for networks with more classes than the data set: "all" counts predictions outside
        the data set as wrong; "restricted" uses only the data set's classes, renormalised to 1.

    Returns:
      The report, JSON-ready.

    Raises:
      FileNotFoundError: a model or the data set does not exist.
      ValueError: a model and the data set do not match, or the data is damaged.
    """
    dataset = records.open_dataset(data_dir, first_label)
    dataset.require_split(view.split)
    strategy = strategy or compilation.default_strategy()
    if outputs not in OUTPUTS:
        raise ValueError(f"outputs is {outputs!r}: expected one of {', '.join(OUTPUTS)}.")
    total: Any = None  # float64 (images, classes), summed over networks
    labels: Any = None
    files: list[str] = []
    notes: list[str] = []
    others: tuple[str, ...] = ()  # the networks' classes that the data set lacks
    for path in models:
        with strategy.scope():
            network = saved_run.open_model(path)
        if note := dataset.exif_note(network.known.get("apply_exif")):
            notes.append(f"{network.path}: {note}")
        names = network.class_names
        if label_order is not None:
            names = saved_run.read_labels(label_order, network.classes)
        own = class_names.outputs_of(network.path, network.classes, names, dataset)
        order = own.order(dataset)
        if outputs == "all":
            order += own.others(order, others if files else None)
            others = tuple(own.names[place] for place in order[dataset.classes :])
        seen = dataset.viewed(network.image_size, network.channels, network.apply_exif)
        views = dataset.counts[view.split] * view.crops
        compiled = compilation.is_worthwhile(jit_compile, strategy, views)
        step = forward_step(network.model, view.crops, strategy, compiled)
        # Resize much larger images: their central crop would show little.
        large = seen.format.image_size > evaluation_data.MOST_CROPS_A_SIDE * network.crop_size
        look = dataclasses.replace(view, image_size=network.image_size if large else None)
        probabilities, labels = split_probabilities(network.model, seen, look, strategy, step=step)
        probabilities = probabilities[:, order]
        if network.classes > len(order):
            sums = probabilities.sum(axis=1, keepdims=True)
            probabilities = probabilities / np.maximum(sums, np.finfo(float).tiny)
        total = probabilities if total is None else total + probabilities
        files.append(network.path)
    result = score(total / len(files), labels)
    found = report(result, (*dataset.synsets, *others), dataset, view, files)
    counted = {"outputs": outputs, "output_classes": dataset.classes + len(others)}
    return {**found, **counted, "notes": notes}


def split_probabilities(
    model,
    dataset: records.PreparedDataset,
    view: EvaluationSettings,
    strategy=None,
    progress: bool = True,
    step=None,
    batches=None,
) -> tuple[np.ndarray, np.ndarray]:
    """Computes class probabilities for each image of a split, averaged over its views.

    Args:
      model: (b, crop, crop, channels) -> probabilities (b, classes); built in the strategy's scope.
      dataset: a prepared data set with the model's number of channels.
      view: which split, how many crops.
      strategy: a `tf.distribute` strategy, or None.
      progress: whether to draw a progress bar on standard error.
      step: a step from `forward_step` to reuse; None creates one.
      batches: from `distributed_batches` with the same arguments, to reuse; None creates them.

    Returns:
      (float64 (n, classes), int (n,)): probabilities and labels, n the split's exact count.

    Raises:
      ValueError: mismatched sizes, damaged data, a wrong number of records, or outputs that are
        not probabilities.
    """
    strategy = strategy or compilation.default_strategy()
    if batches is None:
        batches = distributed_batches(model, dataset, view, strategy)
    count, classes = dataset.counts[view.split], model.output_shape[-1]
    batch_size = _images_per_step(view, count, strategy)
    step = step or forward_step(model, view.crops, strategy)
    results = (_per_replica(strategy, outputs) for outputs in _one_ahead(map(tuple, batches), step))
    results = _with_progress(results, count, batch_size, view) if progress else results
    probabilities = np.zeros((count, classes))
    labels = np.zeros(count, np.int64)
    times_seen = np.zeros(count, np.int64)
    try:
        for replicas in results:
            for outputs, given, indices in replicas:
                outputs, given, indices = outputs.numpy(), given.numpy(), indices.numpy()
                real = indices >= 0
                indices = indices[real]
                if indices.size and indices.max() >= count:
                    raise ValueError(_wrong_count(dataset, view.split, "more"))
                probabilities[indices] = outputs[real]
                labels[indices] = given[real]
                np.add.at(times_seen, indices, 1)
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError) as error:
        first_line = str(error.message).strip().split("\n")[0].rstrip(".")
        raise ValueError(
            f"A record of {dataset.path} ({view.split}) is damaged: {first_line}. Run "
            f"`python -m data_prep.verify --data_dir={dataset.path}`."
        ) from error
    if not (times_seen == 1).all():
        raise ValueError(_wrong_count(dataset, view.split, f"{int((times_seen > 0).sum())}"))
    _require_probabilities(probabilities)
    return probabilities, labels


def distributed_batches(
    model, dataset: records.PreparedDataset, view: EvaluationSettings, strategy, again: bool = False
):
    """The batches of `split_probabilities`, on the strategy's devices.

    Args:
      model, dataset, view, strategy: see `split_probabilities`.
      again: whether they will be iterated several times: those of a small split then stay in
        memory.

    Raises:
      ValueError: mismatched sizes, or a split that does not exist.
    """
    _, crop_size, _, channels = model.input_shape
    if channels != dataset.format.channels:
        raise ValueError(
            f"The network takes {channels} channel(s), but {dataset.path} stores "
            f"{dataset.format.channels}: evaluate it on images like those it was trained on."
        )
    dataset.require_split(view.split)
    count = dataset.counts[view.split]
    size = _images_per_step(view, count, strategy)
    batches = evaluation_data.evaluation_batches(
        dataset, view.split, size, crop_size, view.crops, view.image_size
    )
    shape = (crop_size, crop_size, channels, batches.element_spec[0].dtype.size)  # in bytes
    if again and image_cache.fits(count * view.crops, shape):
        batches = batches.cache()
    return strategy.experimental_distribute_dataset(batches)


def forward_step(model, crops: int, strategy, jit_compile: bool = False):
    """Creates the step of `split_probabilities`, which averages over each image's crops."""
    classes = model.output_shape[-1]

    def averages(images):
        views = tf.reshape(images, (-1, *images.shape[2:]))
        outputs = model(tf.cast(views, tf.float32), training=False)
        outputs = tf.reshape(tf.cast(outputs, tf.float32), (-1, crops, classes))
        return tf.reduce_mean(outputs, axis=1)

    if jit_compile:
        averages = tf.function(averages, jit_compile=True)

    def forward(images, labels, indices):
        return averages(images), labels, indices

    return tf.function(lambda *batch: strategy.run(forward, args=batch))


def score(probabilities: np.ndarray, labels: np.ndarray, confusions: int = 10) -> Score:
    """Computes errors of predictions; ties go to the lower class number.

    Args:
      probabilities: float (n, classes).
      labels: int (n,), 0-based.
      confusions: number of most confused pairs to keep.

    Raises:
      ValueError: no images, different lengths, a label out of range, or NaN.
    """
    probabilities = np.asarray(probabilities, np.float64)
    labels = np.asarray(labels)
    if probabilities.ndim != 2 or len(labels) != len(probabilities) or not len(labels):
        raise ValueError(
            f"Scoring needs one row of probabilities per label, found {probabilities.shape} for "
            f"{len(labels)} labels."
        )
    count, classes = probabilities.shape
    if labels.min() < 0:
        raise ValueError(
            f"{int((labels < 0).sum())} of {count} images have no label (found {labels.min()}): "
            "evaluate a split with labels."
        )
    if labels.max() >= classes:
        raise ValueError(
            f"Labels run from {labels.min()} to {labels.max()}, but the model has {classes} "
            f"classes, 0 to {classes - 1}: the labels are of another data set."
        )
    if np.isnan(probabilities).any():
        # NaN compares false, so it would count as correct.
        raise ValueError("The network's outputs hold NaN: it has diverged; train it again.")
    rows = np.arange(count)
    truth = probabilities[rows, labels]
    lower_number = np.arange(classes)[None] < labels[:, None]
    tied_before = (probabilities == truth[:, None]) & lower_number
    rank = ((probabilities > truth[:, None]) | tied_before).sum(axis=1)
    wrong1, wrong5 = rank >= 1, rank >= 5
    class_counts = np.bincount(labels, minlength=classes)
    class_wrong = np.bincount(labels, weights=wrong1, minlength=classes)
    with np.errstate(invalid="ignore"):
        class_errors = class_wrong / class_counts
    predicted = probabilities.argmax(axis=1)
    pairs, times = np.unique(labels[wrong1] * classes + predicted[wrong1], return_counts=True)
    order = np.lexsort((pairs, -times))[:confusions]
    return Score(
        count=count,
        top1_error=float(wrong1.mean()),
        top1_interval=wilson_interval(int(wrong1.sum()), count),
        top5_error=float(wrong5.mean()),
        top5_interval=wilson_interval(int(wrong5.sum()), count),
        # Keeps the loss finite if a probability underflows to 0.
        loss=float(-np.log(np.maximum(truth, np.finfo(np.float64).tiny)).mean()) + 0.0,  # no -0
        class_counts=class_counts,
        class_errors=class_errors,
        confusions=[
            (int(pairs[i] // classes), int(pairs[i] % classes), int(times[i])) for i in order
        ],
    )


def wilson_interval(successes: int, count: int, z: float = _Z_95) -> tuple[float, float]:
    """Wilson's score interval of a proportion (1927), 95 % by default; valid at 0 and 1 too."""
    if not 0 <= successes <= count or count < 1:
        raise ValueError(f"{successes} of {count} is no proportion.")
    share = successes / count
    centre = share + z * z / (2 * count)
    spread = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def report(
    result: Score,
    names: Sequence[str],
    dataset: records.PreparedDataset,
    view: EvaluationSettings,
    files: Iterable[str],
) -> dict:
    """A score and its settings, JSON-ready; `names` are the classes of the scored columns."""
    return {
        "models": list(files),
        "data_dir": dataset.path,
        "split": view.split,
        "crops": view.crops,
        "count": result.count,
        "classes": dataset.classes,
        "top1_error": result.top1_error,
        "top1_error_interval_95": list(result.top1_interval),
        "top5_error": result.top5_error,
        "top5_error_interval_95": list(result.top5_interval),
        "loss": result.loss,
        "per_class": [
            {"class": names[i], "count": int(n), "top1_error": float(error)}
            for i, (n, error) in enumerate(
                zip(result.class_counts, result.class_errors, strict=True)
            )
            if n
        ],
        "most_confused": [
            {"true": names[true], "predicted": names[predicted], "times": times}
            for true, predicted, times in result.confusions
        ],
    }


def _images_per_step(view: EvaluationSettings, count: int, strategy) -> int:
    """Images per step: a multiple of the replicas, no more than the split needs."""
    replicas = strategy.num_replicas_in_sync
    per_replica = max(1, replica_batch_size(view.batch_size, replicas) // view.crops)
    return replicas * min(per_replica, -(-count // replicas))


def _per_replica(strategy, outputs) -> list[tuple]:
    parts = [strategy.experimental_local_results(output) for output in outputs]
    return list(zip(*parts, strict=True))


def _one_ahead(batches, step):
    """Yields the step's outputs of each batch; the next step runs while they are read."""
    outputs = None
    for batch in batches:
        following = step(*batch)
        if outputs is not None:
            yield outputs
        outputs = following
    if outputs is not None:
        yield outputs


def _with_progress(results, count: int, batch_size: int, view: EvaluationSettings):
    from alexnet_tf.progress import tqdm

    label = f"evaluate {view.split}" + (f" ({view.crops} crops)" if view.crops > 1 else "")
    with tqdm(total=count, unit="image", desc=label) as bar:
        for done, result in enumerate(results):
            yield result
            bar.update(min(batch_size, count - done * batch_size))


def _wrong_count(dataset: records.PreparedDataset, split: str, found: str) -> str:
    return (
        f"{dataset.path} says that {split} has {dataset.counts[split]} images, but its records "
        f"hold {found}: run `python -m data_prep.verify --data_dir={dataset.path}`."
    )


def _require_probabilities(outputs: np.ndarray) -> None:
    if np.isnan(outputs).any():
        raise ValueError("The network's outputs hold NaN: it has diverged; train it again.")
    sums = outputs.sum(axis=1)
    if outputs.min() < -1e-6 or np.abs(sums - 1).max() > 1e-2:
        raise ValueError(
            f"The network's outputs are no probabilities (they sum to {sums.min():.3g} to "
            f"{sums.max():.3g}): averaging needs a softmax at the end "
            '(classifier_activation="softmax").'
        )
