"""Helpers for callers: resize images to a network's input, and name its predictions."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np


def preprocess_input(images: Any, variant: str = "alexnet") -> Any:
    """Resizes and crops images to a network's input. The network itself subtracts the mean.

    Args:
      images: one image (height, width, channels) or several: an array (n, height, width, channels)
        or a list of images of different sizes; also PIL images, and grey ones (height, width).
        RGB, 0..255, any numeric dtype. Grey becomes three equal channels; a fourth channel (alpha)
        is dropped with a warning; for a network that takes grey, RGB becomes grey.
        Inside `tf.data.Dataset.map` a tensor: an image, or a batch of one size.
      variant: a name of `alexnet_tf.list_models()`.

    Returns:
      float32 (n, crop, crop, channels), 0..255; n is 1 for one image. The shorter side becomes 256
      (area-averaged when shrinking, bicubic when enlarging), then the centre is cropped, as in
      evaluation and serving. Inside `tf.data.Dataset.map` a tensor, without n for one image.

    Raises:
      ValueError: an unknown variant, no image, or an array that is not an image.
    """
    import tensorflow as tf

    from alexnet_tf.data.preprocessing import evaluation_crop
    from alexnet_tf.models.catalog import find_variant
    from alexnet_tf.models.pixel_range import warn_of_unit_range

    found = find_variant(variant)
    size, channels = found.crop_size, found.channels
    # Networks for small images see the whole image; the others a crop of 256.
    stored = 256 if size > 128 else size
    if tf.is_tensor(images) and not tf.executing_eagerly():
        if images.shape.rank not in (3, 4):
            raise ValueError(
                f"Found a tensor of shape {images.shape}: expected (height, width, channels) or "
                "(batch, height, width, channels); tf.io.decode_image gives it with "
                "expand_animations=False."
            )
        return evaluation_crop(_in_channels(images, channels), size, stored)
    arrays = [_array(image) for image in _several(images)]
    if not arrays:
        raise ValueError("Found no image: expected (height, width, 3) or a list of such.")
    if all(array.size and array.min() >= 0 and array.max() <= 1 for array in arrays):
        warn_of_unit_range(np.concatenate([array.ravel() for array in arrays]))
    crops = [
        evaluation_crop(_in_channels(tf.constant(array), channels), size, stored)
        for array in arrays
    ]
    return tf.stack(crops).numpy()


def decode_predictions(
    probs: Sequence | np.ndarray,
    top: int = 5,
    classes: Any = None,
) -> list[list[tuple[str, str, float]]]:
    """Returns the most probable classes, in the format of `keras.applications`.

    Args:
      probs: array (b, n) of probabilities or other scores.
      top: number of classes per image, 1..n; the default of 5 is allowed if there are fewer.
      classes: the network that computed them, whose file has its class names; or the n names of
        its outputs. None for ILSVRC-2012's 1000 in the order of the sorted synsets.

    Returns:
      For each image a list of `top` triples (synset, name, score), best first; equal scores in
      the order of the classes. A class that is not a synset of ILSVRC-2012 has its name twice.

    Raises:
      ValueError: an array of another shape, `top` out of range, or a network without class names.
    """
    from alexnet_tf.data import imagenet

    if hasattr(classes, "layers"):
        from alexnet_tf.models import knowledge

        names = knowledge.of(classes).get("class_names")
        if names is None and classes.output_shape[-1] != imagenet.CLASSES:
            raise ValueError(
                f"The network {classes.name!r} does not know the names of its classes: give them "
                "as classes=[...], in the order of its outputs."
            )
        classes = names
    return imagenet.decode_predictions(probs, top, classes)


def _several(images) -> Sequence:
    """Converts one or several images to a sequence of images."""
    if hasattr(images, "convert") and hasattr(images, "mode"):  # a PIL image
        return [images]
    rank = len(images.shape) if hasattr(images, "shape") else None
    # Three axes are one image, unless the last is not channels: then they are grey images.
    if rank == 2 or (rank == 3 and images.shape[-1] in (1, 3, 4)):
        return [images]
    return images


def _array(image) -> np.ndarray:
    """(height, width, channels)"""
    if hasattr(image, "convert") and hasattr(image, "mode") and image.mode not in ("L", "RGBA"):
        image = image.convert("RGB")  # palettes, CMYK, one bit
    pixels = np.asarray(image)
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.ndim != 3 or 0 in pixels.shape or pixels.shape[2] not in (1, 3, 4):
        raise ValueError(
            f"Found an array of shape {pixels.shape}: expected images (height, width, 3), or with "
            "1 or 4 channels."
        )
    return pixels


def _in_channels(image, wanted: int):
    """Converts the image to 1 or 3 channels, with a warning if it had others."""
    import tensorflow as tf

    found = image.shape[-1]
    if found == 4:
        warnings.warn("The fourth channel (alpha) of an image is left out.", stacklevel=3)
        image, found = image[..., :3], 3
    if found == wanted:
        return image
    if (found, wanted) == (1, 3):
        warnings.warn("A grey image is repeated in three channels.", stacklevel=3)
        return tf.repeat(image, 3, axis=-1)
    if (found, wanted) == (3, 1):
        warnings.warn("A colour image is made grey, which the network takes.", stacklevel=3)
        return tf.image.rgb_to_grayscale(image)
    raise ValueError(f"Found an image of {found} channels: expected 1, 3 or 4.")
