"""Records to training batches.

The device gets uint8 images as they are stored, labels, and the random draws with which it augments
them (`augmentation`). Order and draws are functions of (seed, epoch, position in the epoch), so an
image comes out the same on any number of replicas and workers, and a run can resume at any step.

    shards, shuffled -> records, interleaved -> shuffled -> (record, draws) -> decode -> batch
        -> device: crop, mirror, cast, colour noise

Records of JPEGs or raw pixels on a local disk are passed on as numbers, and their images are read
when the batch is made (`located_records`). Bits and order are the same.
"""

import dataclasses
import math

import tensorflow as tf

from alexnet_tf.data import augmentation as randomness
from alexnet_tf.data import records
from alexnet_tf.data.augmentation import Augmentation
from alexnet_tf.data.evaluation_data import stored_image
from alexnet_tf.data.located_records import LocatedRecords
from alexnet_tf.data.options import with_options
from alexnet_tf.machine import usable_processors

SPLIT = "train"  # that is trained on
_INTERLEAVED_SHARDS = 16
_MOST_DECODED = 4 << 30  # bytes of images that are decoded at a time


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Which images of a run are wanted, in which order, from which step.

    Attributes:
      batch_size: images in a global batch.
      epochs: epochs of the whole run, counted from 0.
      seed: of order, crops, mirrors and noise.
      first_step: batches that are already done.
      replicas: number of replicas over which a global batch is split, in order.
      workers: number of input pipelines; `worker` is this one's number.
      shuffle_buffer: encoded images held to shuffle them (at 256 pixels about 36 KB each as JPEG,
        197 KB raw; on a local disk only their numbers); the records were already shuffled when
        they were written.
    """

    batch_size: int
    epochs: int
    seed: int = 0
    first_step: int = 0
    replicas: int = 1
    workers: int = 1
    worker: int = 0
    shuffle_buffer: int = 4096

    def __post_init__(self):
        replica_batch_size(self.batch_size, self.replicas)


def replica_batch_size(batch_size: int, replicas: int) -> int:
    """Images of a global batch that each replica gets.

    Raises:
      ValueError: the batch cannot be split evenly.
    """
    if batch_size < 1 or batch_size % replicas:
        raise ValueError(
            f"The batch size {batch_size} cannot be split over {replicas} replicas: use a multiple "
            f"of {replicas} for --batch_size."
        )
    return batch_size // replicas


def steps_per_epoch(dataset: records.PreparedDataset, batch_size: int) -> int:
    """Full batches in one epoch; the last, short batch of an epoch is not trained on.

    Raises:
      ValueError: there are fewer training images than a batch has, or none.
    """
    dataset.require_split(SPLIT)
    steps = dataset.counts[SPLIT] // batch_size
    if not steps:
        raise ValueError(
            f"{dataset.path} has {dataset.counts[SPLIT]} {SPLIT} images, fewer than the batch "
            f"size {batch_size}: use a smaller --batch_size."
        )
    return steps


def training_batches(
    dataset: records.PreparedDataset, augmentation: Augmentation, schedule: Schedule
) -> tf.data.Dataset:
    """Augmented batches of a whole run, from `schedule.first_step` to its end, for `model.fit`.

    Returns:
      A dataset of (images: float32 (b, crop, crop, channels) in RGB 0..255 (colour noise may leave
      the range), labels: int64 (b,)), with b = batch_size / replicas: `replicas` consecutive
      elements are one global batch.
    """
    return training_stages(dataset, augmentation, schedule)["augment"]


def training_inputs(
    dataset: records.PreparedDataset, augmentation: Augmentation, schedule: Schedule
) -> tf.data.Dataset:
    """The same batches before augmentation, as the training step takes them.

    Returns:
      A dataset of (images (b, h, w, channels) as stored: uint8, or float32 where images of other
      sizes are brought to the format's; labels int64 (b,); draws, a dictionary, see
      `Augmentation.draws`).
    """
    return training_stages(dataset, augmentation, schedule)["decode"].prefetch(2)


def training_stages(
    dataset: records.PreparedDataset, augmentation: Augmentation, schedule: Schedule
) -> dict[str, tf.data.Dataset]:
    """The pipeline, cut off after each of its stages, for benchmarks.

    Returns:
      Name -> dataset of batches: "read" (records, or numbers of local ones; draws), "decode" (what
      `training_inputs` gives) and "augment" (what `training_batches` gives).
    """
    located = _located(dataset)
    rows_of = epoch_rows(dataset, augmentation, schedule, located)
    first_epoch = schedule.first_step // steps_per_epoch(dataset, schedule.batch_size)
    size = replica_batch_size(schedule.batch_size, schedule.replicas)
    rows = tf.data.Dataset.range(first_epoch, schedule.epochs).flat_map(rows_of)
    decoded = decoded_batches(rows, dataset, size, located)

    def finish(images, labels, draws):
        return augmentation.compiled(images, draws), labels

    stages = {
        "read": rows.batch(size, drop_remainder=True),
        "decode": decoded,
        "augment": decoded.map(finish, num_parallel_calls=1).prefetch(2),
    }
    return {name: with_options(stage) for name, stage in stages.items()}


def bytes_in_memory(dataset: records.PreparedDataset) -> int:
    """Bytes of the training images that stay in memory once they are read; 0 if none do."""
    located = _located(dataset)
    return located.bytes_in_memory if located else 0


def epoch_rows(
    dataset: records.PreparedDataset,
    augmentation: Augmentation,
    schedule: Schedule,
    located: LocatedRecords | None = None,
):
    """A function from an epoch (int64 tensor) to its images, still encoded, and draws.

    It returns a dataset of (record, row of draws) in the epoch's order: whole batches, or the
    worker's share of each; in the epoch of schedule.first_step only the rest. With `located` a
    record is its number there.

    Raises:
      ValueError: a crop that is larger than the stored images.
    """
    steps = steps_per_epoch(dataset, schedule.batch_size)
    if augmentation.crop_size > dataset.format.image_size:
        raise ValueError(
            f"The network takes {augmentation.crop_size} pixels, but {dataset.path} stores "
            f"{dataset.format.image_size}: prepare it with a larger --image_size."
        )
    first_epoch, first_step = divmod(schedule.first_step, steps)

    def rows_of(epoch):
        encoded = _shuffled_records(dataset.shards[SPLIT], schedule, epoch, located)
        draws = augmentation.draws(dataset, schedule.seed, epoch, steps * schedule.batch_size)
        done = tf.where(epoch == first_epoch, first_step, 0)
        rows = tf.data.Dataset.zip(encoded, draws)
        rows = rows.skip(tf.cast(done, tf.int64) * schedule.batch_size)
        if schedule.workers == 1:
            return rows
        share = schedule.batch_size // schedule.workers

        def is_ours(position, row):
            return (position % schedule.batch_size) // share == schedule.worker

        return rows.enumerate().filter(is_ours).map(lambda position, row: row)

    return rows_of


def _located(dataset) -> LocatedRecords | None:
    """Records whose images can be read by position; None if they cannot."""
    files, counts = dataset.shards[SPLIT], dataset.shard_counts.get(SPLIT, ())
    local = "://" not in dataset.path and len(files) == len(counts)
    if not local or dataset.format.encoding == "any":
        return None
    return LocatedRecords(files, counts, dataset.format, dataset.keys)


def _shuffled_records(shards, schedule, epoch, located) -> tf.data.Dataset:
    """Records of one epoch in its order: serialised, or their numbers."""
    files = tf.constant(shards)
    seed = randomness.stream(schedule.seed, randomness.ORDER, epoch)
    order = tf.argsort(tf.random.stateless_uniform([len(shards)], seed))
    cycle = min(_INTERLEAVED_SHARDS, len(shards))
    elements = tf.data.Dataset.from_tensor_slices(order).interleave(
        located.of_shard if located else lambda shard: tf.data.TFRecordDataset(files[shard]),
        cycle_length=cycle,
        # Not for numbers: passing one to another thread takes longer than all else. The order is
        # the same.
        num_parallel_calls=None if located else min(cycle, 4),
    )
    mixed = tf.constant(schedule.seed, tf.int64) * 1_000_003 + tf.cast(epoch, tf.int64)
    # `elements.shuffle` mixes the global seed into its own and makes a stateful operation: under
    # deterministic operations tf.data would then run nothing in parallel or ahead.
    shuffled = tf.raw_ops.ShuffleDataset(
        input_dataset=tf.data.experimental.to_variant(elements),
        buffer_size=tf.constant(schedule.shuffle_buffer, tf.int64),
        seed=tf.constant(1, tf.int64),
        seed2=mixed % (2**31 - 1),
        output_types=[elements.element_spec.dtype],
        output_shapes=[elements.element_spec.shape],
        # One dataset per epoch: iterating it again must not draw a new order.
        reshuffle_each_iteration=False,
    )
    return tf.data.experimental.from_variant(shuffled, elements.element_spec)


def decoded_batches(
    rows: tf.data.Dataset,
    dataset: records.PreparedDataset,
    size: int,
    located: LocatedRecords | None = None,
    calls: int | None = None,
) -> tf.data.Dataset:
    """Batches of `size` of what `epoch_rows` gives, as `training_inputs` returns them.

    `calls` records are decoded at once if they are not local; None is one per processor.
    """
    if located is None:

        def decode(serialized, draws):
            encoded, label = records.parse_example(serialized, dataset.keys)
            image = stored_image(encoded, dataset.format)
            return tf.ensure_shape(image, dataset.format.shape), label, draws

        decoded = rows.map(decode, num_parallel_calls=calls or usable_processors())
        return decoded.batch(size, drop_remainder=True)

    def read(numbers, draws):
        return *located.images(numbers), draws

    # One call per processor, within memory, since each holds a batch.
    most = _MOST_DECODED // (size * math.prod(dataset.format.shape))
    calls = max(1, min(usable_processors(), most))
    return rows.batch(size, drop_remainder=True).map(read, num_parallel_calls=calls)
