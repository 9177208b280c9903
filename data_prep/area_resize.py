"""Shrinking by averages over areas, as OpenCV's INTER_AREA, in arithmetic that is vectorised.

OpenCV computes areas of other than whole factors one number at a time. Here each direction is a
sparse matrix of weights times the image, which SciPy does row by row: a number times a whole row
of pixels, added to another row. The image is turned in between and at the end, a band of rows at
a time, so that what is in between stays in the processor's cache.

Weights are whole 256ths. After the first direction sums are whole numbers below 2**16, after the
second below 2**24, which float32 holds exactly: the result is the same to the bit on every
processor, with or without fused multiplication, in whatever order a library adds. Rounding the
weights costs 0.1 dB: 58.8 dB against areas in float64, where 58.9 is what rounding the result to
8 bits leaves.
"""

import functools

import cv2
import numpy as np
from scipy import sparse
from scipy.sparse._sparsetools import csr_matvecs

# Above, few images are left to be faster for.
_LARGEST = 4.0
# Resized rows of a band: fewer are more calls, more leave the cache.
_BAND = 64


def is_for(side: int, size: int) -> bool:
    """Whether `shrink` takes a square of `side` pixels to `size`.

    Not by whole factors: there OpenCV is vectorised itself.
    """
    return size < side <= _LARGEST * size and side % size != 0


def shrink(square: np.ndarray, size: int) -> np.ndarray:
    """Shrinks a square image by averages over areas.

    Args:
      square: uint8 (side, side, channels), with `is_for(side, size)`.
      size: of the result.

    Returns:
      uint8 (size, size, channels), C order.
    """
    side, _, channels = square.shape
    bands, second = _weights(side, size)
    most = max(first.shape[1] for _, _, first in bands)
    # Taken once for all bands: the second finds them in the cache, where the first left them.
    rows = np.empty((most, side, channels), np.uint16)
    down = np.empty((_BAND, side, channels), np.uint16)
    columns = np.empty(_BAND * side * channels, np.float32)
    across = np.empty(_BAND * size * channels, np.float32)
    shrunk = np.empty((size, size, channels), np.uint8)
    for resized, source, first in bands:
        height, taken = first.shape
        rows[:taken] = square[source]
        _multiply(first, rows[:taken], down[:height])
        turned = cv2.transpose(down[:height])
        narrow = columns[: turned.size].reshape(turned.shape)
        narrow[...] = turned
        wide = across[: size * height * channels].reshape(size, height, channels)
        _multiply(second, narrow, wide)
        turned = cv2.transpose(cv2.convertScaleAbs(wide, alpha=2.0**-16))
        shrunk[resized] = turned.reshape(height, size, channels)
    return shrunk


def _multiply(weights, source, result):
    """result = weights @ source over the first dimension. All are contiguous and of one dtype."""
    result.fill(0)
    # What `weights @ source` comes to: its way there, and memory that is new each time, cost a
    # tenth of this module's time.
    columns = result[0].size
    csr_matvecs(
        *weights.shape,
        columns,
        weights.indptr,
        weights.indices,
        weights.data,
        source.reshape(-1),
        result.reshape(-1),
    )


@functools.lru_cache(maxsize=64)  # sides that ImageNet has often; some 10 KB each
def _weights(side, size):
    """The weights of source pixels in resized ones. Each row adds up to 256.

    Returns:
      For each band of resized rows: which they are, which rows of the source they need, and the
      weights of these, uint16. Then all weights, float32 (size, side).
    """
    # Borders of source pixels in 256ths of resized ones. Weights are differences of borders, so
    # that they add up to 256 and none of them is off by more than the rounding of two borders.
    borders = np.rint(np.arange(side + 1) * (256 * size) / side).astype(np.int64)
    taps = min(-(-side // size) + 1, side)
    first = np.minimum(np.arange(size) * side // size, side - taps)[:, None]
    columns = first + np.arange(taps)  # (size, taps)
    origin = 256 * np.arange(size)[:, None]
    begins, ends = borders[columns], borders[columns + 1]
    parts = np.clip(ends - origin, 0, 256) - np.clip(begins - origin, 0, 256)
    entries = (parts.ravel(), columns.ravel(), np.arange(0, parts.size + 1, taps))
    weights = sparse.csr_array(entries, shape=(size, side))
    weights.eliminate_zeros()
    bands = []
    for begin in range(0, size, _BAND):
        resized = slice(begin, min(begin + _BAND, size))
        band = weights[resized]
        source = slice(int(band.indices.min()), int(band.indices.max()) + 1)
        bands.append((resized, source, band[:, source].astype(np.uint16)))
    return bands, weights.astype(np.float32)
