"""Records to training batches.

Every random number is a function of (seed, epoch, position in the epoch): one stateless call draws
the whole epoch's table, and row n belongs to the n-th picture of the epoch. So the same picture
comes out the same on any number of replicas and workers, and a run can go on at any step.

    shards, shuffled -> records, interleaved -> shuffled -> (record, row of draws)
        -> decode and crop -> batch -> mirror, colour noise (one XLA program) -> prefetch

Records of JPEGs or raw pixels on a local disk go through as numbers, and their crops are read when
a batch is made (`located_records`). The bits and the order are the same.
"""

import dataclasses
import os

import numpy as np
import tensorflow as tf

from alexnet_tf.data import records
from alexnet_tf.data.evaluation_data import stored_picture
from alexnet_tf.data.located_records import LocatedRecords
from alexnet_tf.data.preprocessing import ColourNoise

_INTERLEAVED_SHARDS = 16
_MOST_DECODED = 1 << 30  # bytes of crops that are decoded at a time
# Draws of one epoch: which of them is which. Each stream has a number of its own.
_ORDER, _CROP, _MIRROR, _NOISE = range(4)


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What training does to a picture.

    Attributes:
      crop_size: height and width of the random crop, at most the stored size.
      border: pixels of black around the picture from which the crop may take too: with a crop of
        the stored size it moves the picture by up to so many.
      mirror: whether half of the pictures are mirrored left to right.
      crop_group: consecutive pictures that share one crop and mirror draw. 1 draws for each; the
        original program's 32 is one draw per chunk (convdata_jpeg.py).
      noise: the colour noise, or None.
      noise_epochs: epochs with colour noise; None for all. The original runs ended without it.
    """

    crop_size: int = 224
    border: int = 0
    mirror: bool = True
    crop_group: int = 1
    noise: ColourNoise | None = None
    noise_epochs: int | None = None


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Which pictures of a run are wanted, and where the run stands.

    Attributes:
      batch_size: pictures in a global batch.
      epochs: epochs of the whole run, counted from 0.
      seed: of order, crops, mirrors and noise.
      first_step: step at which to go on: batches that are already done.
      replicas: over how many replicas a global batch is split, in order.
      workers: over how many input pipelines; `worker` is this one's number.
    """

    batch_size: int
    epochs: int
    seed: int = 0
    first_step: int = 0
    replicas: int = 1
    workers: int = 1
    worker: int = 0

    def __post_init__(self):
        if self.batch_size < 1 or self.batch_size % self.replicas:
            raise ValueError(
                f"The batch size {self.batch_size} cannot be split over {self.replicas} replicas: "
                f"use a multiple of {self.replicas}."
            )


def steps_per_epoch(dataset: records.PreparedDataset, batch_size: int, split: str = "train") -> int:
    """Full batches in one epoch; the last, short batch of an epoch is not trained on.

    Raises:
      ValueError: the split has fewer pictures than a batch.
    """
    dataset.require_split(split)
    steps = dataset.counts[split] // batch_size
    if not steps:
        raise ValueError(
            f"{dataset.path} has {dataset.counts[split]} {split} pictures, fewer than the batch "
            f"size {batch_size}: use a smaller --batch_size."
        )
    return steps


def training_batches(
    dataset: records.PreparedDataset,
    augmentation: Augmentation,
    schedule: Schedule,
    split: str = "train",
    shuffle_buffer: int = 4096,
) -> tf.data.Dataset:
    """Augmented batches of a whole run, from `schedule.first_step` to its end.

    Args:
      dataset: a prepared data set.
      augmentation: what happens to a picture.
      schedule: which pictures, in which order, from where.
      split: the split to train on.
      shuffle_buffer: encoded pictures that are held to shuffle them (at 256 pixels about 36 KB each
        as JPEG, 197 KB raw; on a local disk mostly their numbers); the records themselves were
        shuffled when they were written.

    Returns:
      A dataset of (images: float32 (b, crop, crop, channels) in RGB 0..255 (colour noise may leave
      the range), labels: int64 (b,)), with b = batch_size / replicas: `replicas` consecutive
      elements are one global batch.
    """
    return training_stages(dataset, augmentation, schedule, split, shuffle_buffer)["augment"]


def training_stages(
    dataset: records.PreparedDataset,
    augmentation: Augmentation,
    schedule: Schedule,
    split: str = "train",
    shuffle_buffer: int = 4096,
) -> dict[str, tf.data.Dataset]:
    """`training_batches`, cut off after each of its stages, to see where the time goes.

    Returns:
      Name -> dataset of batches: "read" (records, or numbers of local ones; draws), "decode" (uint8
      crops, labels, draws) and "augment", the whole pipeline.
    """
    located = None if augmentation.border else _located(dataset, split)
    rows_of = epoch_rows(dataset, augmentation, schedule, split, shuffle_buffer, located)
    first_epoch = schedule.first_step // steps_per_epoch(dataset, schedule.batch_size, split)
    options = tf.data.Options()
    options.deterministic = True
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    size = schedule.batch_size // schedule.replicas
    rows = tf.data.Dataset.range(first_epoch, schedule.epochs).flat_map(rows_of)
    read = rows.batch(size, drop_remainder=True)
    decoded = decoded_batches(rows, dataset, augmentation, size, located)
    augmented = decoded.map(finisher(augmentation), num_parallel_calls=1).prefetch(2)
    stages = {"read": read, "decode": decoded, "augment": augmented}
    return {name: stage.with_options(options) for name, stage in stages.items()}


def epoch_rows(
    dataset: records.PreparedDataset,
    augmentation: Augmentation,
    schedule: Schedule,
    split: str = "train",
    shuffle_buffer: int = 4096,
    located: LocatedRecords | None = None,
):
    """A function of an epoch (int64 tensor) that gives its pictures, still encoded, and draws.

    Its dataset holds (record, row of draws) in the epoch's order: whole batches, or the worker's
    share of each; of schedule.first_step's epoch only what is not done. With `located` a record
    is its number there. Arguments as in `training_batches`.
    """
    steps = steps_per_epoch(dataset, schedule.batch_size, split)
    if augmentation.crop_size > dataset.format.image_size:
        raise ValueError(
            f"The network takes {augmentation.crop_size} pixels, but {dataset.path} stores "
            f"{dataset.format.image_size}: prepare it with a larger --image_size."
        )
    first_epoch, first_step = divmod(schedule.first_step, steps)

    def rows_of(epoch):
        rows = tf.data.Dataset.zip(
            _shuffled_records(
                dataset.shards[split],
                schedule.seed,
                epoch,
                shuffle_buffer,
                located and located.of_shard,
            ),
            epoch_draws(augmentation, dataset, schedule.seed, epoch, steps * schedule.batch_size),
        )
        done = tf.where(epoch == first_epoch, first_step, 0)
        rows = rows.skip(tf.cast(done, tf.int64) * schedule.batch_size)
        if schedule.workers == 1:
            return rows
        share = schedule.batch_size // schedule.workers

        def is_ours(position, row):
            return (position % schedule.batch_size) // share == schedule.worker

        return rows.enumerate().filter(is_ours).map(lambda position, row: row)

    return rows_of


def _stream(seed: int, kind: int, epoch: tf.Tensor) -> tf.Tensor:
    """The seed of one kind of draw in one epoch."""
    return tf.stack([tf.constant(seed * 4 + kind, tf.int64), tf.cast(epoch, tf.int64)])


def _located(dataset, split) -> LocatedRecords | None:
    """Records whose pictures can be read from where they stand; None for all others."""
    files, counts = dataset.shards[split], dataset.shard_counts.get(split, ())
    local = "://" not in dataset.path and len(files) == len(counts)
    if not local or dataset.format.encoding == "any":
        return None
    return LocatedRecords(files, counts, dataset.format, dataset.keys)


def _shuffled_records(shards, seed, epoch, buffer, of_shard=None) -> tf.data.Dataset:
    """Records of one epoch in its order: serialised, or what `of_shard` makes of shard numbers."""
    files = tf.constant(shards)
    order = tf.argsort(tf.random.stateless_uniform([len(shards)], _stream(seed, _ORDER, epoch)))
    cycle = min(_INTERLEAVED_SHARDS, len(shards))
    elements = tf.data.Dataset.from_tensor_slices(order).interleave(
        of_shard or (lambda shard: tf.data.TFRecordDataset(files[shard])),
        cycle_length=cycle,
        num_parallel_calls=min(cycle, 4),
    )
    mixed = tf.constant(seed, tf.int64) * 1_000_003 + tf.cast(epoch, tf.int64)
    # `elements.shuffle` mixes the global seed into its own, and makes an operation with a state:
    # where operations must be deterministic, tf.data would then run nothing in parallel or ahead.
    shuffled = tf.raw_ops.ShuffleDataset(
        input_dataset=tf.data.experimental.to_variant(elements),
        buffer_size=tf.constant(buffer, tf.int64),
        seed=tf.constant(1, tf.int64),
        seed2=mixed % (2**31 - 1),
        output_types=[elements.element_spec.dtype],
        output_shapes=[elements.element_spec.shape],
        # One dataset per epoch: it must not draw a new order when it is iterated again.
        reshuffle_each_iteration=False,
    )
    return tf.data.experimental.from_variant(shuffled, elements.element_spec)


def epoch_draws(augmentation, dataset, seed, epoch, count) -> tf.data.Dataset:
    """Row n: crop offset (top, left), mirrored or not, colour shift, divisor, of picture n."""
    offsets = dataset.format.image_size + 2 * augmentation.border - augmentation.crop_size + 1
    groups = -(-count // augmentation.crop_group)

    def of_groups(values):
        return tf.repeat(values, augmentation.crop_group, axis=0)[:count]

    crop = tf.random.stateless_uniform(
        [groups, 2], _stream(seed, _CROP, epoch), maxval=offsets, dtype=tf.int32
    )
    draws = {"crop": of_groups(crop)}
    if augmentation.mirror:
        mirror = tf.random.stateless_uniform([groups], _stream(seed, _MIRROR, epoch)) < 0.5
        draws["mirror"] = of_groups(mirror)
    if augmentation.noise is not None:
        noise = augmentation.noise
        on = True
        if augmentation.noise_epochs is not None:
            on = epoch < augmentation.noise_epochs
        normal = tf.random.stateless_normal([count, 3], _stream(seed, _NOISE, epoch))
        draws["shift"] = tf.where(on, noise.shifts(normal), 0.0)
        draws["divisor"] = tf.fill([count], tf.where(on, np.float32(noise.divisor), 1.0))
    return tf.data.Dataset.from_tensor_slices(draws)


def decoded_batches(
    rows: tf.data.Dataset,
    dataset: records.PreparedDataset,
    augmentation: Augmentation,
    size: int,
    located: LocatedRecords | None = None,
) -> tf.data.Dataset:
    """Batches of `size` of what `epoch_rows` gives, for `finisher`.

    Returns:
      A dataset of (uint8 crops, int64 labels, the draws that are left).
    """
    if located is None:
        decoded = rows.map(_decoder(dataset, augmentation), num_parallel_calls=tf.data.AUTOTUNE)
        return decoded.batch(size, drop_remainder=True)

    def read(numbers, draws):
        pictures, labels = located.crops(numbers, draws.pop("crop"), augmentation.crop_size)
        return pictures, labels, draws

    # Two threads keep up with raw pixels; JPEGs take the processors that there are, as far as
    # memory goes: each has a batch in hand. (tf.data's own choice may change while Python ends,
    # which `located_records` must know the last call of.)
    calls = 2
    if dataset.format.encoding == "jpeg":
        each = size * augmentation.crop_size**2 * dataset.format.channels
        calls = max(1, min(_processors(), _MOST_DECODED // each))
    return rows.batch(size, drop_remainder=True).map(read, num_parallel_calls=calls)


def _processors() -> int:
    """Those that this process may use, where the system tells."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _decoder(dataset: records.PreparedDataset, augmentation: Augmentation):
    """A function from (record, draws) to (uint8 crop, label, the draws that are left)."""
    record_format = dataset.format
    size, border = augmentation.crop_size, augmentation.border

    def decode(serialized, draws):
        encoded, label = records.parse_example(serialized, dataset.keys)
        # The whole picture: TensorFlow's operation that decodes just a crop takes the crop's right
        # edge for the picture's, and its last column has other colours, by up to 7 grey levels.
        pixels = tf.ensure_shape(stored_picture(encoded, record_format), record_format.shape)
        pixels = tf.pad(pixels, [[border, border], [border, border], [0, 0]])
        corner = tf.concat([draws["crop"], [0]], axis=0)
        image = tf.slice(pixels, corner, [size, size, record_format.channels])
        return image, label, {name: draws[name] for name in draws if name != "crop"}

    return decode


def finisher(augmentation: Augmentation):
    """A function from what `decoded_batches` gives to (float32 batch, labels)."""

    # One XLA program fuses mirror, cast and noise into one pass over the batch. It is part of the
    # input pipeline, which is never exported.
    @tf.function(jit_compile=True)
    def finish(images, draws):
        if "mirror" in draws:
            mirrored = tf.reverse(images, axis=[2])
            images = tf.where(draws["mirror"][:, None, None, None], mirrored, images)
        images = tf.cast(images, tf.float32)
        if "shift" in draws and augmentation.noise is not None:
            images = augmentation.noise.add(images, draws["shift"], draws["divisor"])
        return images

    return lambda images, labels, draws: (finish(images, draws), labels)
