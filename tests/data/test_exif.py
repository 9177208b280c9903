"""EXIF orientations read and applied with TensorFlow's operations, against Pillow."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from alexnet_tf.data import exif, preprocessing

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)


def encoded(kind, orientation, order=None):
    tags = Image.Exif()
    tags[0x010F] = "a maker"
    tags[0x0112] = orientation
    if order:
        tags.endian = order
    out = io.BytesIO()
    Image.fromarray(PIXELS).save(out, kind, exif=tags)
    return out.getvalue()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_all_orientations(kind, order):
    for orientation in range(1, 9):
        content = encoded(kind, orientation, order)
        assert int(exif.orientation(tf.constant(content))) == orientation
        upright = preprocessing.decode(tf.constant(content), apply_exif=True).numpy()
        expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))))
        assert upright.shape == expected.shape
        assert np.abs(upright.astype(int) - expected).max() <= (2 if kind == "JPEG" else 0)
        untouched = preprocessing.decode(tf.constant(content)).numpy()
        assert untouched.shape == PIXELS.shape


def test_images_without_an_orientation():
    plain = io.BytesIO()
    Image.fromarray(PIXELS).save(plain, "JPEG")
    bitmap = io.BytesIO()
    Image.fromarray(PIXELS).save(bitmap, "BMP")
    for content in (plain.getvalue(), bitmap.getvalue(), encoded("JPEG", 9), encoded("PNG", 0)):
        assert int(exif.orientation(tf.constant(content))) == 1


def test_damaged_exif_is_no_reason_to_fail():
    read = tf.function(exif.orientation, input_signature=[tf.TensorSpec((), tf.string)])
    rng = np.random.default_rng(1)
    for kind in ("JPEG", "PNG"):
        whole = encoded(kind, 6)
        for length in range(0, 90, 3):
            assert 1 <= int(read(tf.constant(whole[:length]))) <= 8
        for _ in range(200):
            content = bytearray(whole)
            for place in rng.integers(0, 90, 4):
                content[place] = rng.integers(256)
            assert 1 <= int(read(tf.constant(bytes(content)))) <= 8
