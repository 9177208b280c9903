"""Images that a unit answers most to, found by gradient ascent from noise.

The image is a sum of waves, whose amplitudes are what is learned: step sizes that fall with the
frequency, as the amplitudes of natural images do, are a prior for smooth images. The image is moved
by a few pixels in each step (jitter), which removes patterns that work at one position only. Both
follow Olah, Mordvintsev and Schubert, "Feature Visualization", Distill 2017.
"""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

# Standard deviation of the first image around grey, and the range in which pixels end, as a share
# of 0..255: the sigmoid of a sum of waves with this deviation.
_START = 0.05


def maximize(
    model: keras.Model,
    layer: str,
    units: Sequence[int],
    steps: int = 96,
    rate: float = 0.05,
    jitter: int = 4,
    smoothness: float = 1.0,
    seed: int = 0,
) -> np.ndarray:
    """Makes an image for each of some units of a layer.

    Of a layer of maps, what grows is the value in the middle of the unit's map.

    Args:
      model: takes RGB or grey images, 0..255, float32 (b, h, w, channels).
      layer: the name of one of its layers. Choose it before the ReLU, whose gradient is 0 where a
        unit is silent.
      units: numbers of maps, or of values of a flat layer.
      steps: of gradient ascent (Adam).
      rate: its learning rate, in units of the amplitudes.
      jitter: the most pixels that an image is moved by, each way.
      smoothness: the exponent s of the 1/f**s by which the amplitudes of frequency f are scaled: 0
        for none, 1 as in natural images.
      seed: of first images and jitter. The same seed gives the same images.

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
    part = keras.Model(model.inputs, outputs[layer])
    _, height, width, channels = model.input_shape
    waves, scale = _waves(height, width, smoothness)
    shape = (2, len(units), channels, *waves)
    amplitudes = tf.Variable(
        tf.random.stateless_normal(shape, [seed, 0], stddev=_START / np.sqrt(height * width))
    )
    optimizer = keras.optimizers.Adam(rate)
    optimizer.build([amplitudes])

    def images():
        spectrum = tf.complex(amplitudes[0], amplitudes[1]) * scale
        pixels = tf.signal.irfft2d(spectrum, [height, width])  # (b, channels, h, w)
        return 255.0 * tf.sigmoid(tf.transpose(pixels, (0, 2, 3, 1)))

    @tf.function
    def ascend(step):
        shift = tf.random.stateless_uniform([2], [seed, step + 1], -jitter, jitter + 1, tf.int32)
        with tf.GradientTape() as tape:
            values = part(tf.roll(images(), shift, (1, 2)), training=False)
            if len(values.shape) == 4:
                values = values[:, values.shape[1] // 2, values.shape[2] // 2]
            chosen = tf.gather(tf.cast(values, tf.float32), units, axis=1)
            excited = tf.linalg.diag_part(chosen)  # image i for unit units[i]
            loss = -tf.reduce_sum(excited)
        optimizer.apply([tape.gradient(loss, amplitudes)], [amplitudes])

    for step in range(steps):
        ascend(tf.constant(step, tf.int32))
    return images().numpy()


def _waves(height: int, width: int, smoothness: float) -> tuple[tuple[int, int], tf.Tensor]:
    """The shape of a real image's spectrum, and the scale of each frequency in it."""
    rows = np.fft.fftfreq(height)[:, None]
    columns = np.fft.rfftfreq(width)[None, :]
    frequency = np.sqrt(rows**2 + columns**2)
    lowest = 1.0 / max(height, width)  # also for the mean, whose frequency is 0
    scale = 1.0 / np.maximum(frequency, lowest) ** smoothness
    # irfft2d divides by the number of pixels.
    scale *= np.sqrt(height * width)
    return frequency.shape, tf.constant(scale, tf.complex64)
