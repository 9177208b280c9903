"""Shrinking by averages over areas, as OpenCV's INTER_AREA, in arithmetic that is vectorised.

OpenCV computes areas of other than whole factors one number at a time, which takes as long as two
thirds of decoding the JPEG. Here both directions are sums of products that its and NumPy's vector
code does: rows times weights first, then columns by small matrix products.

Weights are whole 256ths, so that after both directions every sum is a whole number below 2**24.
float32 holds those exactly: the result is the same to the bit on every processor, with or without
fused multiplication, in whatever order a library adds. Rounding the weights costs 0.1 dB: 58.8 dB
against areas in float64, where 58.9 is what rounding the result to 8 bits leaves.
"""

import functools
import threading

import cv2
import numpy as np

# Whole columns of the result that one matrix product makes: fewer are more calls, more multiply
# more zeros.
_BLOCK = 8
# Below, a pixel's weight may not fit into a byte; above, OpenCV has as little overhead.
_SMALLEST, _LARGEST = 1.02, 4.0


class _Buffers(threading.local):
    """Memory that is used again: taking it anew costs as much as a tenth of the resize."""

    made_for: tuple[int, int] | None = None
    bytes_: tuple[np.ndarray, np.ndarray]
    floats: tuple[np.ndarray, np.ndarray]

    def get(self, size, channels, width):
        """uint8 (size, width) twice, float32 (size, width) and (size, size * channels)."""
        if self.made_for != (size, channels):
            most = size * channels * int(size * _LARGEST)
            self.bytes_ = np.empty(most, np.uint8), np.empty(most, np.uint8)
            self.floats = (
                np.empty(most, np.float32),
                np.empty((size, size * channels), np.float32),
            )
            self.made_for = size, channels
        of_width = [flat[: size * width].reshape(size, width) for flat in self.bytes_]
        return *of_width, self.floats[0][: size * width].reshape(size, width), self.floats[1]


_buffers = _Buffers()


def is_for(side: int, size: int) -> bool:
    """Whether `shrink` takes a square of `side` pixels to `size`."""
    return _SMALLEST * size <= side <= _LARGEST * size


def shrink(square: np.ndarray, size: int) -> np.ndarray:
    """Shrinks a square picture by averages over areas.

    Args:
      square: uint8 (side, side, channels), with `is_for(side, size)`.
      size: of the result.

    Returns:
      uint8 (size, size, channels), C order.
    """
    side, _, channels = square.shape
    rows, parts, products = _plan(side, size, channels)
    source = np.ascontiguousarray(square).reshape(side, side * channels)
    taken, weights, down, across = _buffers.get(size, channels, side * channels)
    for tap, (row, part) in enumerate(zip(rows, parts, strict=True)):
        np.take(source, row, axis=0, out=taken, mode="clip")
        weights[:] = part  # OpenCV does not broadcast
        if tap == 0:
            cv2.multiply(taken, weights, down, dtype=cv2.CV_32F)
        else:
            cv2.accumulateProduct(taken, weights, down)
    for columns, matrix, resized in products:
        np.matmul(down[:, columns], matrix, out=across[:, resized])
    return cv2.convertScaleAbs(across, alpha=2.0**-16).reshape(size, size, channels)


@functools.lru_cache(maxsize=64)  # sides that ImageNet has often; 0.1 to 0.3 MB each
def _plan(side, size, channels):
    """What is multiplied by what.

    Returns:
      The source rows of each tap, (taps, size); their weights, uint8 (taps, size, 1), which add up
      to 256; and for each block of resized columns: the slice of source columns, float32 weights
      (source columns, resized columns), the slice of resized columns. Columns are those of
      flattened rows: pixels x channels.
    """
    # Borders of source pixels in 256ths of resized ones. Weights are differences of borders, so
    # that they add up to 256 and none of them is off by more than the rounding of two borders.
    borders = np.rint(np.arange(side + 1) * (256 * size) / side).astype(np.int64)
    taps = min(-(-side // size) + 1, side)
    first = np.minimum(np.arange(size) * side // size, side - taps)
    rows = first + np.arange(taps)[:, None]
    begin = 256 * np.arange(size)
    parts = np.clip(borders[rows + 1] - begin, 0, 256) - np.clip(borders[rows] - begin, 0, 256)
    products = []
    for left in range(0, size, _BLOCK):
        pixels, part = rows[:, left : left + _BLOCK], parts[:, left : left + _BLOCK]
        begin, end, count = pixels.min(), pixels.max() + 1, pixels.shape[1]
        matrix = np.zeros((end - begin, channels, count, channels), np.float32)
        for channel in range(channels):
            matrix[pixels - begin, channel, np.arange(count), channel] = part
        products.append(
            (
                slice(begin * channels, end * channels),
                matrix.reshape(-1, count * channels),
                slice(left * channels, (left + count) * channels),
            )
        )
    return rows, parts.astype(np.uint8)[..., None], products
