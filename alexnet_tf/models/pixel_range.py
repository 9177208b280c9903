"""A warning for pixels of 0..1: these networks take 0..255, and anything is accepted silently.

Looked at on the host, and only in what costs nothing to look at: nothing of this is in a graph, in
an export or in a saved file.
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
    """Warns, once in a process, when all pixels are in 0..1 and not all the same.

    Args:
      images: an array of any shape.
      stacklevel: of the caller whose line the warning names.
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
    """The model itself, whose `fit`, `evaluate` and `predict` look at their first images."""
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
    """The data set, whose first batch is looked at when it comes by; none is taken from it."""
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
