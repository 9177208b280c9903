"""Trained or random: every start that is known here looks random, what training leaves does not."""

import numpy as np
import pytest
import skimage.data

from alexnet_tf.models.weights import inspection

SHAPES = {"conv1": (96, 3, 11, 11), "conv3": (64, 48, 3, 3), "fc7": (256, 300), "small": (16, 24)}


def _bias(kind, shape, rng):
    limit = 1 / np.sqrt(np.prod(shape[1:]))
    return rng.uniform(-limit, limit, shape[0]) if kind == "uniform" else np.full(shape[0], 0.1)


def _draw(kind, shape, rng):
    fan_in = int(np.prod(shape[1:]))
    if kind == "uniform":
        return rng.uniform(-1, 1, shape) / np.sqrt(fan_in)
    if kind == "he":
        return rng.normal(0, np.sqrt(2 / fan_in), shape)
    if kind == "truncated":
        values = rng.normal(0, 1, (4, *shape))
        inside = np.abs(values) < 2
        return 0.005 * np.take_along_axis(values, inside.argmax(0)[None], 0)[0]
    return rng.normal(0, 0.01, shape)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("normal", "normal of std 0.01, the paper's"),
        ("he", "normal of std sqrt(2 / fan-in), He's"),
        ("uniform", "uniform +-1/sqrt(fan-in), PyTorch's default"),
        ("truncated", "truncated normal of std 0.005, Caffe's"),
    ],
)
def test_a_start_looks_random_and_is_named(kind, words, shape):
    for seed in range(5):
        rng = np.random.default_rng(seed)
        kernel = _draw(kind, SHAPES[shape], rng)
        found = inspection.evidence("x", kernel, _bias(kind, SHAPES[shape], rng))
        assert found.random, found.text()
        assert found.biases == ("uniform in +-1/sqrt(fan-in)" if kind == "uniform" else "all 0.1")
        if shape != "small":  # of 384 numbers the kinds cannot be told apart for sure
            assert found.start == words


def test_what_training_leaves_is_found():
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.01, SHAPES["conv1"])
    # Kernels of images are smooth.
    smooth = noise + np.roll(noise, 1, 2) + np.roll(noise, 1, 3)
    found = inspection.evidence("conv1", smooth, np.zeros(96))
    assert not found.random and found.neighbours > 0.2 and found.neighbours_z > 50
    # A direction that many inputs share.
    matrix = rng.normal(0, 0.01, (256, 300))
    found = inspection.evidence("fc7", matrix, np.zeros(256))
    direction = np.outer(rng.normal(0, 0.01, 256), rng.normal(0, 1, 300))
    learned = inspection.evidence("fc7", matrix + direction, np.zeros(256))
    assert found.random and found.spectrum < 1.05
    assert not learned.random and learned.spectrum > 1.2
    # Tails: few large numbers, many small ones.
    heavy = inspection.evidence("fc8", rng.laplace(0, 0.01, (256, 300)), np.zeros(256))
    assert not heavy.random and heavy.kurtosis > 2
    # Biases that moved.
    assert inspection.evidence("fc8", matrix, rng.normal(0, 1, 256)).biases == "learned"


def test_patches_of_images_as_kernels_look_trained():
    image = skimage.data.astronaut().astype(np.float32)
    rng = np.random.default_rng(1)
    corners = rng.integers(0, 500, (96, 2))
    patches = [image[y : y + 11, x : x + 11].transpose(2, 0, 1) for y, x in corners]
    kernel = np.stack(patches) / 255 - 0.5
    found = inspection.evidence("conv1", kernel, np.zeros(96))
    assert not found.random and found.neighbours > 0.8


def test_a_kernel_of_one_number_is_no_trained_one():
    found = inspection.evidence("conv1", np.zeros((8, 3, 11, 11)), np.zeros(8))
    assert found.random and "all one number" in found.text()
