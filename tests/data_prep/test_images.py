"""One image: held to TensorFlow's arithmetic, to a float64 area reference, and to Pillow."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from alexnet_tf.data import preprocessing
from data_prep import images
from data_prep.images import Conversion


def psnr(a, b):
    difference = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    return 10 * np.log10(255**2 / max(np.mean(difference**2), 1e-10))


def by_tensorflow(pixels, size=256):
    return preprocessing.evaluation_crop(tf.constant(pixels), size, size).numpy()


def area_weights(source, resized):
    """float64 (resized, source): the share of each source pixel in each resized one."""
    edges = np.arange(resized + 1) * (source / resized)
    left = np.maximum(edges[:-1, None], np.arange(source))
    right = np.minimum(edges[1:, None], np.arange(1, source + 1))
    weights = np.maximum(right - left, 0.0)
    return weights / weights.sum(axis=1, keepdims=True)


def area_reference(pixels, size=256):
    """The central square by exact area averages in float64."""
    height, width, _ = pixels.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = pixels[top : top + side, left : left + side].astype(np.float64)
    weights = area_weights(side, size)
    return np.einsum("ih,hwc,jw->ijc", weights, square, weights, optimize=True)


SHRINKING = [(375, 500), (500, 375), (333, 500), (480, 640), (257, 900), (600, 601), (1000, 700)]


@pytest.mark.parametrize("size", SHRINKING)
def test_shrinking_agrees_with_tensorflow_and_with_float64_areas(real, size):
    pixels = real.photograph("motorcycle_left", *size)
    ours = images.central_square(pixels, 256)
    assert ours.shape == (256, 256, 3) and ours.dtype == np.uint8
    assert psnr(ours, by_tensorflow(pixels)) >= 55
    assert psnr(ours, area_reference(pixels)) >= 58


def test_a_pixel_of_crop_geometry_would_be_noticed(real):
    pixels = real.photograph("motorcycle_left", 375, 500)
    beside = cv2.resize(pixels[:, 63:438], (256, 256), interpolation=cv2.INTER_AREA)
    assert psnr(beside, by_tensorflow(pixels)) < 40


@pytest.mark.parametrize("size", [(375, 500), (1000, 700), (300, 301)])
def test_the_square_is_the_middle_of_the_whole_resized_image(real, size):
    """As the paper says it: shorter side to 256, then the central crop; to a source pixel."""
    pixels = real.photograph("coffee", *size)
    scale = 256 / min(size)
    whole = [round(scale * side) for side in size]
    resized = cv2.resize(pixels, whole[::-1], interpolation=cv2.INTER_AREA)
    top, left = (whole[0] - 256) // 2, (whole[1] - 256) // 2
    middle = resized[top : top + 256, left : left + 256]
    assert psnr(images.central_square(pixels, 256), middle) >= 30


@pytest.mark.parametrize("size", [(100, 150), (150, 100), (255, 300), (30, 31), (12, 500), (1, 1)])
def test_enlarging_agrees_with_tensorflow(real, size):
    pixels = real.photograph("coffee", *size)
    assert psnr(images.central_square(pixels, 256), by_tensorflow(pixels)) >= 55


@pytest.mark.parametrize("size", [(256, 256), (256, 400), (401, 256)])
def test_an_image_of_the_right_size_is_only_cropped(real, size):
    pixels = real.photograph("coffee", *size)
    top, left = (size[0] - 256) // 2, (size[1] - 256) // 2
    np.testing.assert_array_equal(
        images.central_square(pixels, 256), pixels[top : top + 256, left : left + 256]
    )


@pytest.mark.parametrize("size", [28, 32, 299])
@pytest.mark.parametrize("channels", [1, 3])
def test_other_sizes_and_grey_agree_with_tensorflow(real, size, channels):
    pixels = real.photograph("coffee", 375, 500)[..., :channels]
    ours = images.central_square(pixels, size)
    assert ours.shape == (size, size, channels)
    assert psnr(ours, by_tensorflow(pixels, size)) >= 55


@pytest.mark.parametrize("name", ["plain.jpg", "grey.jpg", "progressive.jpg", "cmyk.jpg",
                                  "png_as.jpg", "alpha.png", "grey_alpha.png", "sixteen.png",
                                  "palette.png", "bilevel.png", "image.bmp", "image.gif",
                                  "turned.jpg", "stray_bytes.jpg"])  # fmt: skip
def test_decoding_agrees_with_tensorflow(nasty, name):
    ours, _ = images.decode(nasty[name], Conversion())
    theirs = preprocessing.decode(tf.constant(nasty[name])).numpy()
    assert ours.shape == theirs.shape
    # CMYK is rounded differently by the two libraries; everything else is the same to the bit.
    assert psnr(ours, theirs) >= (50 if name == "cmyk.jpg" else 90)


REPAIRS = {
    "plain.jpg": [],
    "cmyk.jpg": ["CMYK converted to RGB"],
    "png_as.jpg": ["PNG named as JPEG"],
    "grey.jpg": ["grey stored as RGB"],
    "sixteen.png": ["16 bits reduced to 8", "grey stored as RGB"],
    "alpha.png": ["alpha channel dropped"],
    "grey_alpha.png": ["alpha channel dropped", "grey stored as RGB"],
    "turned.jpg": ["not turned, though it has the EXIF orientation 6"],
    "tiny.png": [],
}


@pytest.mark.parametrize("name", REPAIRS)
def test_repairs_are_told(nasty, name):
    converted = images.convert_image(nasty[name], name, Conversion())
    assert list(converted.repairs) == REPAIRS[name]


def test_every_odd_image_becomes_a_stored_one(nasty):
    for name, content in nasty.items():
        converted = images.convert_image(content, name, Conversion())
        with Image.open(io.BytesIO(converted.encoded)) as stored:
            assert (stored.format, stored.size, stored.mode) == ("JPEG", (256, 256), "RGB"), name
            # Quality 95 with halved chroma: a chroma edge can cost this much, an error costs more.
            assert psnr(np.asarray(stored), converted.pixels) >= 30, name


def test_sixteen_bits_in_colour_are_reduced(real, tmp_path):
    deep = real.photograph("coffee", 300, 300).astype(np.uint16) * 257
    encoded = cv2.imencode(".png", deep[..., ::-1])[1].tobytes()
    pixels, repairs = images.decode(encoded, Conversion())
    np.testing.assert_array_equal(pixels, (deep >> 8).astype(np.uint8))
    assert repairs == ("16 bits reduced to 8",)


def test_raw_encoding_stores_the_pixels(real):
    pixels = real.photograph("coffee", 300, 400)
    converted = images.convert_image(
        real.pil_bytes(Image.fromarray(pixels), "PNG"), "a.png", Conversion(encoding="raw")
    )
    stored = np.frombuffer(converted.encoded, np.uint8).reshape(256, 256, 3)
    np.testing.assert_array_equal(stored, images.central_square(pixels, 256))


def test_one_channel_stores_a_grey_jpeg(nasty):
    for name in ("plain.jpg", "grey.jpg", "alpha.png"):
        converted = images.convert_image(nasty[name], name, Conversion(channels=1))
        with Image.open(io.BytesIO(converted.encoded)) as stored:
            assert stored.mode == "L"
        assert converted.pixels.shape == (256, 256, 1)
        assert "grey stored as RGB" not in converted.repairs


@pytest.mark.parametrize("turn", range(1, 9))
def test_exif_is_ignored_unless_asked_for(real, turn):
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = turn
    image = Image.fromarray(real.photograph("coffee", 256, 400))
    encoded = real.pil_bytes(image, "JPEG", quality=95, exif=exif)
    ignored, _ = images.decode(encoded, Conversion())
    assert ignored.shape == (256, 400, 3)
    applied, _ = images.decode(encoded, Conversion(apply_exif=True))
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(encoded))))
    assert applied.shape == expected.shape
    assert psnr(applied, expected) >= 50


@pytest.mark.parametrize(
    "name, reason",
    [
        ("empty.jpg", "empty"),
        ("cut.jpg", "cut off"),
        ("cut.png", "cannot be decoded"),
        ("cut_cmyk.jpg", "cannot be decoded"),
        ("text.jpg", "no image"),
        ("header_only.jpg", "JPEG"),
        ("zeros.jpg", "no image"),
    ],
)
def test_what_cannot_be_decoded_is_refused_with_the_reason(bad, name, reason):
    with pytest.raises(images.BadImage, match=reason):
        images.convert_image(bad[name], name, Conversion())


def test_too_many_pixels_are_refused_before_decoding(real):
    # A PNG of 60,000 x 60,000 in 100 bytes; decoded it would take 10 GB.
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)

    def chunk(kind, content):
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"0"))
    with pytest.raises(images.BadImage, match=r"60000 x 60000.*100000000"):
        images.decode(bomb + chunk(b"IEND", b""), Conversion())
    with pytest.raises(images.BadImage, match="max_pixels"):
        images.decode(real.jpeg(real.photograph()), Conversion(max_pixels=1000))


def test_fast_dct_scales_only_where_it_is_legal(real):
    large = real.photograph("motorcycle_left", 1200, 1600)
    exact = images.central_square(images.decode(real.jpeg(large, 95), Conversion())[0], 256)
    scaled, _ = images.decode(real.jpeg(large, 95), Conversion(fast_dct=True))
    assert scaled.shape == (300, 400, 3)
    assert 34 <= psnr(images.central_square(scaled, 256), exact) < 60
    small = real.jpeg(real.photograph("coffee", 500, 510), 95)  # less than twice the target
    np.testing.assert_array_equal(
        images.decode(small, Conversion(fast_dct=True))[0], images.decode(small, Conversion())[0]
    )


def progressive(real):
    """(everything before the last scan, the last scan) of a progressive JPEG, without its end."""
    image = Image.fromarray(real.photograph("chelsea", 60, 80))
    encoded = real.pil_bytes(image, "JPEG", quality=50, progressive=True)
    last = encoded.rindex(b"\xff\xda")
    return encoded[:last], encoded[last:-2]


@pytest.mark.parametrize("space", ["RGB", "CMYK"])
def test_a_jpeg_of_very_many_scans_is_refused(real, space):
    """Each scan costs a decoder another pass over all pixels, and its writer a few bytes."""
    image = Image.fromarray(real.photograph("chelsea", 60, 80)).convert(space)
    encoded = real.pil_bytes(image, "JPEG", quality=50, progressive=True)
    last = encoded.rindex(b"\xff\xda")
    bomb = encoded[:-2] + 200 * encoded[last:-2] + encoded[-2:]
    with pytest.raises(images.BadImage, match="more than 100 scans"):
        images.decode(bomb, Conversion())
    assert images.decode(encoded, Conversion())[0].shape == (60, 80, 3)


def test_only_the_scans_that_are_decoded_count(real):
    begin, scan = progressive(real)
    # What looks like scans in a segment and behind the image's end.
    segment = b"\xff\xef" + struct.pack(">H", 402) + 200 * b"\xff\xda"
    end = b"\xff\xd9"
    whole = begin + scan + end
    expected, _ = images.decode(whole, Conversion())
    for encoded in (whole[:2] + segment + whole[2:], whole + 200 * b"\xff\xda"):
        assert np.array_equal(images.decode(encoded, Conversion())[0], expected)
