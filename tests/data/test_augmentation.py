"""Augmentation: crops and mirrors of stored images, and colour noise of the published size."""

import dataclasses

import numpy as np
import pytest

from alexnet_tf.data.pipeline import Augmentation, Schedule


def test_each_image_is_a_crop_of_a_stored_one(dataset, read_run, stored_images):
    """Found by search, not by repeating the draws: offset and mirror of every image."""
    images, labels = read_run(
        dataset, Augmentation(crop_size=224), Schedule(batch_size=32, epochs=1)
    )
    offsets, mirrored = [], 0
    for image, label in zip(images, labels, strict=True):
        best = min(
            (
                (np.abs(original[y : y + 224, x : x + 224] - view).mean(), y, x, flip)
                for original, truth in stored_images
                if truth == label
                for flip, view in ((0, image), (1, image[:, ::-1]))
                for y, x in [_offset(original, view)]
            ),
            key=lambda found: found[0],
        )
        # The window's edge columns are decoded without their neighbours' chroma.
        assert best[0] < 1.0, f"no stored image within {best[0]:.2f} grey levels"
        offsets.append(best[1:3])
        mirrored += best[3]
    assert 0.25 < mirrored / len(images) < 0.75
    offsets = np.array(offsets)
    assert offsets.min() >= 0 and offsets.max() <= 32
    assert len(np.unique(offsets[:, 0])) > 20 and len(np.unique(offsets[:, 1])) > 20


def _offset(image, view):
    """The offset of `view` in `image`: an FFT match of a central patch of the green channel."""
    patch = view[80:144, 80:144, 1] - view[80:144, 80:144, 1].mean()
    green = image[..., 1].astype(np.float64)
    spectrum = np.fft.rfft2(green) * np.conj(np.fft.rfft2(patch, green.shape))
    products = np.fft.irfft2(spectrum, green.shape)
    ones = np.conj(np.fft.rfft2(np.ones((64, 64)), green.shape))
    sums = np.fft.irfft2(np.fft.rfft2(green) * ones, green.shape)
    squares = np.fft.irfft2(np.fft.rfft2(green**2) * ones, green.shape)
    deviation = np.sqrt(np.maximum(squares - sums**2 / 4096, 1e-3))
    y, x = np.unravel_index(np.argmax((products / deviation)[80:113, 80:113]), (33, 33))
    return int(y), int(x)


def test_a_group_shares_one_crop(dataset, read_run, stored_images):
    """With one group over all, every image is cut at the same place."""
    augmentation = Augmentation(crop_size=224, mirror=False, crop_group=96)
    images, labels = read_run(dataset, augmentation, Schedule(batch_size=32, epochs=1))
    found = set()
    for image, label in zip(images[:12], labels[:12], strict=True):
        scores = {}
        for original, truth in stored_images:
            if truth == label:
                y, x = _offset(original, image)
                scores[np.abs(original[y : y + 224, x : x + 224] - image).mean()] = (y, x)
        found.add(scores[min(scores)])
    assert len(found) == 1


@pytest.mark.parametrize("kind", ["paper", "source"])
def test_colour_noise_follows_the_published_formula(dataset, kind, noise, read_run):
    """The shift of each image is along the principal axes with the published size."""
    statistics = dataset.statistics()
    clean = Augmentation(mirror=False)
    noisy = dataclasses.replace(clean, noise=noise(kind))
    schedule = Schedule(batch_size=32, epochs=4)
    without, _ = read_run(dataset, clean, schedule)
    images, _ = read_run(dataset, noisy, schedule)
    mean, divisor = statistics["rgb_mean"], 1.1 if kind == "source" else 1.0
    shifts = (images.astype(np.float64) - mean) * divisor + mean - without
    per_image = shifts.mean(axis=(1, 2))
    # One shift for a whole image.
    assert np.abs(shifts - per_image[:, None, None]).max() < 1e-3
    along = per_image @ statistics["principal_components"]
    stddevs = statistics["principal_stddevs"]
    expected = 0.1 * (stddevs if kind == "source" else stddevs**2 / 255)
    # The sample deviation of n normals spreads by 1 / sqrt(2n): four of these.
    n = len(along)
    np.testing.assert_allclose(along.std(axis=0), expected, rtol=4 / np.sqrt(2 * n))
    assert (np.abs(along.mean(axis=0)) < 4 * expected / np.sqrt(n)).all()


def test_noise_ends_when_it_should(dataset, noise, read_run):
    noisy = Augmentation(mirror=False, noise=noise("source"), noise_epochs=1)
    schedule = Schedule(batch_size=32, epochs=2)
    images, _ = read_run(dataset, noisy, schedule)
    without, _ = read_run(dataset, Augmentation(mirror=False), schedule)
    assert np.abs(images[:96] - without[:96]).mean() > 1
    np.testing.assert_allclose(images[96:], without[96:], atol=1e-4)
