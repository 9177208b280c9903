"""Rewrites a network with operations that LiteRT can compute in integers.

Three of this package's layers cannot be quantised directly:

- a pool that rounds up pads with minus infinity, and an infinite range leaves no resolution for the
  values: only 6 to 16 % of `cifarnet`'s answers were unchanged;
- the sums of squares of response normalisation need more than 8 bits; LiteRT's operation for it
  stays in float32;
- the weights of a locally connected layer share one scale, and its products are rounded before
  bias and ReLU; as a convolution with one group per position, each output has its own scale.
"""

import keras
import tensorflow as tf

from alexnet_tf.models.layers import LocalResponseNormalization
from alexnet_tf.models.layers.local import LocallyConnected2D


def for_integers(model: keras.Model) -> keras.Model:
    """Returns a network with the same weights and function that can be quantised.

    Args:
      model: a functional network: float32 (b, h, w, c) -> (b, classes), with known h and w.

    Returns:
      Another model; its floating-point results differ at most in the last bits.
    """

    def substitute(layer):
        if isinstance(layer, keras.layers.MaxPooling2D) and any(_overhang(layer)):
            return _FinitePool(_overhang(layer), layer)
        if isinstance(layer, LocalResponseNormalization):
            return _OwnNorm(layer)
        kind = _GroupedLocal if isinstance(layer, LocallyConnected2D) else type(layer)
        return kind.from_config(layer.get_config())

    copy = keras.models.clone_model(model, clone_function=substitute)
    copy.set_weights(model.get_weights())
    return copy


def _overhang(pool: keras.layers.MaxPooling2D) -> list[int]:
    """Rows below and columns right of the input that a pool's windows cover."""
    sizes = zip(
        pool.input.shape[1:3], pool.output.shape[1:3], pool.pool_size, pool.strides, strict=True
    )
    return [max((count - 1) * stride + size - n, 0) for n, count, size, stride in sizes]


class _FinitePool(keras.layers.Layer):
    """A max pool whose last windows extend past the edge, without infinite padding."""

    def __init__(self, overhang, pool):
        super().__init__(name=pool.name)
        self.overhang, self.pool_size, self.strides = overhang, pool.pool_size, pool.strides
        self.counts = pool.output.shape[1:3]

    def call(self, x):
        # TensorFlow's "same" padding never wins the maximum. It is equivalent if it gives the same
        # number of windows and pads only at the end.
        wanted = [
            count == -(-n // stride) and over <= 1
            for n, count, stride, over in zip(
                x.shape[1:3], self.counts, self.strides, self.overhang, strict=True
            )
        ]
        if all(wanted):
            return tf.nn.max_pool2d(x, self.pool_size, self.strides, "SAME")
        # Every window past the edge includes the last row, so repeating that changes no maximum.
        rows, columns = self.overhang
        x = tf.concat([x, *[x[:, -1:]] * rows], axis=1)
        x = tf.concat([x, *[x[:, :, -1:]] * columns], axis=2)
        return tf.nn.max_pool2d(x, self.pool_size, self.strides, "VALID")


class _OwnNorm(keras.layers.Layer):
    """`LocalResponseNormalization` as TensorFlow's operation, which LiteRT supports."""

    def __init__(self, norm: LocalResponseNormalization):
        super().__init__(name=norm.name)
        self.groups = norm.groups
        self.constants = {
            "depth_radius": norm.size // 2,
            "bias": norm.k,
            "alpha": norm.alpha / (norm.size if norm.alpha_convention == "mean" else 1),
            "beta": norm.beta,
        }

    def call(self, x):
        parts = tf.split(x, self.groups, axis=-1) if self.groups > 1 else [x]
        parts = [tf.nn.local_response_normalization(part, **self.constants) for part in parts]
        return tf.concat(parts, axis=-1) if self.groups > 1 else parts[0]


class _GroupedLocal(LocallyConnected2D):
    """`LocallyConnected2D` as a 1x1 convolution of one position with one group per patch."""

    def call(self, x):
        size, border = self.kernel_size, self.kernel_size // 2
        h, w = x.shape[1:3]
        x = tf.pad(x, [[0, 0], [border, border], [border, border], [0, 0]])
        shifts = [x[:, i : i + h, j : j + w] for i in range(size) for j in range(size)]
        patches = tf.concat(shifts, axis=-1)  # (b, h, w, patch)
        patch = patches.shape[-1]
        kernel = tf.transpose(tf.convert_to_tensor(self.kernel), (2, 0, 1, 3))
        kernel = tf.reshape(kernel, (1, 1, patch, h * w * self.filters))
        y = tf.nn.conv2d(tf.reshape(patches, (-1, 1, 1, h * w * patch)), kernel, 1, "VALID")
        y = tf.nn.bias_add(y, tf.reshape(tf.convert_to_tensor(self.bias), (-1,)))
        return tf.reshape(y, (-1, h, w, self.filters))
