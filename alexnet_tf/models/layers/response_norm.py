"""Response normalisation: across channels (section 3.3 of the paper) and within a channel."""

import keras
import numpy as np
from keras import ops

from alexnet_tf.models.compilation import is_compiled, is_on_gpu

_CONVENTIONS = ("sum", "mean")


@keras.saving.register_keras_serializable(package="alexnet_tf")
class LocalResponseNormalization(keras.layers.Layer):
    """Divides each value by a power of the energy in the neighbouring channels.

    y_i = x_i / (k + a * sum_j x_j ** 2) ** beta, where j runs over the `size` channels centred on
    i, clipped at the first and last channel of i's group.

    The meaning of `alpha` differs between programs:

    | alpha_convention | a            | who                                                     |
    |------------------|--------------|---------------------------------------------------------|
    | "sum"            | alpha        | the formula of the paper, TensorFlow                    |
    | "mean"           | alpha / size | the original program, Caffe, PyTorch, ONNX              |

    Args:
      size: odd int, the number of channels in a full window (n in the paper).
      alpha, beta, k: the constants; the defaults are the paper's.
      alpha_convention: "sum" or "mean", see above.
      groups: number of equal groups of channels, each normalised separately: 2 for the original
        program, where each GPU normalised its own half.

    Input: (b, h, w, c) of any float dtype. Output: the same shape, in the compute dtype. The
    arithmetic is float32 in every dtype policy except float64.

    Raises:
      ValueError: an even size, an unknown convention, k, beta or alpha that is not positive, or
        channels not divisible by the groups.

    Source: Krizhevsky, Sutskever, Hinton, NIPS 2012, section 3.3.
    """

    def __init__(
        self,
        size=5,
        alpha=1e-4,
        beta=0.75,
        k=2.0,
        alpha_convention="sum",
        groups=1,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if size < 1 or size % 2 == 0:
            raise ValueError(
                f"The size of {self.name} is {size}: expected an odd number of channels."
            )
        if not min(alpha, beta, k) > 0:
            raise ValueError(
                f"{self.name} has alpha={alpha}, beta={beta}, k={k}: expected positive numbers."
            )
        if alpha_convention not in _CONVENTIONS:
            raise ValueError(
                f"The alpha_convention of {self.name} is {alpha_convention!r}: expected 'sum' "
                "(alpha multiplies the sum of squares) or 'mean' (alpha is divided by the size)."
            )
        self.size = size
        self.alpha = alpha
        self.beta = beta
        self.k = k
        self.alpha_convention = alpha_convention
        self.groups = groups

    def build(self, input_shape):
        channels = input_shape[-1]
        if self.groups < 1 or channels % self.groups:
            raise ValueError(
                f"{self.name} has {channels} channels and {self.groups} groups: the groups must "
                "divide the channels."
            )
        self._band = _band(channels, self.size, self.groups)
        self.built = True

    def call(self, inputs):
        x = ops.cast(inputs, _wide(self.compute_dtype))
        alpha = self.alpha / (self.size if self.alpha_convention == "mean" else 1)
        band = (alpha * self._band).astype(_wide(self.compute_dtype))
        if keras.backend.backend() == "tensorflow":
            if is_compiled():
                y = _tf_shifted_norm(x, (self.size, self.groups), alpha, self.k, self.beta)
            elif band.dtype == np.float32 and is_on_gpu():
                y = self._tf_kernel_norm(x, alpha)
            else:
                y = _tf_band_norm(x, band, self.k, self.beta)
        else:
            energy = ops.matmul(ops.square(x), band)
            y = x * _reciprocal_power(self.k + energy, self.beta)
        return ops.cast(y, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def _tf_kernel_norm(self, x, alpha):
        """TensorFlow's kernel: on a GPU a convolution would round to TensorFloat-32."""
        import tensorflow as tf

        parts = [
            tf.nn.local_response_normalization(
                part, self.size // 2, bias=self.k, alpha=alpha, beta=self.beta
            )
            for part in tf.split(x, self.groups, axis=-1)
        ]
        return parts[0] if self.groups == 1 else tf.concat(parts, axis=-1)

    def get_config(self):
        return {
            **super().get_config(),
            "size": self.size,
            "alpha": self.alpha,
            "beta": self.beta,
            "k": self.k,
            "alpha_convention": self.alpha_convention,
            "groups": self.groups,
        }


@keras.saving.register_keras_serializable(package="alexnet_tf")
class SpatialResponseNormalization(keras.layers.Layer):
    """Divides each value by a power of the energy around it in its own map.

    y = x / (1 + scale / size ** 2 * S) ** beta, where S sums x ** 2 over the size x size window
    centred on the value, clipped to the map. The second normalisation of layer 2 in the program of
    2012 (layer type `rnorm` in its configuration; the name there, `cnorm2`, is historical: no mean
    is subtracted); also Caffe's LRN within a channel.

    Args:
      size: odd int, the side of the window in pixels.
      scale: divided by the window's full area, also where the window is clipped.
      beta: the power.

    Input: (b, h, w, c) of any float dtype. Output: the same shape, in the compute dtype; float32
    arithmetic at least.

    Raises:
      ValueError: an even size; a scale or beta that is not positive.
    """

    def __init__(self, size=5, scale=1e-3, beta=0.75, **kwargs):
        super().__init__(**kwargs)
        if size < 1 or size % 2 == 0:
            raise ValueError(
                f"The size of {self.name} is {size}: expected an odd number of pixels."
            )
        if not min(scale, beta) > 0:
            raise ValueError(
                f"{self.name} has scale={scale}, beta={beta}: expected positive numbers."
            )
        self.size = size
        self.scale = scale
        self.beta = beta

    def call(self, inputs):
        x = ops.cast(inputs, _wide(self.compute_dtype))
        # A zero border completes clipped windows, so the mean over size * size values is S / area.
        border = self.size // 2
        squares = ops.pad(ops.square(x), [[0, 0], [border, border], [border, border], [0, 0]])
        energy = ops.average_pool(squares, self.size, strides=1, padding="valid")
        y = x * _reciprocal_power(1.0 + self.scale * energy, self.beta)
        return ops.cast(y, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "size": self.size,
            "scale": self.scale,
            "beta": self.beta,
        }


def _band(channels, size, groups):
    """(channels, channels) of zeros and ones: entry (j, i) is 1 if j is in the window of i."""
    index = np.arange(channels)
    per_group = channels // groups
    near = np.abs(index[:, None] - index[None, :]) <= size // 2
    together = index[:, None] // per_group == index[None, :] // per_group
    return (near & together).astype(np.float64)


def _wide(dtype: str) -> str:
    """The type to compute in: squares and powers need at least float32."""
    return "float64" if dtype == "float64" else "float32"


def _reciprocal_power(d, beta):
    """d ** -beta; for the usual beta without `pow`, seven times as slow on a processor."""
    if beta != 0.75:
        return ops.power(d, -beta)
    r = ops.rsqrt(d)
    return r * ops.sqrt(r)


def _tf_band_norm(x, band, k, beta):
    """x * (k + x ** 2 . band) ** -beta with a custom gradient.

    The sum over neighbouring channels is a product with a band matrix, run as a 1x1 convolution.
    Memory bandwidth is the limit, so the gradient keeps two tensors (the factor and the root of the
    denominator's reciprocal) and needs six passes; `pow` is avoided for the usual beta.
    """
    import tensorflow as tf

    @tf.custom_gradient
    def normalize(x):
        kernel = tf.constant(band[None, None])
        bias = tf.fill([band.shape[0]], tf.constant(k, x.dtype))
        d = tf.nn.bias_add(tf.nn.conv2d(tf.square(x), kernel, 1, "VALID"), bias)
        r = tf.math.rsqrt(d)
        factor = r * tf.sqrt(r) if beta == 0.75 else tf.pow(d, -beta)
        y = x * factor

        def grad(dy):
            # dy_i/dx_j = [i = j] d_i^-beta - 2 a beta x_i x_j d_i^(-beta - 1) for j in i's window;
            # the operation below is -dy y / d in one pass, and the band is its own transpose.
            inner = tf.raw_ops.ReciprocalGrad(y=r, dy=dy * y)
            return dy * factor + x * tf.nn.conv2d(inner, 2.0 * beta * kernel, 1, "VALID")

        return y, grad

    return normalize(x)


def _tf_shifted_norm(x, size_and_groups, alpha, k, beta):
    """The same as a sum of shifted squares, which XLA fuses: no matrix product, no TensorFloat-32.

    Its gradient keeps only the input, which the previous layer keeps anyway, and recomputes the
    denominator: memory access costs more than arithmetic on a GPU.
    """
    import tensorflow as tf

    size, groups = size_and_groups

    def window_sum(values):
        channels, border = values.shape[-1], size // 2
        grouped = tf.concat([tf.shape(values)[:-1], [groups, channels // groups]], axis=0)
        split = tf.reshape(values, grouped)
        padded = tf.pad(split, [[0, 0]] * len(values.shape) + [[border, border]])
        parts = [padded[..., i : i + channels // groups] for i in range(size)]
        return tf.reshape(tf.add_n(parts), tf.shape(values))

    @tf.custom_gradient
    def normalize(x):
        def denominator():
            d = k + alpha * window_sum(tf.square(x))
            return d, _reciprocal_power(d, beta)

        def gradient(dy):
            d, factor = denominator()
            inner = window_sum(dy * x * factor / d)
            return dy * factor - (2.0 * alpha * beta) * x * inner

        return x * denominator()[1], gradient

    return normalize(x)
