"""A data set's statistics from sums, against NumPy's of all pixels."""

import numpy as np
import pytest

from alexnet_tf.data import statistics


def test_statistics_are_numpys_of_all_pixels():
    rng = np.random.default_rng(0)
    # Channels that depend on each other: the axes are not those of the channels.
    images = rng.normal(100, 20, (40, 6, 5, 1)) + rng.normal(0, [5, 10, 3], (40, 6, 5, 3))
    pixels = images.reshape(-1, 3)
    found = statistics.finish(len(images), images.sum(axis=0), pixels.T @ pixels)
    np.testing.assert_allclose(found["mean_image"], images.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(found["rgb_mean"], pixels.mean(axis=0))
    covariance = np.cov(pixels, rowvar=False, bias=True)
    np.testing.assert_allclose(found["rgb_covariance"], covariance, rtol=1e-9)
    _, singular, axes = np.linalg.svd(pixels - pixels.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(found["principal_stddevs"], singular / np.sqrt(len(pixels)))
    overlap = found["principal_components"].T @ axes.T
    np.testing.assert_allclose(np.abs(overlap), np.eye(3), atol=1e-9)
    largest = np.abs(found["principal_components"]).argmax(axis=0)
    assert (found["principal_components"][largest, range(3)] > 0).all()
    assert (found["count"], found["pixels"]) == (40, 1200)


def test_no_image_has_no_statistics():
    with pytest.raises(ValueError, match="found none"):
        statistics.finish(0, np.zeros((2, 2, 3)), np.zeros((3, 3)))
