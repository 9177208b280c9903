"""Every piece of image arithmetic: decode, resize, crop, mirror, colour noise.

Training, evaluation, prediction and the exported signatures call these functions, so they cannot
disagree. All are TensorFlow ops, safe inside `tf.data` and a SavedModel. Pictures are RGB (or grey)
in height, width, channel order, with values 0..255; the networks subtract their own mean.
"""

import tensorflow as tf

# A picture with more pixels than this is refused before it is decoded: a few kilobytes of PNG or
# JPEG can otherwise ask for gigabytes. The largest picture of ILSVRC has about 40 million.
MAX_PIXELS = 100_000_000


def decode(encoded: tf.Tensor, channels: int = 3) -> tf.Tensor:
    """Decodes one JPEG, PNG, GIF (first frame) or BMP.

    Args:
      encoded: string scalar.
      channels: 3 (RGB; grey is repeated) or 1 (grey).

    Returns:
      uint8 (height, width, channels). JPEGs are decoded with the accurate integer transform.
    """
    image = tf.io.decode_image(encoded, channels=channels, expand_animations=False)
    image.set_shape((None, None, channels))
    return image


def resize_shorter_side(image: tf.Tensor, size: int) -> tf.Tensor:
    """Resizes (height, width, channels) so that its shorter side is `size`; float32, 0..255.

    Shrinking averages areas, enlarging is bicubic, as the preparation of the original program's
    successor did (cuda-convnet2, make-data). The longer side is rounded half up.
    """
    shape = tf.shape(image)
    height, width = shape[0], shape[1]
    shorter = tf.minimum(height, width)

    def scaled(side):
        # Integer arithmetic: size * side / shorter + 1/2, floored, has no float rounding in it.
        return (2 * size * side + shorter) // (2 * shorter)

    target = tf.stack([scaled(height), scaled(width)])

    def shrink():
        return tf.image.resize(image, target, method="area")

    def enlarge():
        # Bicubic overshoots at edges; what is stored as uint8 must stay in range.
        enlarged = tf.image.resize(image, target, method="bicubic")
        return tf.clip_by_value(enlarged, 0.0, 255.0)

    resized = tf.cond(shorter >= size, shrink, enlarge)
    resized.set_shape((None, None, image.shape[-1]))
    return resized


def central_crop(image: tf.Tensor, size: int) -> tf.Tensor:
    """The central size x size window of (..., height, width, channels); offsets are floored."""
    height, width = tf.shape(image)[-3], tf.shape(image)[-2]
    top, left = (height - size) // 2, (width - size) // 2
    cropped = image[..., top : top + size, left : left + size, :]
    cropped.set_shape((*image.shape[:-3], size, size, image.shape[-1]))
    return cropped


def evaluation_crop(image: tf.Tensor, crop_size: int, image_size: int = 256) -> tf.Tensor:
    """What a network sees of one picture of any size when it is not training.

    The shorter side becomes `image_size`, the centre square is cut out, and of that the central
    crop (paper, sections 2 and 4.1). On a stored `image_size` picture only the last step remains.

    Args:
      image: (height, width, channels), uint8 or float, 0..255.
      crop_size: the network's input size, at most `image_size`.
      image_size: the size at which the data set is stored.

    Returns:
      float32 (crop_size, crop_size, channels), 0..255.
    """
    square = central_crop(resize_shorter_side(image, image_size), image_size)
    return central_crop(square, crop_size)
