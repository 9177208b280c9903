"""Warns of pixels in 0..1: these networks take 0..255, and other ranges would pass silently.

The check runs on the host, on data that is cheap to read: it is not part of graphs, exports or
saved files.
"""

import functools
import warnings
from typing import Any

import keras
import numpy as np

_LOOKED_AT = 32  # images: a batch
_METHODS = ("fit", "evaluate", "predict")
_warned = False


def warn_of_unit_range(images: Any, stacklevel: int = 2) -> None:
    """Warns, once per process, if all pixels are in 0..1 and not all equal.

    Args:
      images: an array of any shape.
      stacklevel: stack level of the line that the warning names.
    """
    global _warned
    if _warned:
        return
    pixels = np.asarray(images)
    if not pixels.size or pixels.dtype.kind not in "fiu":
        return
    low, high = pixels.min(), pixels.max()
    if 0 <= low < high <= 1:
        _warned = True
        warnings.warn(
            f"All pixels are in {low:.2g}..{high:.2g}, but the network takes 0..255 and subtracts "
            "its own mean: do not divide the images by 255.",
            stacklevel=stacklevel + 1,
        )


def watch(model: keras.Model) -> keras.Model:
    """Returns the model; its `fit`, `evaluate` and `predict` then check their first images."""
    for name in _METHODS:
        setattr(model, name, _looking(getattr(model, name)))
    return model


def _looking(method):
    @functools.wraps(method)
    def looking(*args, **keywords):
        if not _warned:
            images: Any = keywords["x"] if "x" in keywords else args[0] if args else None
            if hasattr(images, "element_spec"):  # a tf.data.Dataset
                watched = _watched_dataset(images)
                if "x" in keywords:
                    keywords["x"] = watched
                else:
                    args = (watched, *args[1:])
            elif hasattr(images, "shape") and len(images.shape) == 4:
                warn_of_unit_range(images[:_LOOKED_AT], stacklevel=2)
        return method(*args, **keywords)

    return looking


def _watched_dataset(dataset):
    """The data set, with a check of its first batch, which does not consume it."""
    import tensorflow as tf

    def look(pixels):
        warn_of_unit_range(pixels, stacklevel=2)
        return np.int32(0)

    def first(number, element):
        images = element[0] if isinstance(element, tuple) else element
        if not tf.is_tensor(images) or images.shape.rank != 4:
            return element
        small = images[:_LOOKED_AT]
        looked = tf.cond(number > 0, lambda: 0, lambda: tf.numpy_function(look, [small], tf.int32))
        with tf.control_dependencies([looked]):
            return tf.nest.map_structure(tf.identity, element)

    return dataset.enumerate().map(first)
