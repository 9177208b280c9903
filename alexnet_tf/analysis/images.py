"""Reads the images to inspect: records of a data set as a network sees it, or a file."""

import os

import numpy as np
import tensorflow as tf

from alexnet_tf import memory
from alexnet_tf.data import evaluation_data, preprocessing, records, untrusted
from alexnet_tf.data.options import with_options
from alexnet_tf.models.saved_run import TrainedModel


def dataset_for(network: TrainedModel, data_dir: str) -> records.PreparedDataset:
    """A data set with its images as the network sees them."""
    dataset = records.open_dataset(data_dir)
    return dataset.viewed(network.image_size, network.channels, network.apply_exif)


def of_split(
    dataset: records.PreparedDataset, split: str, number: int
) -> tuple[np.ndarray, str | None]:
    """A record's image and its class.

    Args:
      dataset: a prepared data set.
      split: its split.
      number: which record, counted from 0 in the shards' order.

    Returns:
      (uint8 (size, size, channels), class name or None for an image without a label).

    Raises:
      ValueError: no such split or record.
    """
    dataset.require_split(split)
    count = dataset.counts[split]
    if not 0 <= number < count:
        raise ValueError(
            f"There is no image {number} in {split} of {dataset.path}: expected 0 to {count - 1}."
        )
    files = tf.data.TFRecordDataset(list(dataset.shards[split]))
    for serialized in with_options(files.skip(number).take(1)):
        encoded, label = records.parse_example(serialized, dataset.keys)
        image = evaluation_data.stored_image(encoded, dataset.format).numpy()
        known = 0 <= int(label) < dataset.classes
        return image, dataset.synsets[int(label)] if known else None
    raise ValueError(
        f"{dataset.path} says that {split} has {count} images, but its records end before: run "
        f"`python -m data_prep.verify --data_dir={dataset.path}`."
    )


def of_file(path: str, size: int, channels: int = 3, apply_exif: bool = False) -> np.ndarray:
    """An image file of any size as the square that a data set would store.

    Args:
      path: a JPEG or PNG.
      size: side of the square in pixels.
      channels: 3 or 1.
      apply_exif: whether to apply the EXIF orientation.

    Returns:
      uint8 (size, size, channels).

    Raises:
      FileNotFoundError, ValueError: see `decoded_file`.
    """
    image = decoded_file(path, channels, apply_exif)
    square = preprocessing.evaluation_crop(image, size, size)
    return tf.cast(tf.round(square), tf.uint8).numpy()


def decoded_file(path: str, channels: int = 3, apply_exif: bool = False) -> tf.Tensor:
    """An image file as it is: uint8 (height, width, channels).

    Args:
      path: a JPEG or PNG.
      channels: 3 or 1.
      apply_exif: whether to apply the EXIF orientation.

    Raises:
      FileNotFoundError: no such file.
      ValueError: not an image, a damaged one, or one that is too large.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"There is no image {path}: name a JPEG or PNG file.")
    try:
        return untrusted.decode_untrusted(tf.io.read_file(path), channels, apply_exif)
    except tf.errors.InvalidArgumentError as error:
        raise ValueError(
            f"{path} cannot be used as an image ({_reason(error)}): expected a whole JPEG or PNG "
            f"of at most {memory.MAX_PIXELS:,} pixels, at most {untrusted.MAX_ASPECT_RATIO} "
            "times as long as wide."
        ) from error


def show(axes, image: np.ndarray) -> None:
    """Draws uint8 or float (h, w, 1 or 3), 0..255, without ticks; values outside are clipped."""
    pixels = np.clip(np.asarray(image, np.float64) / 255, 0, 1).squeeze()
    axes.imshow(pixels, cmap="gray" if pixels.ndim == 2 else None, vmin=0, vmax=1)
    axes.set_xticks([])
    axes.set_yticks([])


def _reason(error: tf.errors.OpError) -> str:
    """What TensorFlow says, without its own names of ops."""
    text = " ".join(str(error.message).split())
    if "neither a JPEG nor a PNG" in text:
        return "it is neither a JPEG nor a PNG"
    if "Images may have" in text:
        return "its size is out of range"
    return "it is damaged"
