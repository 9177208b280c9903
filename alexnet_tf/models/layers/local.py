"""A convolution with a different kernel and bias at every position."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="alexnet_tf")
class LocallyConnected2D(keras.layers.Layer):
    """Like a convolution of stride 1 with "same" zero padding, but without shared weights.

    y[b, i, j, o] = bias[i, j, o] + sum over the kernel_size x kernel_size x c patch p around (i,
    j) of x[b, p] * kernel[i, j, p, o]; the patch runs over rows, then columns, then channels.

    Args:
      filters: int, output channels.
      kernel_size: odd int, the side of a patch.
      kernel_initializer: as `keras.layers.Conv2D`. Biases begin at 0.

    Input: (b, h, w, c) with known h and w. Output: (b, h, w, filters). Kernel: (h, w,
    kernel_size**2 * c, filters); bias: (h, w, filters).

    Raises:
      ValueError: an even kernel size; an input of unknown height or width.

    Source: the layer type `local` of cuda-convnet.
    """

    def __init__(self, filters, kernel_size, kernel_initializer="glorot_uniform", **kwargs):
        super().__init__(**kwargs)
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(
                f"The kernel_size of {self.name} is {kernel_size}: expected an odd number."
            )
        self.filters = filters
        self.kernel_size = kernel_size
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, input_shape):
        _, h, w, c = input_shape
        if h is None or w is None:
            raise ValueError(
                f"{self.name} has weights per position and needs the size of its input, whose "
                f"height and width are {h} and {w}: build the model with a fixed input_shape."
            )
        self.kernel = self.add_weight(
            name="kernel",
            shape=(h, w, self.kernel_size**2 * c, self.filters),
            initializer=self.kernel_initializer,
        )
        self.bias = self.add_weight(name="bias", shape=(h, w, self.filters), initializer="zeros")
        self.built = True

    def call(self, inputs):
        size, border = self.kernel_size, self.kernel_size // 2
        h, w, c = inputs.shape[1:]
        # With the positions first, a patch's parts are long runs of memory and each position is one
        # matrix product. The gradient of `ops.slice` is a pad; that of an index such as x[:, j]
        # takes longer than the products.
        x = ops.transpose(inputs, (1, 2, 0, 3))
        x = ops.pad(x, [[border, border], [border, border], [0, 0], [0, 0]])
        batch = ops.shape(x)[2]
        rows = [ops.slice(x, (0, j, 0, 0), (x.shape[0], w, batch, c)) for j in range(size)]
        x = ops.concatenate(rows, axis=-1)
        blocks = [ops.slice(x, (i, 0, 0, 0), (h, w, batch, size * c)) for i in range(size)]
        patches = ops.concatenate(blocks, axis=-1)  # (h, w, b, size * size * c)
        y = ops.matmul(patches, self.kernel)
        return ops.transpose(y, (2, 0, 1, 3)) + self.bias

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.filters)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }
