"""Finds images that excite a unit most, by gradient ascent from faint noise.

What grows is the unit's value, less a penalty on differences between neighbouring pixels (the
smoothness prior) and on contrast, as in Mahendran and Vedaldi, "Visualizing deep convolutional
neural networks using natural pre-images", IJCV 2016. The image is moved by a few pixels in each
step (jitter), which removes patterns that excite the unit at one position only.
"""

from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

_GREY = 127.5
_NOISE = 4.0  # standard deviation of the first image's pixels, of 0..255
_DECAY = 0.02  # the share of its contrast that an image loses in each step


def maximize(
    model: keras.Model,
    layer: str,
    units: Sequence[int],
    steps: int = 64,
    rate: float = 12.0,
    jitter: int = 4,
    smoothness: float = 0.15,
    seed: int = 0,
    progress: Callable[[int], None] = lambda done: None,
) -> np.ndarray:
    """Makes an image for each of some units of a layer.

    Of a layer of maps, what grows is the value in the middle of the unit's map.

    Args:
      model: takes RGB or grey images, 0..255, float32 (b, h, w, channels).
      layer: the name of one of its layers. Choose it before the ReLU, whose gradient is 0 where a
        unit is silent.
      units: numbers of maps, or of values of a flat layer.
      steps: of gradient ascent.
      rate: by how much, of 0..255, a step changes pixels of typical gradient.
      jitter: the most pixels that an image is moved by, each way.
      smoothness: weight of the penalty on differences of neighbouring pixels, 0 to 0.25: the share
        of its difference from its four neighbours' that a pixel loses to each of them in a step.
      seed: of first images and jitter. The same seed gives the same images.
      progress: called after each step with the number of finished steps.

    Returns:
      float32 (len(units), h, w, channels), 0..255.

    Raises:
      ValueError: no such layer or unit.
    """
    outputs = {one.name: one.output for one in model.layers}
    if layer not in outputs:
        raise ValueError(f"There is no layer {layer!r}: expected one of {', '.join(outputs)}.")
    count = outputs[layer].shape[-1]
    wrong = [unit for unit in units if not 0 <= unit < count]
    if wrong:
        raise ValueError(f"{layer} has no unit {wrong[0]}: expected 0 to {count - 1}.")
    part = keras.Model(model.input, outputs[layer])
    numbers = tf.constant(list(units), tf.int32)

    def values_of(images):
        values = part(images, training=False)
        if len(values.shape) == 4:
            values = values[:, values.shape[1] // 2, values.shape[2] // 2]
        values = tf.gather(tf.cast(values, tf.float32), numbers, axis=1)
        return tf.linalg.diag_part(values)  # image i for unit units[i]

    @tf.function
    def step(images, number):
        shift = tf.random.stateless_uniform([2], [seed, number], -jitter, jitter + 1, tf.int32)
        moved = tf.roll(images, shift, (1, 2))
        with tf.GradientTape() as tape:
            tape.watch(moved)
            total = tf.reduce_sum(values_of(moved))
        gradient = tf.roll(tape.gradient(total, moved), -shift, (1, 2))
        change = rate * gradient / _magnitude(gradient) + smoothness * _laplacian(images)
        return tf.clip_by_value(images - _DECAY * (images - _GREY) + change, 0.0, 255.0)

    shape = (len(units), *model.input_shape[1:])
    images = _GREY + tf.random.stateless_normal(shape, [seed, -1], stddev=_NOISE)
    for number in range(steps):
        images = step(images, tf.constant(number, tf.int32))
        progress(number + 1)
    return images.numpy()


def _magnitude(gradient):
    """The typical magnitude of each image's gradient where it is not 0, (b, 1, 1, 1).

    The mean of the squares is weighted by the squares, so that the size of the receptive field
    does not matter.
    """
    squares = tf.square(gradient / (tf.reduce_max(tf.abs(gradient)) + 1e-30))
    whole = tf.reduce_sum(squares, (1, 2, 3), keepdims=True)
    ratio = tf.reduce_sum(tf.square(squares), (1, 2, 3), keepdims=True) / (whole + 1e-30)
    return tf.sqrt(ratio) * (tf.reduce_max(tf.abs(gradient)) + 1e-30) + 1e-30


def _laplacian(images):
    """The sum of the four neighbours less four times the pixel; edge pixels are repeated."""
    wide = tf.pad(images, [[0, 0], [1, 1], [1, 1], [0, 0]], "SYMMETRIC")
    return (
        wide[:, :-2, 1:-1]
        + wide[:, 2:, 1:-1]
        + wide[:, 1:-1, :-2]
        + wide[:, 1:-1, 2:]
        - 4 * wide[:, 1:-1, 1:-1]
    )
