"""Grouped convolution and grouped dense layers: the two columns of the 2012 network."""

import keras
from keras import ops

from alexnet_tf.models.knowledge import Knowing


@keras.saving.register_keras_serializable(package="alexnet_tf")
class GroupedConv2D(Knowing, keras.layers.Conv2D):
    """`keras.layers.Conv2D` with groups that are fast on a CPU, and with explicit zero padding.

    Output channels [i * filters / groups, (i + 1) * filters / groups) read only the input channels
    [i * c / groups, (i + 1) * c / groups), as in Caffe and PyTorch; with `groups=2` these are the
    two GPU columns of the paper's section 3.5. The kernel has shape (kh, kw, c / groups, filters).

    Keras wraps every grouped convolution of its TensorFlow backend in a function compiled by XLA,
    which is slow on CPU and which a CPU TensorFlow Serving refuses to run. This layer runs one
    convolution per group. TensorFlow's own grouped convolution is as fast where it works, but on a
    CPU without oneDNN it has no gradient, and fails when it is fused with a ReLU.

    Args:
      filters, kernel_size, strides, groups, ...: as `keras.layers.Conv2D`, channels last.
      padding: "valid", "same", or ((top, bottom), (left, right)) rows and columns of zeros. The
        original program pads only the bottom and right edge, which neither name expresses.
      knowledge: see `models.knowledge`.

    Input: (b, h, w, c). Output: (b, h', w', filters), h' = (top + h + bottom - kh) // stride + 1.

    Raises:
      ValueError: a padding of another form, or `filters` or channels not divisible by the groups.
    """

    def __init__(self, filters, kernel_size, padding="valid", **kwargs):
        self.explicit_padding = None
        if not isinstance(padding, str):
            self.explicit_padding = _explicit_padding(padding)
            padding = "valid"
        super().__init__(filters, kernel_size, padding=padding, **kwargs)
        if self.data_format != "channels_last":
            raise ValueError(
                f"The data_format of {self.name} is {self.data_format!r}: expected 'channels_last'."
            )

    def convolution_op(self, inputs, kernel):
        # oneDNN has no gradients for explicit padding, and Eigen's gradient of the input takes
        # up to 2.5 times as long (two AVX2 cores). So the convolution uses a named padding.
        padding = self.padding
        if self._pads_as_same():
            padding = "same"
        elif self.explicit_padding is not None:
            inputs = ops.pad(inputs, [[0, 0], *map(list, self.explicit_padding), [0, 0]])
        if keras.backend.backend() != "tensorflow":
            # tf.nn.convolution infers the groups from the channels of input and kernel.
            return ops.conv(
                inputs,
                kernel,
                strides=list(self.strides),
                padding=padding,
                dilation_rate=self.dilation_rate,
                data_format=self.data_format,
            )
        import tensorflow as tf

        options = {
            "strides": list(self.strides),
            "padding": padding.upper(),
            "dilations": list(self.dilation_rate),
        }
        if self.groups == 1:
            return tf.nn.conv2d(inputs, kernel, **options)
        # A group's inputs are contiguous, and so are its outputs (the kernel's last axis).
        pairs = zip(
            tf.split(inputs, self.groups, axis=-1),
            tf.split(kernel, self.groups, axis=-1),
            strict=True,
        )
        return tf.concat([tf.nn.conv2d(x, k, **options) for x, k in pairs], axis=-1)

    def compute_output_shape(self, input_shape):
        if self.explicit_padding is None:
            return super().compute_output_shape(input_shape)
        b, h, w, c = input_shape
        (top, bottom), (left, right) = self.explicit_padding
        h = None if h is None else h + top + bottom
        w = None if w is None else w + left + right
        return super().compute_output_shape((b, h, w, c))

    def get_config(self):
        config = super().get_config()
        if self.explicit_padding is not None:
            config["padding"] = [list(pair) for pair in self.explicit_padding]
        return config

    def _pads_as_same(self):
        """Whether "same" equals the explicit padding for any size of the input."""
        if self.explicit_padding is None or any(stride != 1 for stride in self.strides):
            return False
        reaches = (
            (size - 1) * dilation
            for size, dilation in zip(self.kernel_size, self.dilation_rate, strict=True)
        )
        return self.explicit_padding == tuple((n // 2, n - n // 2) for n in reaches)


@keras.saving.register_keras_serializable(package="alexnet_tf")
class GroupedDense(keras.layers.Layer):
    """A dense layer in `groups` independent columns.

    Input features and output units are ordered by group: output units
    [i * units / groups, (i + 1) * units / groups) read only the i-th share of the input.

    Args:
      units: int, total number of outputs.
      groups: int, must divide `units` and the number of inputs.
      kernel_initializer, bias_initializer: as `keras.layers.Dense`.

    Input: (b, n). Output: (b, units). Kernel: (groups, n / groups, units / groups); bias: (units,).

    Raises:
      ValueError: units or inputs are not divisible by the groups.
    """

    def __init__(
        self,
        units,
        groups,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        **kwargs,
    ):
        super().__init__(**kwargs)
        if units < 1 or groups < 1 or units % groups:
            raise ValueError(
                f"{self.name} has {units} units in {groups} groups: the groups must divide the "
                "units."
            )
        self.units = units
        self.groups = groups
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)

    def build(self, input_shape):
        inputs = input_shape[-1]
        if inputs % self.groups:
            raise ValueError(
                f"{self.name} has {inputs} inputs and {self.groups} groups: the groups must divide "
                "the inputs."
            )
        self.kernel = self.add_weight(
            name="kernel",
            shape=(self.groups, inputs // self.groups, self.units // self.groups),
            initializer=self.kernel_initializer,
        )
        self.bias = self.add_weight(
            name="bias", shape=(self.units,), initializer=self.bias_initializer
        )
        self.built = True

    def call(self, inputs):
        columns = ops.split(inputs, self.groups, axis=-1)
        outputs = [ops.matmul(x, self.kernel[i]) for i, x in enumerate(columns)]
        return ops.concatenate(outputs, axis=-1) + self.bias

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.units)

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "groups": self.groups,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
        }


def _explicit_padding(padding):
    try:
        (top, bottom), (left, right) = padding
        values = [int(v) for v in (top, bottom, left, right)]
    except (TypeError, ValueError):
        values = [-1]
    if min(values) < 0:
        raise ValueError(
            f"The padding is {padding!r}: expected 'valid', 'same' or ((top, bottom), (left, "
            "right)) with numbers of rows and columns."
        )
    return (tuple(values[:2]), tuple(values[2:]))
