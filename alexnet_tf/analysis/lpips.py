"""LPIPS, the perceptual distance of two images, on AlexNet (Zhang, Isola, Efros, Shechtman, Wang,
"The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", CVPR 2018).

    heads = lpips.read_heads("alex.pth")       # of the `lpips` package: lpips/weights/v0.1/alex.pth
    network = alexnet_tf.load_model("alexnet_owt.keras")   # torchvision's weights, imported
    distance = lpips.Distance(network, heads)
    distance(images, others)                               # (b,), 0 for equal images
    model.compile(loss=lpips.Loss(distance), metrics=[lpips.Metric(distance)])

The published numbers need both files: torchvision's weights of AlexNet (IMAGENET1K_V1), with which
the heads were fitted, and the heads. Images are RGB, 0..255; the `lpips` package takes -1..1, and
its scaling of these is that of torchvision, which the network's own first layer does.
"""

import os
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf.models.layers import PixelNormalization
from alexnet_tf.models.weights import torch_files
from alexnet_tf.models.weights.stored import FLOATS, StoredTensor

LAYERS = tuple(f"relu{n}" for n in range(1, 6))
_NAMES = tuple(f"lin{n}.model.1.weight" for n in range(len(LAYERS)))
_EPSILON = 1e-10  # beside the norm of a pixel's features, as in the original


def read_heads(path: str | os.PathLike) -> tuple[np.ndarray, ...]:
    """The linear heads from the `lpips` package's file for AlexNet, without PyTorch.

    Args:
      path: lpips/weights/v0.1/alex.pth (or v0.0). Only tensors and dictionaries are unpickled.

    Returns:
      float32 (channels,) for each of conv1 to conv5.

    Raises:
      FileNotFoundError: no such file. ValueError: another file, or one that is damaged.
    """
    path = os.fspath(path)
    if not os.path.isfile(path):
        raise FileNotFoundError(f"There is no file of LPIPS heads {path}.")
    content = torch_files.state_dict(path)
    heads = []
    for name in _NAMES:
        stored = content.get(name)
        if not isinstance(stored, StoredTensor) or stored.dtype not in FLOATS:
            raise ValueError(
                f"{path} has no tensor {name} of numbers: expected alex.pth of the lpips package, "
                "lpips/weights/v0.1/alex.pth."
            )
        shape = stored.shape
        if len(shape) != 4 or (shape[0], *shape[2:]) != (1, 1, 1) or stored.span < stored.size:
            raise ValueError(
                f"{name} in {path} has shape {shape}: expected (1, channels, 1, 1), in alex.pth of "
                "the lpips package."
            )
        heads.append(stored.read().astype(np.float32).reshape(-1))
    return tuple(heads)


class Distance(keras.layers.Layer):
    """The perceptual distance of two batches of images.

    Args:
      network: an `alexnet_owt` of this package with its preprocessing, whose layers are used. With
        random convolutions the distances are real but not those that were published.
      heads: from `read_heads`, or such of one's own: (channels,) for relu1 to relu5.

    Raises:
      ValueError: a network of another kind, or heads of other widths.
    """

    def __init__(self, network: keras.Model, heads: Sequence[np.ndarray], **keywords: Any):
        super().__init__(**keywords)
        self._features = _features(network)
        widths = [int(output.shape[-1]) for output in self._features.outputs]
        found = [len(np.ravel(head)) for head in heads]
        if found != widths:
            raise ValueError(
                f"The heads have {found} channels, but the network's maps have {widths}: expected "
                "heads that were fitted to such a network."
            )
        self._heads = [np.asarray(head, np.float32).ravel() for head in heads]
        self.built = True

    def call(self, images, others):
        """The distances: float32 (b,).

        Args:
          images, others: (b, height, width, 3), RGB, 0..255, sides of at least 63 pixels.
        """
        images, others = (tf.cast(pixels, tf.float32) for pixels in (images, others))
        total = tf.zeros(tf.shape(images)[:1])
        pairs = zip(self._features(images), self._features(others), self._heads, strict=True)
        for one, other, head in pairs:
            difference = tf.square(_unit(one) - _unit(other))  # (b, h, w, channels)
            total += tf.reduce_mean(tf.tensordot(difference, head, 1), (1, 2))
        return total

    def compute_output_shape(self, images_shape, others_shape=None):
        return (images_shape[0],)


class Loss(keras.losses.Loss):
    """LPIPS as a loss: of images that a model makes (`y_pred`) to those it should (`y_true`).

    Args:
      distance: a `Distance`.
    """

    def __init__(self, distance: Distance, name: str = "lpips", **keywords: Any):
        super().__init__(name=name, **keywords)
        self.distance = distance

    def call(self, y_true, y_pred):
        return self.distance(y_true, y_pred)


class Metric(keras.metrics.MeanMetricWrapper):
    """The mean LPIPS over images, as a metric.

    Args:
      distance: a `Distance`.
    """

    def __init__(self, distance: Distance, name: str = "lpips", dtype: Any = None):
        super().__init__(distance, name=name, dtype=dtype)


def _unit(features):
    """Each pixel's features, normalised to length one."""
    # The gradient of a root at 0 is infinite, and dead pixels are all 0: the root of those is not
    # taken.
    squares = tf.reduce_sum(tf.square(features), -1, keepdims=True)
    some = squares > 0
    length = tf.where(some, tf.sqrt(tf.where(some, squares, 1.0)), 0.0)
    return features / (length + _EPSILON)


def _features(network: keras.Model) -> keras.Model:
    """Images of any size to the five maps after the ReLUs, through the network's own layers."""
    names = [layer.name for layer in network.layers]
    first = any(isinstance(layer, PixelNormalization) for layer in network.layers)
    if not first or "norm1" in names or not set(LAYERS) <= set(names):
        raise ValueError(
            f"LPIPS is for torchvision's AlexNet with its preprocessing, not for {network.name!r}: "
            "build or import an alexnet_owt."
        )
    inputs = x = keras.Input((None, None, 3), name="images")
    outputs = []
    for layer in network.layers[1 : names.index(LAYERS[-1]) + 1]:
        x = layer(x)
        if layer.name in LAYERS:
            outputs.append(x)
    return keras.Model(inputs, outputs, name="lpips_features")
