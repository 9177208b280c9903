"""Batches with every image of a split exactly once, for any number of replicas.

A short batch is filled with black images of index -1 and label -1, so that all batches have one
shape and divide evenly among replicas. Metrics must skip these.
"""

import tensorflow as tf

from alexnet_tf.data import preprocessing, records
from alexnet_tf.data.options import with_options
from alexnet_tf.machine import usable_processors

# The paper's two ways to look at a test image (section 4.1), and the nine views of CIFAR-10.
CROPS = (1, 9, 10)
# The largest ratio of an image's side to the crop's; beyond it a crop shows next to nothing.
# Published recipes have 1.3 at most.
MOST_CROPS_A_SIDE = 3


def evaluation_batches(
    dataset: records.PreparedDataset,
    split: str,
    batch_size: int,
    crop_size: int,
    crops: int = 1,
    image_size: int | None = None,
) -> tf.data.Dataset:
    """Reads a split once, in the order of its shards.

    Args:
      dataset: from `records.open_dataset`.
      split: a split that the data set has.
      batch_size: images in a batch, over all replicas.
      crop_size: the network's input size.
      crops: 1 (centre), 9 or 10 (see `preprocessing.nine_crop` and `ten_crop`).
      image_size: the square to which images are brought first; None for the stored one.

    Returns:
      A data set of (images, labels, indices): images
      (batch_size, crops, crop_size, crop_size, channels), RGB or grey, 0..255, uint8 where they are
      cut out of stored ones and float32 where those had to be resized; labels int32 (batch_size,);
      indices int64 (batch_size,), the image's position in the split, or -1 for a filler that is no
      image.

    Raises:
      ValueError: the split is missing, or an argument is out of range.
    """
    dataset.require_split(split)
    if crops not in CROPS:
        raise ValueError(f"Evaluation knows 1, 9 or 10 crops, not {crops}.")
    if batch_size < 1:
        raise ValueError(f"The batch size is {batch_size}; it must be at least 1.")

    # Images smaller than the network's input are enlarged to it.
    image_size = max(image_size or dataset.format.image_size, crop_size)

    def to_example(index, serialized):
        encoded, label = records.parse_example(serialized, dataset.keys)
        image = tf.ensure_shape(stored_image(encoded, dataset.format), dataset.format.shape)
        views = evaluation_views(image, crop_size, crops, image_size)
        return views, tf.cast(label, tf.int32), index

    def fill_up(images, labels, indices):
        missing = batch_size - tf.shape(labels)[0]

        def padded(values, filler):
            pads = [[0, missing]] + [[0, 0]] * (len(values.shape) - 1)
            full = tf.pad(values, pads, constant_values=filler)
            return tf.ensure_shape(full, (batch_size, *values.shape[1:]))

        return padded(images, 0), padded(labels, -1), padded(indices, -1)

    # One file after the other: the order, and with it each image's index, stays the same.
    files = tf.data.TFRecordDataset(list(dataset.shards[split]), buffer_size=8 << 20)
    examples = files.enumerate().map(to_example, num_parallel_calls=usable_processors())
    return with_options(examples.batch(batch_size).map(fill_up).prefetch(2))


def stored_image(encoded: tf.Tensor, record_format: records.RecordFormat) -> tf.Tensor:
    """The (height, width, channels) image of a record's image bytes (string scalar).

    uint8; float32, 0..255, where images of any size are brought to the format's.
    """
    if record_format.encoding == "raw":
        return tf.reshape(tf.io.decode_raw(encoded, tf.uint8), record_format.shape)
    image = preprocessing.decode(encoded, record_format.channels, record_format.apply_exif)
    if record_format.encoding == "any":
        return preprocessing.central_square(image, record_format.image_size)
    return image


def evaluation_views(image: tf.Tensor, crop_size: int, crops: int, image_size: int) -> tf.Tensor:
    """The views of one image: (crops, crop_size, crop_size, channels), 0..255.

    float32; of the image's type where its shape is known to be the square's, so that nothing has to
    be resized.

    Args:
      image: (height, width, channels) of any size, uint8 or float, 0..255.
      crop_size: the network's input size.
      crops: 1, 9 or 10.
      image_size: the square from which the views are cut, at least `crop_size`.
    """
    square = image
    if tuple(image.shape[:2]) != (image_size, image_size):
        square = preprocessing.central_square(image, image_size)
    if crops == 1:
        return preprocessing.central_crop(square, crop_size)[tf.newaxis]
    if crops == 9:
        return preprocessing.nine_crop(square, crop_size)
    return preprocessing.ten_crop(square, crop_size)
