"""The layers that only LeNet-5 has."""

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable(package="alexnet_tf")
class Canvas(keras.layers.Layer):
    """Centres a map in a larger one: MNIST's 28x28 in LeNet-5's 32x32.

    Args:
      size: int, height and width of the result.
      background: the value around the map.

    Input: (b, h, w, c). Output: (b, max(h, size), max(w, size), c); an odd pixel goes to the bottom
    and the right.
    """

    def __init__(self, size, background, **kwargs):
        super().__init__(**kwargs)
        self.size = size
        self.background = background

    def call(self, inputs):
        missing = [max(self.size - n, 0) for n in inputs.shape[1:3]]
        pads = [(n // 2, n - n // 2) for n in missing]
        # float(): some backends' ops.pad does not accept other types.
        return ops.pad(
            inputs, [(0, 0), *pads, (0, 0)], "constant", constant_values=float(self.background)
        )

    def compute_output_shape(self, input_shape):
        b, h, w, c = input_shape
        return (b, max(h, self.size), max(w, self.size), c)

    def get_config(self):
        return {**super().get_config(), "size": self.size, "background": self.background}


@keras.saving.register_keras_serializable(package="alexnet_tf")
class ScaledTanh(keras.layers.Layer):
    """1.7159 * tanh(2 x / 3), the squashing function of LeNet-5: f(1) is near 1, f(-1) near -1."""

    def call(self, inputs):
        return 1.7159 * ops.tanh(inputs * (2.0 / 3.0))

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)


@keras.saving.register_keras_serializable(package="alexnet_tf")
class Subsampling(keras.layers.Layer):
    """Sums non-overlapping 2x2 pixels, times a trained coefficient per map, plus a trained bias.

    Input: (b, h, w, c). Output: (b, h // 2, w // 2, c). Weights: coefficient (c,), bias (c,).
    """

    def build(self, input_shape):
        channels = (input_shape[-1],)
        # A quarter makes the sum a mean, which keeps the scale of the input maps initially.
        self.coefficient = self.add_weight(
            name="coefficient",
            shape=channels,
            initializer=keras.initializers.Constant(0.25),
        )
        self.bias = self.add_weight(name="bias", shape=channels, initializer="zeros")
        self.built = True

    def call(self, inputs):
        sums = 4.0 * ops.average_pool(inputs, 2, strides=2, padding="valid")
        return sums * self.coefficient + self.bias

    def compute_output_shape(self, input_shape):
        b, h, w, c = input_shape
        return (b, h and h // 2, w and w // 2, c)


@keras.saving.register_keras_serializable(package="alexnet_tf")
class SparseConv2D(keras.layers.Layer):
    """A convolution in which each output map reads only some of the input maps.

    Args:
      connections: for each output map, the list of input maps it reads.
      kernel_size: int, the side of the kernel.
      kernel_initializer, bias_initializer: as `keras.layers.Conv2D`.

    Input: (b, h, w, c). Output: (b, h - kernel_size + 1, w - kernel_size + 1, len(connections)).
    Weights: kernel (kernel_size, kernel_size, links), one slice per link, output map after output
    map in the order of the table; bias (outputs,). Only links that exist have weights.

    Raises:
      ValueError: a table with an input map that does not exist, or one twice.
    """

    def __init__(
        self,
        connections,
        kernel_size,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.connections = [list(maps) for maps in connections]
        self.kernel_size = kernel_size
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)

    def build(self, input_shape):
        channels, outputs = input_shape[-1], len(self.connections)
        links = [(i, o) for o, maps in enumerate(self.connections) for i in maps]
        if any(not 0 <= i < channels for i, _ in links) or len(set(links)) < len(links):
            raise ValueError(
                f"The connections of {self.name} are {self.connections}: expected lists of "
                f"different input maps from 0 to {channels - 1}."
            )
        self.kernel = self.add_weight(
            name="kernel",
            shape=(self.kernel_size, self.kernel_size, len(links)),
            initializer=self.kernel_initializer,
        )
        self.bias = self.add_weight(
            name="bias", shape=(outputs,), initializer=self.bias_initializer
        )
        # One row per link, with a one at the position of the link's slice in the dense kernel.
        self._places = np.zeros((len(links), channels * outputs), np.float32)
        for row, (i, o) in enumerate(links):
            self._places[row, i * outputs + o] = 1.0
        self._dense_shape = (self.kernel_size, self.kernel_size, channels, outputs)
        self.built = True

    def call(self, inputs):
        places = ops.cast(self._places, self.compute_dtype)
        kernel = ops.reshape(ops.matmul(self.kernel, places), self._dense_shape)
        return ops.conv(inputs, kernel, data_format="channels_last") + self.bias

    def compute_output_shape(self, input_shape):
        b, h, w, _ = input_shape
        return (b, *(n and n - self.kernel_size + 1 for n in (h, w)), len(self.connections))

    def get_config(self):
        return {
            **super().get_config(),
            "connections": self.connections,
            "kernel_size": self.kernel_size,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
        }


@keras.saving.register_keras_serializable(package="alexnet_tf")
class RadialBasis(keras.layers.Layer):
    """Minus the squared distance to each of a set of fixed centres.

    y_i = -sum_j (x_j - centre_ij) ** 2. LeNet-5's output units are these without the minus, and the
    smallest wins. With the minus, the largest wins, as in the other networks, and a softmax of the
    outputs is the probability in the paper's maximum-likelihood interpretation.

    Args:
      centres: one string of "+" and "-" per class: the signs of its centre.

    Input: (b, n), n the length of the strings. Output: (b, len(centres)), float32. The centres are
    a non-trainable weight.

    Raises:
      ValueError: centres of another length than the input.
    """

    def __init__(self, centres, **kwargs):
        super().__init__(**kwargs)
        self.centres = list(centres)

    def build(self, input_shape):
        lengths = {len(centre) for centre in self.centres}
        if lengths != {input_shape[-1]}:
            raise ValueError(
                f"The centres of {self.name} have lengths {sorted(lengths)}: expected the "
                f"number of inputs, {input_shape[-1]}."
            )
        signs = [[1.0 if sign == "+" else -1.0 for sign in centre] for centre in self.centres]
        values = np.asarray(signs, np.float32)
        self.weight = self.add_weight(
            name="centres",
            shape=values.shape,
            initializer=lambda shape, dtype: ops.convert_to_tensor(values, dtype),
            trainable=False,
        )
        self.built = True

    def call(self, inputs):
        # At least float32, as for the logits of any loss; the signs are exact in any type.
        wide = "float64" if self.compute_dtype == "float64" else "float32"
        x, centres = ops.cast(inputs, wide), ops.cast(self.weight, wide)
        return -ops.sum(ops.square(ops.expand_dims(x, 1) - centres), axis=-1)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], len(self.centres))

    def get_config(self):
        return {**super().get_config(), "centres": self.centres}
