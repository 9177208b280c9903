"""Untrusted images: the size in the header is checked before anything is decoded.

A few kilobytes of PNG or JPEG can ask for gigabytes of pixels; so can 1 x 100,000 pixels when the
shorter side is enlarged. All are TensorFlow ops, so that served models do the same.
"""

import tensorflow as tf

from alexnet_tf import memory
from alexnet_tf.data import preprocessing

# Bringing the shorter side to 256 makes an image of 256 x 25,600 at worst: 79 MB as float32.
MAX_ASPECT_RATIO = 100


def decode_untrusted(encoded: tf.Tensor, channels: int = 3, apply_exif: bool = False) -> tf.Tensor:
    """Decodes one JPEG or PNG whose header asks for a reasonable size.

    Args:
      encoded: string scalar, a whole file.
      channels: 3 (RGB; grey is repeated, transparency dropped) or 1 (grey).
      apply_exif: turn it as its EXIF orientation says.

    Returns:
      uint8 (height, width, channels), as `preprocessing.decode` gives it.

    Raises:
      tf.errors.InvalidArgumentError: neither a JPEG nor a PNG, damaged, of more than
        `memory.MAX_PIXELS` pixels, or more than 100 times as long as wide.
    """
    with tf.control_dependencies([require_size(encoded_size(encoded))]):
        return preprocessing.decode(tf.identity(encoded), channels, apply_exif)


def encoded_size(encoded: tf.Tensor) -> tf.Tensor:
    """int64 (height, width) from the header of a JPEG or PNG; nothing is decoded.

    Raises:
      tf.errors.InvalidArgumentError: the bytes are neither.
    """
    is_jpeg = tf.strings.substr(encoded, 0, 3) == b"\xff\xd8\xff"
    # The signature and the IHDR chunk, which ends at byte 33: width and height at 16 and 20.
    has_header = tf.strings.length(encoded) >= 33
    is_png = (tf.strings.substr(encoded, 0, 8) == b"\x89PNG\r\n\x1a\n") & has_header
    known = tf.debugging.Assert(is_jpeg | is_png, ["This is neither a JPEG nor a PNG."])

    def of_jpeg():
        return tf.cast(tf.image.extract_jpeg_shape(encoded)[:2], tf.int64)

    def of_png():
        header = tf.strings.substr(encoded, 16, 8)
        width_height = tf.io.decode_raw(header, tf.int32, little_endian=False)
        return tf.cast(width_height[::-1], tf.int64)

    with tf.control_dependencies([known] if known is not None else []):
        size = tf.cond(is_jpeg, of_jpeg, of_png)
    size.set_shape((2,))
    return size


def require_size(height_width: tf.Tensor) -> tf.Operation:
    """An op that fails with INVALID_ARGUMENT unless the int (height, width) is reasonable."""
    height, width = tf.unstack(tf.cast(height_width, tf.int64))
    shorter, longer = tf.minimum(height, width), tf.maximum(height, width)
    reasonable = (
        (shorter > 0)
        # A product of two sides of up to 2^31 fits an int64.
        & (height * width <= memory.MAX_PIXELS)
        & (longer <= MAX_ASPECT_RATIO * shorter)
    )
    message = (
        f"Images may have 1 to {memory.MAX_PIXELS} pixels and be at most "
        f"{MAX_ASPECT_RATIO} times as long as wide; this one has height and width"
    )
    check = tf.debugging.Assert(reasonable, [message, height, width])
    return check if check is not None else tf.no_op()
