"""All image arithmetic: decode, resize, crop, mirror, colour noise.

Training, evaluation, prediction and the exported signatures call the same functions, so they cannot
disagree. All are TensorFlow ops, usable inside `tf.data` and a SavedModel. Images are RGB or grey
in height, width, channel order, with values 0..255; the networks subtract their mean.
"""

import dataclasses

import numpy as np
import tensorflow as tf

from alexnet_tf.data import exif


def decode(encoded: tf.Tensor, channels: int = 3, apply_exif: bool = False) -> tf.Tensor:
    """Decodes one JPEG, PNG, GIF (first frame) or BMP.

    Args:
      encoded: string scalar.
      channels: 3 (RGB; grey is repeated) or 1 (grey).
      apply_exif: whether to apply the EXIF orientation.

    Returns:
      uint8 (height, width, channels). JPEGs are decoded with the accurate integer transform.
    """

    def jpeg():
        return tf.io.decode_jpeg(encoded, channels=channels, dct_method="INTEGER_ACCURATE")

    def other():
        return tf.io.decode_image(encoded, channels=channels, expand_animations=False)

    # decode_image always uses the fast transform, which is off by up to 12 grey levels.
    image = tf.cond(tf.strings.substr(encoded, 0, 3) == b"\xff\xd8\xff", jpeg, other)
    image.set_shape((None, None, channels))
    return exif.turned(image, exif.orientation(encoded)) if apply_exif else image


def central_square(image: tf.Tensor, size: int) -> tf.Tensor:
    """Returns the central square of an image of any size, resized to `size`.

    The paper resizes the shorter side to 256 and crops the central 256 x 256 (section 2). Cropping
    first differs by less than a pixel of the source and resizes no discarded pixels. Shrinking
    averages areas and enlarging is bicubic, as in cuda-convnet2's data preparation (make-data).

    Args:
      image: (height, width, channels), or several of one size (b, height, width, channels); uint8
        or float, 0..255.
      size: side of the result in pixels.

    Returns:
      float32 (size, size, channels), or (b, size, size, channels), 0..255.
    """
    side = tf.minimum(tf.shape(image)[-3], tf.shape(image)[-2])
    square = central_crop(image, side)

    def shrink():
        return tf.image.resize(square, (size, size), method="area")

    def enlarge():
        # Bicubic interpolation overshoots at edges; values stored as uint8 must stay in range.
        enlarged = tf.image.resize(square, (size, size), method="bicubic")
        return tf.clip_by_value(enlarged, 0.0, 255.0)

    resized = tf.cond(side >= size, shrink, enlarge)
    resized.set_shape((*image.shape[:-3], size, size, image.shape[-1]))
    return resized


def central_crop(image: tf.Tensor, size) -> tf.Tensor:
    """Crops the central size x size of (..., height, width, channels); offsets are rounded down.

    `size` is an int, or an int32 scalar tensor.
    """
    height, width = tf.shape(image)[-3], tf.shape(image)[-2]
    top, left = (height - size) // 2, (width - size) // 2
    cropped = image[..., top : top + size, left : left + size, :]
    known = size if isinstance(size, int) else None
    cropped.set_shape((*image.shape[:-3], known, known, image.shape[-1]))
    return cropped


def evaluation_crop(image: tf.Tensor, crop_size: int, image_size: int = 256) -> tf.Tensor:
    """Returns a network's input for an image of any size in evaluation and prediction.

    The central square is resized to `image_size` pixels, then its central crop is taken (paper,
    sections 2 and 4.1). An image stored at `image_size` is only cropped.

    Args:
      image: (height, width, channels), or several of one size (b, height, width, channels); uint8
        or float, 0..255.
      crop_size: the network's input size, at most `image_size`.
      image_size: the size at which the data set is stored.

    Returns:
      float32 (crop_size, crop_size, channels), or (b, crop_size, crop_size, channels), 0..255.
    """
    return central_crop(central_square(image, image_size), crop_size)


@dataclasses.dataclass(frozen=True, eq=False)
class ColourNoise:
    """PCA colour noise: one shift along the principal axes of RGB per image (paper, section 4.1).

    Attributes:
      axes: float32 (3, 3). Column k is the shift in pixel values for one unit of the k-th
        standard normal draw.
      mean: float32 (3,) or (crop, crop, 3), which the network subtracts; the image is divided
        about it.
      divisor: the original program divides the shifted, mean-free image by 1.1 while noise is on.
    """

    axes: np.ndarray
    mean: np.ndarray
    divisor: float = 1.0

    @classmethod
    def from_statistics(cls, statistics, kind: str, mean: np.ndarray) -> "ColourNoise":
        """Creates the noise, of 0.1 standard deviations, in one of the two published scalings.

        Args:
          statistics: `principal_components` (columns, descending) and `principal_stddevs` of the
            training set's RGB values in 0..255.
          kind: "source", as in the original program: draws times standard deviations, then division
            by 1.1 (convdata_jpeg.py); or "paper", as in the text: draws times eigenvalues of RGB in
            0..1, the only range in which their size is sensible.
          mean: the mean that the network subtracts.

        Raises:
          ValueError: an unknown `kind`, or the images are grey.
        """
        components = np.asarray(statistics["principal_components"], np.float64)
        stddevs = np.asarray(statistics["principal_stddevs"], np.float64)
        if components.shape != (3, 3):
            raise ValueError(
                "Colour noise needs colour images, but the data set is grey: use "
                "--colour_noise=none."
            )
        if kind == "source":
            scales, divisor = stddevs, 1.1
        elif kind == "paper":
            # The eigenvalue of RGB in 0..1 is (stddev / 255)^2; the shift is scaled back to 0..255.
            scales, divisor = stddevs**2 / 255.0, 1.0
        else:
            raise ValueError(f"Colour noise is 'paper' or 'source', not {kind!r}.")
        axes = (0.1 * components * scales).astype(np.float32)
        return cls(axes=axes, mean=np.asarray(mean, np.float32), divisor=divisor)

    def shifts(self, normal: tf.Tensor) -> tf.Tensor:
        """Shifts (n, 3) in pixel values of standard normal draws (n, 3)."""
        # Written out as products and sums: a matrix product's order of summation may depend on n,
        # but an image's result must not depend on its batch.
        return sum(normal[:, k, None] * self.axes[:, k] for k in range(3))

    def add(self, images: tf.Tensor, shifts: tf.Tensor, divisors: tf.Tensor) -> tf.Tensor:
        """Adds shifts (b, 3) to float32 images (b, h, w, 3) and divides about the mean by (b,)."""
        if self.divisor == 1.0:
            return images + shifts[:, None, None, :]
        # mean + (images + shift - mean) / divisor, with one product and one sum for each pixel.
        factors = (1.0 / divisors)[:, None, None, None]
        return images * factors + (self.mean * (1.0 - factors) + shifts[:, None, None, :] * factors)


def ten_crop(image: tf.Tensor, crop_size: int) -> tf.Tensor:
    """Returns the paper's ten test views: four corners and the centre, and their mirror images.

    The order is the original program's (convdata_jpeg.py): top left, top right, centre, bottom
    left, bottom right, then the same five mirrored. In a 256 x 256 image the corners of a crop
    of 224 start at 0 and 32, the centre at 16; for 227 they are 0, 29 and 14 (14.5 floored).

    Args:
      image: (..., height, width, channels), each side at least `crop_size`; any dtype.
      crop_size: height and width of a view.

    Returns:
      (..., 10, crop_size, crop_size, channels) of the same dtype.
    """
    height, width = tf.shape(image)[-3], tf.shape(image)[-2]
    low, right = height - crop_size, width - crop_size
    corners = [(0, 0), (0, right), (low // 2, right // 2), (low, 0), (low, right)]
    views = [image[..., top : top + crop_size, left : left + crop_size, :] for top, left in corners]
    views += [tf.reverse(view, axis=[-2]) for view in views]
    stacked = tf.stack(views, axis=-4)
    stacked.set_shape((*image.shape[:-3], 10, crop_size, crop_size, image.shape[-1]))
    return stacked


def nine_crop(image: tf.Tensor, crop_size: int) -> tf.Tensor:
    """Returns cuda-convnet2's nine test views for CIFAR-10, row by row, without mirrors.

    They start at each border and midway (rounded down): crops of 24 out of 32 pixels at 0, 4, 8.

    Args:
      image: (..., height, width, channels), each side at least `crop_size`; any dtype.
      crop_size: height and width of a view.

    Returns:
      (..., 9, crop_size, crop_size, channels) of the same dtype.
    """
    height, width = tf.shape(image)[-3], tf.shape(image)[-2]
    low, right = height - crop_size, width - crop_size
    views = [
        image[..., top : top + crop_size, left : left + crop_size, :]
        for top in (0, low // 2, low)
        for left in (0, right // 2, right)
    ]
    stacked = tf.stack(views, axis=-4)
    stacked.set_shape((*image.shape[:-3], 9, crop_size, crop_size, image.shape[-1]))
    return stacked
