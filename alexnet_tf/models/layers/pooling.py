"""Max pooling that XLA compiles well, with TensorFlow's or Caffe's number of windows."""

import math

import keras
from keras import ops

from alexnet_tf.models.compilation import is_compiled

_MOST_PLACES = 256  # positions in a window, indexed by a byte
# Below any value that a network computes, for float16 and for wider types.
_LOWEST_HALF, _LOWEST = -65504.0, -3e38


@keras.saving.register_keras_serializable(package="alexnet_tf")
class MaxPooling2D(keras.layers.MaxPooling2D):
    """`keras.layers.MaxPooling2D` with a gradient that XLA can compile for a GPU.

    XLA's own gradient of max pooling has no deterministic form on a GPU and is refused where
    operations must be deterministic. In a function that XLA compiles, this layer is a maximum of
    strided slices: the same values and, among equal values, the same winner, the first. Elsewhere
    it is Keras' layer.

    Input: (b, h, w, c). Output: (b, (h - size) // stride + 1, ..., c) with padding "valid".
    """

    def call(self, inputs):
        known = None not in inputs.shape[1:] and math.prod(self.pool_size) <= _MOST_PLACES
        plain = self.padding == "valid" and self.data_format == "channels_last"
        if known and plain and is_compiled():
            return _max_of_slices(inputs, self.pool_size, self.strides)
        return super().call(inputs)


@keras.saving.register_keras_serializable(package="alexnet_tf")
class CeilMaxPooling2D(MaxPooling2D):
    """`MaxPooling2D` with ceil((n - size) / stride) + 1 outputs instead of the floor.

    The last window may extend past the bottom and right edge; values outside never win. Caffe and
    the original program pool this way. It differs from Keras' "same" padding, which also pads the
    top and left, and gives one more output if the windows already fit.

    Input: (b, h, w, c) with known h and w. Output: (b, ceil((h - size) / stride) + 1, ..., c).
    """

    def call(self, inputs):
        pads = self.overhang(inputs.shape)
        if any(pads):
            # Every window has at least one real value, so the pad never reaches the output. It is
            # finite, because numerics checks also fail for an infinite constant.
            widths = [[0, 0], [0, pads[0]], [0, pads[1]], [0, 0]]
            lowest = _LOWEST_HALF if self.compute_dtype == "float16" else _LOWEST
            inputs = ops.pad(inputs, widths, constant_values=lowest)
        return super().call(inputs)

    def compute_output_shape(self, input_shape):
        b, h, w, c = input_shape
        bottom, right = self.overhang(input_shape)
        return super().compute_output_shape((b, h + bottom, w + right, c))

    def overhang(self, input_shape) -> tuple[int, int]:
        """Rows below and columns right of an input (b, h, w, c) that the windows cover."""
        return tuple(self._overhang(n, axis) for axis, n in enumerate(input_shape[1:3]))

    def _overhang(self, n, axis):
        if n is None:
            raise ValueError(
                f"{self.name} rounds its windows up and needs the height and width of its input, "
                "which are unknown: build the model with a fixed input_shape."
            )
        size, stride = self.pool_size[axis], self.strides[axis]
        return -(n - size) % stride


def _max_of_slices(x, sizes, strides):
    """Max pooling without padding, as operations that XLA fuses into one pass each way.

    The gradient keeps one byte per output: the position that won in its window.
    """
    import tensorflow as tf

    (rows, columns), (down, right) = sizes, strides
    places = [(top, left) for top in range(rows) for left in range(columns)]

    @tf.custom_gradient
    def pool(x):
        shape = tf.shape(x)
        _, height, width, channels = x.shape
        below, beyond = height - rows + 1, width - columns + 1

        def bounds(top, left):
            begin, strides = (0, top, left, 0), (1, down, right, 1)
            end = tf.stack([shape[0], top + below, left + beyond, channels])
            return {"begin": begin, "end": end, "strides": strides}

        best = tf.strided_slice(x, **bounds(0, 0))
        winner = tf.zeros_like(best, tf.uint8)
        for number, place in enumerate(places[1:], 1):
            value = tf.strided_slice(x, **bounds(*place))
            winner = tf.where(value > best, tf.constant(number, tf.uint8), winner)
            best = tf.maximum(best, value)

        def gradient(dy):
            return tf.add_n(
                [
                    tf.raw_ops.StridedSliceGrad(
                        shape=shape,
                        dy=tf.where(winner == number, dy, tf.zeros_like(dy)),
                        **bounds(*place),
                    )
                    for number, place in enumerate(places)
                ]
            )

        return best, gradient

    return pool(x)
