"""The first layer of every network, which normalises pixel values."""

import base64

import keras
import numpy as np
from keras import ops

from alexnet_tf.models.knowledge import Knowing

_CHANNEL_ORDERS = ("rgb", "bgr")


@keras.saving.register_keras_serializable(package="alexnet_tf")
class PixelNormalization(Knowing, keras.layers.Layer):
    """Subtracts a mean, multiplies by a scale and orders the channels.

    output = (input - mean) * scale, then the channels are reversed when `channel_order` is "bgr".

    The layer has no weights: its values are part of its configuration, so they survive `.keras`
    files, `get_config` and `keras.models.clone_model`, and the parameter count is the published
    one. The arithmetic is float32 in every dtype policy; only the result is cast to the compute
    dtype, because bfloat16 cannot distinguish neighbouring pixel values above 128.

    Args:
      mean: one number, c numbers, or an array (h, w, c) of the input's own size, such as the
        central window of a mean image. In the channel order of the input (RGB), on the scale of
        its pixels.
      scale: one number or c numbers, in the channel order of the input.
      channel_order: "rgb" keeps the channels, "bgr" reverses them, for networks that come from
        Caffe.
      knowledge: see `models.knowledge`.

    Input: (b, h, w, c), real pixels, 0..255. Output: (b, h, w, c) in the layer's compute dtype.

    Raises:
      ValueError: a mean or scale of another shape or that is not finite; an unknown channel order;
        an input that does not fit the mean.
    """

    def __init__(self, mean, scale=1.0, channel_order="rgb", **kwargs):
        # Without autocast=False Keras would round the pixels to the compute dtype before call().
        super().__init__(autocast=False, **kwargs)
        self.mean = _numbers("mean", mean, ranks=(0, 1, 3))
        self.scale = _numbers("scale", scale, ranks=(0, 1))
        if channel_order not in _CHANNEL_ORDERS:
            raise ValueError(f"channel_order is {channel_order!r}: expected 'rgb' or 'bgr'.")
        self.channel_order = channel_order

    def build(self, input_shape):
        given = tuple(input_shape[1:])
        for name, value in (("mean", self.mean), ("scale", self.scale)):
            wanted = given[3 - value.ndim :]
            if value.ndim and any(
                w not in (None, v) for w, v in zip(wanted, value.shape, strict=True)
            ):
                raise ValueError(
                    f"The {name} of PixelNormalization has shape {value.shape}, but the images "
                    f"are {given}: give numbers per channel, or a {name} of the images' size."
                )
        super().build(input_shape)

    def call(self, inputs):
        x = (ops.cast(inputs, "float32") - self.mean) * self.scale
        if self.channel_order == "bgr":
            x = ops.flip(x, axis=-1)
        return ops.cast(x, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "mean": _encode(self.mean),
            "scale": _encode(self.scale),
            "channel_order": self.channel_order,
        }


def _numbers(name, value, ranks):
    array = _decode(value) if isinstance(value, dict) else np.asarray(value)
    if array.dtype.kind not in "fiu" or array.ndim not in ranks or not np.isfinite(array).all():
        expected = "one finite number, one per channel" + (
            ", or (h, w, c) of them" if 3 in ranks else ""
        )
        raise ValueError(
            f"The {name} of PixelNormalization is {array.dtype} of shape {array.shape}: expected "
            f"{expected}."
        )
    return array.astype(np.float32)


def _encode(array):
    """JSON for an array: plain numbers when few (exact: every float32 is a double), else base64."""
    if array.ndim < 3:
        return array.tolist()
    data = np.ascontiguousarray(array, "<f4").tobytes()
    return {"shape": list(array.shape), "float32": base64.b64encode(data).decode("ascii")}


def _decode(config):
    data = np.frombuffer(base64.b64decode(config["float32"]), "<f4")
    return data.reshape(config["shape"])
