"""The vectorised area resize: held to float64 areas, and to whole-number arithmetic to the bit."""

import concurrent.futures
import fractions

import numpy as np
import pytest

from data_prep import area_resize, images


def area_weights(side, size):
    """float64 (size, side): the share of each source pixel in each resized one."""
    edges = np.arange(size + 1) * (side / size)
    left = np.maximum(edges[:-1, None], np.arange(side))
    right = np.minimum(edges[1:, None], np.arange(1, side + 1))
    return np.maximum(right - left, 0.0) * (size / side)


def exact(square, size):
    weights = area_weights(len(square), size)
    return np.einsum("ih,hwc,jw->ijc", weights, square.astype(np.float64), weights, optimize=True)


def psnr(a, b):
    return 10 * np.log10(255**2 / np.mean((np.asarray(a, np.float64) - b) ** 2))


PAIRS = [
    *((side, 256) for side in (257, 258, 263, 300, 333, 374, 375, 376, 399, 500, 511, 513)),
    *((side, 256) for side in (600, 767, 769, 1000, 1023)),
    *((side, 224) for side in (229, 256, 375, 500)),
    *(
        (33, 32),
        (41, 32),
        (100, 32),
        (127, 33),
        (127, 32),
        (29, 28),
        (111, 28),
        (375, 299),
        (1023, 511),
    ),
]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side, size", PAIRS)
def test_photographs_keep_58_db(real, side, size, channels):
    assert area_resize.is_for(side, size)
    # A part of a larger square, as an image's middle is: rows do not follow on each other.
    square = real.photograph("motorcycle_left", side, side + 7)[:, 3 : side + 3, :channels]
    ours = area_resize.shrink(square, size)
    assert ours.shape == (size, size, channels) and ours.dtype == np.uint8
    assert ours.flags.c_contiguous
    assert psnr(ours, exact(square, size)) >= 58
    np.testing.assert_array_equal(images.central_square(square, size), ours)


def whole_weights(side, size):
    """int64 (size, side) weights that add up to 256, by fractions and Python's own rounding."""
    borders = [round(fractions.Fraction(256 * size * k, side)) for k in range(side + 1)]
    cut = [[min(max(b - 256 * i, 0), 256) for b in borders] for i in range(size)]
    return np.diff(np.array(cut, np.int64), axis=1)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side, size", [(375, 256), (263, 256), (1023, 256), (97, 40), (29, 28),
                                        (7, 2), (5, 2), (3, 2), (11, 9)])  # fmt: skip
def test_noise_gives_whole_number_arithmetic_to_the_bit(side, size, channels):
    """So no library's order of adding, and no fused multiplication, can change a byte."""
    square = np.random.default_rng(side).integers(0, 256, (side, side, channels), np.uint8)
    weights = whole_weights(side, size)
    assert (weights.sum(axis=1) == 256).all()
    sums = np.einsum("ih,hwc,jw->ijc", weights, square.astype(np.int64), weights, optimize=True)
    assert sums.max() < 2**24
    np.testing.assert_array_equal(area_resize.shrink(square, size), np.rint(sums / 65536))


@pytest.mark.parametrize("value", [0, 1, 127, 254, 255])
def test_a_flat_image_stays_flat(value):
    for side, size in [(375, 256), (1023, 256), (263, 256), (3, 2), (512, 256)]:
        flat = np.full((side, side, 3), value, np.uint8)
        assert (images.central_square(flat, size) == value).all(), (side, size)


@pytest.mark.parametrize("side", [512, 768, 1024, 1025, 1500])
def test_other_sides_are_left_to_opencv(real, side):
    assert not area_resize.is_for(side, 256)
    square = real.photograph("coffee", side, side)
    assert psnr(images.central_square(square, 256), exact(square, 256)) >= 58


def test_weights_add_up_to_256_wherever_it_is_used():
    for size in (2, 3, 28, 32, 224, 255, 256, 257, 299, 512):
        used = [side for side in range(1, 5 * size) if area_resize.is_for(side, size)]
        for side in (*used[:3], *used[-3:]):
            bands, across = area_resize._weights(side, size)
            down = np.zeros((size, side), int)
            for resized, source, weights in bands:
                down[resized, source] = weights.toarray()
            for found in (down, across.toarray().astype(int)):
                np.testing.assert_array_equal(found, whole_weights(side, size))


def test_threads_do_not_share_memory():
    generator = np.random.default_rng(0)
    squares = [generator.integers(0, 256, (s, s, 3), np.uint8) for s in (375, 333, 500, 280) * 8]
    alone = [area_resize.shrink(square, 256) for square in squares]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda square: area_resize.shrink(square, 256), squares))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)
