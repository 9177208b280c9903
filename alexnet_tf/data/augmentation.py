"""Random augmentation for training: the draws of an epoch, and their application on the device.

Every random number is a function of (seed, epoch, position in the epoch): one stateless call draws
the table of an epoch, and row n belongs to its n-th image. Images are sent to the device as stored,
in uint8; crop, mirror, cast and colour noise run there, in one function.
"""

import dataclasses
import functools

import numpy as np
import tensorflow as tf

from alexnet_tf.data.preprocessing import ColourNoise
from alexnet_tf.data.records import PreparedDataset

# Numbers of the random streams of an epoch.
ORDER, _CROP, _MIRROR, _NOISE = range(4)


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Augmentation of training images.

    Attributes:
      crop_size: height and width of the random crop in pixels, at most the stored size.
      border: width in pixels of a black border that the crop may include: with a crop of the
        stored size, it shifts the image by up to this many pixels.
      mirror: whether half of the images are mirrored left to right.
      crop_group: number of consecutive images that share one crop and mirror draw. 1 draws for
        each; the original program's 32 is one draw per chunk (convdata_jpeg.py).
      noise: the colour noise, or None.
      noise_epochs: number of epochs with colour noise; None for all. The original runs ended
        without it.
    """

    crop_size: int = 224
    border: int = 0
    mirror: bool = True
    crop_group: int = 1
    noise: ColourNoise | None = None
    noise_epochs: int | None = None

    def draws(
        self, dataset: PreparedDataset, seed: int, epoch: tf.Tensor, count: int
    ) -> tf.data.Dataset:
        """Returns the draws for the first `count` images of an epoch (int64 scalar).

        Returns:
          A dataset of dictionaries: "crop" int32 (2,), the top left corner; with mirrors, "mirror"
          bool (); with noise, "shift" float32 (3,), in pixel values, and "divisor" float32 ().
        """
        offsets = dataset.format.image_size + 2 * self.border - self.crop_size + 1
        groups = -(-count // self.crop_group)
        crop = tf.random.stateless_uniform(
            [groups, 2], stream(seed, _CROP, epoch), maxval=offsets, dtype=tf.int32
        )
        draws = {"crop": tf.repeat(crop, self.crop_group, axis=0)[:count]}
        if self.mirror:
            mirror = tf.random.stateless_uniform([groups], stream(seed, _MIRROR, epoch)) < 0.5
            draws["mirror"] = tf.repeat(mirror, self.crop_group)[:count]
        if self.noise is not None:
            on = True
            if self.noise_epochs is not None:
                on = epoch < self.noise_epochs
            normal = tf.random.stateless_normal([count, 3], stream(seed, _NOISE, epoch))
            draws["shift"] = tf.where(on, self.noise.shifts(normal), 0.0)
            draws["divisor"] = tf.fill([count], tf.where(on, np.float32(self.noise.divisor), 1.0))
        return tf.data.Dataset.from_tensor_slices(draws)

    def apply(self, images: tf.Tensor, draws: dict[str, tf.Tensor]) -> tf.Tensor:
        """Crops, mirrors and adds noise, on the device where the images are.

        Args:
          images: (b, h, w, channels) as stored, uint8 or float32, 0..255, with known h and w.
          draws: a batch of the result of `draws`.

        Returns:
          float32 (b, crop_size, crop_size, channels), 0..255; noise may exceed the range.
        """
        size, border = self.crop_size, self.border
        if border:
            images = tf.pad(images, [[0, 0], [border, border], [border, border], [0, 0]])
        _, height, width, channels = images.shape
        if self.mirror or (height, width) != (size, size):
            # A single gather: a mirrored crop takes its columns from the right.
            column = tf.range(size)
            if self.mirror:
                column = tf.where(draws["mirror"][:, None], size - 1 - column, column)
            rows = draws["crop"][:, :1] + tf.range(size)  # (b, size)
            columns = draws["crop"][:, 1:] + column  # (b, size)
            pixels = rows[:, :, None] * width + columns[:, None, :]  # (b, size, size)
            flat = tf.reshape(images, (-1, height * width, channels))
            images = tf.gather(flat, pixels, batch_dims=1)
        images = tf.cast(images, tf.float32)
        if self.noise is not None:
            images = self.noise.add(images, draws["shift"], draws["divisor"])
        return images

    @functools.cached_property
    def compiled(self):
        """`apply`, fused into one pass by XLA on any device. Not for exported functions."""
        return tf.function(lambda images, draws: self.apply(images, draws), jit_compile=True)


def stream(seed: int, kind: int, epoch: tf.Tensor) -> tf.Tensor:
    """The seed of one kind of draw in one epoch: int64 (2,)."""
    return tf.stack([tf.constant(seed * 4 + kind, tf.int64), tf.cast(epoch, tf.int64)])
