"""Sums for mean image, RGB mean and principal components, which can be added in any order.

All sums are integers and therefore exact: shards merged in any order, on any number of machines,
give the same bytes. Only the last step, `finish`, is float64 arithmetic.
"""

import dataclasses

import cv2
import numpy as np

from alexnet_tf.data import statistics

# Images of value 255 that a float32 accumulator holds exactly, up to 2**24.
_FLUSH = 2**24 // 255


@dataclasses.dataclass
class PixelSums:
    """Sums over images of one shape.

    Attributes:
      count: number of images.
      image: int64 (height, width, channels), the sum of the images.
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
        """Adds the sums over other images."""
        self.count += other.count
        self.image += other.image
        self.products += other.products

    def finish(self) -> dict[str, np.ndarray]:
        """The arrays of `statistics.npz`, as `alexnet_tf.data.statistics.finish` gives them."""
        return statistics.finish(self.count, self.image, self.products)


class Accumulator:
    """Adds up images, uint8 (height, width, channels), fast and exactly.

    The products come from OpenCV's squared norms, which are integers for uint8:
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
