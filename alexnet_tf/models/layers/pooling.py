"""Max-pooling that counts its windows as Caffe and the original program do: rounded up."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="alexnet_tf")
class CeilMaxPooling2D(keras.layers.MaxPooling2D):
    """`keras.layers.MaxPooling2D` with ceil((n - size) / stride) + 1 outputs instead of the floor.

    The last window may hang over the bottom and right edge; what lies outside never wins. This is
    not Keras' "same" padding, which also pads the top and left, and gives one more output when the
    windows already fit.

    Input: (b, h, w, c) with known h and w. Output: (b, ceil((h - size) / stride) + 1, ..., c).
    """

    def call(self, inputs):
        pads = self.overhang(inputs.shape)
        if any(pads):
            # Every window holds at least one real value, so -inf never reaches the output.
            widths = [[0, 0], [0, pads[0]], [0, pads[1]], [0, 0]]
            inputs = ops.pad(inputs, widths, constant_values=float("-inf"))
        return super().call(inputs)

    def compute_output_shape(self, input_shape):
        b, h, w, c = input_shape
        bottom, right = self.overhang(input_shape)
        return super().compute_output_shape((b, h + bottom, w + right, c))

    def overhang(self, input_shape) -> tuple[int, int]:
        """Rows below and columns to the right of an input (b, h, w, c) that the windows reach."""
        return tuple(self._overhang(n, axis) for axis, n in enumerate(input_shape[1:3]))

    def _overhang(self, n, axis):
        if n is None:
            raise ValueError(
                f"{self.name} rounds its windows up and needs the height and width of its input, "
                "which are unknown: build the model with a fixed input_shape."
            )
        size, stride = self.pool_size[axis], self.strides[axis]
        return -(n - size) % stride
