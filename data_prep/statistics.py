"""Mean image, RGB mean and principal components, as sums that can be added in any order.

All sums are whole numbers, so they are exact: shards may be merged in any order, on any number of
machines, and give the same bytes. Only the last step, `finish`, is float64 arithmetic.
"""

import dataclasses

import cv2
import numpy as np

# float32 counts without gaps up to 2**24: so many pictures of value 255 fit into one accumulator.
_FLUSH = 2**24 // 255


@dataclasses.dataclass
class PixelSums:
    """Sums over pictures of one shape.

    Attributes:
      count: number of pictures.
      image: int64 (height, width, channels), the sum of the pictures.
      products: int64 (channels, channels), the sum over all pixels of value x value^T.
    """

    count: int
    image: np.ndarray
    products: np.ndarray

    @classmethod
    def zeros(cls, shape: tuple[int, int, int]) -> "PixelSums":
        channels = shape[2]
        return cls(0, np.zeros(shape, np.int64), np.zeros((channels, channels), np.int64))

    def add(self, other: "PixelSums") -> None:
        """Adds the sums over other pictures."""
        self.count += other.count
        self.image += other.image
        self.products += other.products

    def finish(self) -> dict[str, np.ndarray]:
        """The arrays of `statistics.npz`.

        Returns:
          mean_image float32 (h, w, c) in 0..255; rgb_mean float64 (c,); rgb_covariance float64
          (c, c), over all pixels, divided by their number; principal_components float64 (c, c),
          unit axes as columns in descending order of variance; principal_stddevs float64 (c,);
          count and pixels int64. The sign of an axis is arbitrary: its largest entry is made
          positive, so that equal data gives equal files.
        """
        if self.count == 0:
            raise ValueError("Statistics need a training picture: found none.")
        height, width, channels = self.image.shape
        pixels = self.count * height * width
        mean = self.image.sum(axis=(0, 1)) / pixels
        covariance = self.products / pixels - np.outer(mean, mean)
        variances, axes = np.linalg.eigh(covariance)
        variances, axes = variances[::-1], axes[:, ::-1]
        largest = axes[np.abs(axes).argmax(axis=0), np.arange(channels)]
        return {
            "mean_image": (self.image / self.count).astype(np.float32),
            "rgb_mean": mean,
            "rgb_covariance": covariance,
            "principal_components": axes * np.where(largest < 0, -1.0, 1.0),
            "principal_stddevs": np.sqrt(np.maximum(variances, 0.0)),
            "count": np.int64(self.count),
            "pixels": np.int64(pixels),
        }


class Accumulator:
    """Adds up pictures, uint8 (height, width, channels), fast and exactly.

    The products come from OpenCV's squared norms, which are whole numbers for uint8:
    2 * sum(a * b) = sum(a * a) + sum(b * b) - sum((a - b)**2).
    """

    def __init__(self, shape: tuple[int, int, int]):
        self._sums = PixelSums.zeros(shape)
        self._recent = np.zeros(shape, np.float32)
        self._recent_count = 0

    def add(self, pixels: np.ndarray) -> None:
        cv2.accumulate(pixels, self._recent)
        self._recent_count += 1
        planes = cv2.split(pixels)
        squares = [round(cv2.norm(plane, cv2.NORM_L2SQR)) for plane in planes]
        products = self._sums.products
        for i, plane in enumerate(planes):
            products[i, i] += squares[i]
            for j in range(i):
                apart = round(cv2.norm(plane, planes[j], cv2.NORM_L2SQR))
                both = (squares[i] + squares[j] - apart) // 2
                products[i, j] += both
                products[j, i] += both
        if self._recent_count == _FLUSH:
            self._flush()

    def sums(self) -> PixelSums:
        self._flush()
        return self._sums

    def _flush(self):
        self._sums.image += self._recent.astype(np.int64)
        self._sums.count += self._recent_count
        self._recent[:] = 0
        self._recent_count = 0
