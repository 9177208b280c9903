"""Mean, covariance and principal components from sums over images."""

import numpy as np


def finish(count: int, image: np.ndarray, products: np.ndarray) -> dict[str, np.ndarray]:
    """The arrays of `statistics.npz`.

    Args:
      count: number of images, all of one shape.
      image: (height, width, channels), the sum of the images' values, 0..255 each.
      products: (channels, channels), the sum over all pixels of value x value^T.

    Returns:
      mean_image float32 (h, w, c) in 0..255; rgb_mean float64 (c,); rgb_covariance float64 (c, c),
      over all pixels, divided by their number; principal_components float64 (c, c), unit axes as
      columns in descending order of variance; principal_stddevs float64 (c,); count and pixels
      int64. The sign of an axis is arbitrary: its largest entry is made positive, so that equal
      data gives equal files.

    Raises:
      ValueError: no image.
    """
    if count == 0:
        raise ValueError("Statistics need a training image: found none.")
    height, width, channels = image.shape
    pixels = count * height * width
    mean = image.sum(axis=(0, 1)) / pixels
    covariance = products / pixels - np.outer(mean, mean)
    variances, axes = np.linalg.eigh(covariance)
    variances, axes = variances[::-1], axes[:, ::-1]
    largest = axes[np.abs(axes).argmax(axis=0), np.arange(channels)]
    return {
        "mean_image": (image / count).astype(np.float32),
        "rgb_mean": mean,
        "rgb_covariance": covariance,
        "principal_components": axes * np.where(largest < 0, -1.0, 1.0),
        "principal_stddevs": np.sqrt(np.maximum(variances, 0.0)),
        "count": np.int64(count),
        "pixels": np.int64(pixels),
    }
