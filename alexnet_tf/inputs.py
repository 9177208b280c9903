"""`preprocess_input`: resizes and crops images to the network's size."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def preprocess_input(
    images: np.ndarray | Sequence[npt.ArrayLike], variant: str = "alexnet"
) -> np.ndarray:
    """Resizes and crops images to what a network takes. It subtracts nothing: the network does.

    Args:
      images: one image (height, width, 3) or several: an array (n, height, width, 3) or a list of
        images of different sizes. RGB, 0..255, any numeric dtype.
      variant: a name of `alexnet_tf.list_models()`.

    Returns:
      float32 (n, crop, crop, 3), 0..255; n is 1 for one image. The shorter side becomes 256
      (area-averaged when it shrinks, bicubic when it grows), then the centre is cut out, as in
      evaluation and serving.

    Raises:
      ValueError: an unknown variant, no image, or an array that is no image.
    """
    import tensorflow as tf

    from alexnet_tf.data.preprocessing import evaluation_crop
    from alexnet_tf.models import crop_size

    size = crop_size(variant)
    several = [images] if getattr(images, "ndim", None) == 3 else images
    pictures = [np.asarray(image) for image in several]
    if not pictures:
        raise ValueError("Found no image: expected (height, width, 3) or a list of such.")
    for picture in pictures:
        if picture.ndim != 3 or 0 in picture.shape:
            raise ValueError(
                f"Found an array of shape {picture.shape}: expected images (height, width, 3)."
            )
    # Networks for small images see the whole image; the others a crop of 256.
    stored = 256 if size > 128 else size
    crops = [evaluation_crop(tf.constant(picture), size, stored) for picture in pictures]
    return tf.stack(crops).numpy()
