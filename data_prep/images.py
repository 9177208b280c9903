"""Converts one image: detect the format, decode, resize the central square, encode.

The format comes from the bytes, never from the name: ImageNet holds a PNG named .JPEG and 22 CMYK
JPEGs, and mirrors rename files. simplejpeg and OpenCV are faster here than the TensorFlow ops of
`alexnet_tf.data.preprocessing`; a test compares the two, at 55 dB or more.
"""

import dataclasses
import io
import re

import cv2
import numpy as np
import simplejpeg

from alexnet_tf import memory
from data_prep import area_resize

# Of the arithmetic here and in `area_resize`. Raise it when the same image becomes other bytes, so
# that shards of an older version are not kept.
REVISION = 4
_ORIENTATION = 0x0112  # EXIF 2.32
NOT_TURNED = "not turned, though it has the EXIF orientation"
JPEG_QUALITY = 95  # cuda-convnet2, make-data
CHROMA = "420"
# Each scan of a progressive JPEG is another pass over all pixels for some hundred bytes. Encoders
# write about 10, the standard sets no bound; libtiff's is the same.
MAX_SCANS = 100
_JPEG_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")
_JPEG_SCAN = re.compile(rb"\xff\xda")

_MAGIC = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "JPEG2000"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
)
# ISO base media files name their brand after "ftyp".
_BRANDS = {
    b"avif": "AVIF",
    b"avis": "AVIF",
    **dict.fromkeys((b"heic", b"heix", b"hevc", b"hevx", b"mif1", b"msf1"), "HEIC"),
}
_SUFFIXES = {
    "jpg": "JPEG",
    "jpeg": "JPEG",
    "jpe": "JPEG",
    "png": "PNG",
    "gif": "GIF",
    "bmp": "BMP",
    "tif": "TIFF",
    "tiff": "TIFF",
    "webp": "WEBP",
    "avif": "AVIF",
    "heic": "HEIC",
    "heif": "HEIC",
    "jfif": "JPEG",
    "jp2": "JPEG2000",
    "j2k": "JPEG2000",
    "jpx": "JPEG2000",
}
IMAGE_SUFFIXES = frozenset(_SUFFIXES)
# Suffixes of files that are no images, which need not be opened.
OTHER_SUFFIXES = frozenset(
    (
        *("arrow", "csv", "gz", "html", "json", "jsonl", "log", "mat", "md", "npy", "npz"),
        *("parquet", "pdf", "pickle", "pkl", "py", "tar", "tfrecord", "tgz", "tsv", "txt"),
        *("xml", "yaml", "yml", "zip"),
    )
)


class BadImage(ValueError):
    """An image that cannot be decoded, with the reason."""


@dataclasses.dataclass(frozen=True)
class Conversion:
    """How an image becomes a stored image.

    Attributes:
      image_size: height and width of the stored image.
      channels: 3 (RGB) or 1 (grey).
      encoding: "jpeg" (quality 95) or "raw" (uint8, height x width x channels).
      max_pixels: a larger image is refused before it is decoded.
      fast_dct: lets the JPEG library decode at 1/2, 1/4 or 1/8 where the image stays at least
        image_size: faster on large originals, not exact.
      apply_exif: turn the image as its EXIF orientation says. ImageNet's convention is not to.
    """

    image_size: int = 256
    channels: int = 3
    encoding: str = "jpeg"
    max_pixels: int = memory.MAX_PIXELS
    fast_dct: bool = False
    apply_exif: bool = False


@dataclasses.dataclass(frozen=True)
class Converted:
    """A stored image: its bytes, its pixels before encoding, and the repairs."""

    encoded: bytes
    pixels: np.ndarray  # uint8 (image_size, image_size, channels)
    repairs: tuple[str, ...]


def sniff(encoded: bytes) -> str | None:
    """The format by the first bytes: "JPEG", "PNG", "GIF", ... or None."""
    for magic, kind in _MAGIC:
        if encoded.startswith(magic):
            return kind
    if encoded[:4] == b"RIFF" and encoded[8:12] == b"WEBP":
        return "WEBP"
    if encoded[4:8] == b"ftyp":
        brand = _BRANDS.get(encoded[8:12])
        return "AVIF" if brand == "HEIC" and b"avif" in encoded[16:48] else brand
    return None


def convert_image(encoded: bytes, file_name: str, conversion: Conversion) -> Converted:
    """Converts an image file's bytes to the content of a record.

    Args:
      encoded: the file's bytes: JPEG, PNG, GIF (first frame), BMP, TIFF, WebP, AVIF or JPEG 2000.
      file_name: only to report a PNG named .JPEG as a repair.
      conversion: the settings.

    Raises:
      BadImage: empty, cut off, no image, or more than `max_pixels`.
    """
    pixels, repairs = decode(encoded, conversion)
    named = _SUFFIXES.get(file_name.rpartition(".")[2].lower())
    kind = sniff(encoded)
    if named is not None and named != kind:
        repairs = (f"{kind} named as {named}", *repairs)
    square = central_square(pixels, conversion.image_size)
    if conversion.encoding == "raw":
        return Converted(square.tobytes(), square, repairs)
    spaces = ("RGB", CHROMA) if conversion.channels == 3 else ("GRAY", "Gray")
    return Converted(simplejpeg.encode_jpeg(square, JPEG_QUALITY, *spaces), square, repairs)


def decode(encoded: bytes, conversion: Conversion):
    """Decodes to uint8 (height, width, channels).

    Returns:
      The pixels, and the repairs.

    Raises:
      BadImage: see `convert_image`.
    """
    if not encoded:
        raise BadImage("the file is empty (0 bytes)")
    kind = sniff(encoded)
    if kind is None:
        raise BadImage(f"it is no image: it starts with {encoded[:12]!r}")
    if kind == "JPEG":
        pixels, repairs = _decode_jpeg(encoded, conversion)
    else:
        pixels, repairs = _decode_other(encoded, kind, conversion)
    if _has_exif(encoded, kind) and (turn := _orientation(encoded, kind)) != 1:
        if conversion.apply_exif:
            pixels = _oriented(pixels, turn)
            repairs = (*repairs, f"turned as EXIF orientation {turn} says")
        else:
            repairs = (*repairs, f"{NOT_TURNED} {turn}")
    return pixels, repairs


def _decode_jpeg(encoded, conversion):
    if _has_too_many_scans(encoded):
        raise BadImage(f"the JPEG has more than {MAX_SCANS} scans: no encoder writes as many")
    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(encoded)
    except ValueError:
        # simplejpeg refuses rare component layouts that Pillow can read.
        return _decode_other(encoded, "JPEG", conversion)
    if space not in ("YCbCr", "RGB", "Gray"):
        return _decode_other(encoded, "JPEG", conversion)
    _check_size(height, width, conversion.max_pixels)
    repairs = ("grey stored as RGB",) if space == "Gray" and conversion.channels == 3 else ()
    # Below that, odd scales (5/8, 3/4) cost more than they save.
    large = min(height, width) >= 2 * conversion.image_size
    size = conversion.image_size if conversion.fast_dct and large else 0
    wanted = {
        "colorspace": "RGB" if conversion.channels == 3 else "GRAY",
        "min_height": size,
        "min_width": size,
    }
    try:
        return simplejpeg.decode_jpeg(encoded, **wanted), repairs
    except ValueError as error:
        reason = str(error)
    if "Premature end" in reason:
        raise BadImage(f"the JPEG is cut off ({reason})")
    # Stray bytes between markers and the like: libjpeg warns and decodes, like TensorFlow's op.
    try:
        pixels = simplejpeg.decode_jpeg(encoded, strict=False, **wanted)
    except ValueError as error:
        raise BadImage(f"the JPEG cannot be decoded ({error})") from None
    return pixels, (*repairs, f"decoded despite: {reason}")


def _has_too_many_scans(encoded):
    """Whether a JPEG has more than MAX_SCANS scans, those of thumbnails apart."""
    scans, components, at = 0, None, 2
    while scans <= MAX_SCANS and (found := _JPEG_MARKER.search(encoded, at)):
        marker, at = found[1][0], found.end()
        if marker == 0xD9:  # the end of the image
            break
        if marker in (0xC0, 0xC1):  # not progressive: one scan of all components is the last
            components = encoded[at + 7 : at + 8]
        if marker == 0xDA:
            scans += 1
            if encoded[at + 2 : at + 3] == components:
                break
            if scans == 1 and len(_JPEG_SCAN.findall(encoded, at)) < MAX_SCANS:
                break  # a faster search, which may count too many but never too few
        if marker not in (0x01, 0xD8):  # all others have a length
            at += int.from_bytes(encoded[at : at + 2], "big")
    return scans > MAX_SCANS


def _decode_other(encoded, kind, conversion):
    """Decodes everything but ordinary JPEGs, with Pillow."""
    from PIL import Image, UnidentifiedImageError

    Image.init()
    if kind not in Image.OPEN:
        raise BadImage(f"it is a {kind} file, which Pillow cannot decode: convert it to JPEG")
    Image.MAX_IMAGE_PIXELS = None  # `_check_size` checks our own bound before decoding
    try:
        with Image.open(io.BytesIO(encoded), formats=[kind]) as image:
            width, height = image.size
            _check_size(height, width, conversion.max_pixels)
            mode = image.mode
            if kind == "TIFF":
                image.getexif().pop(_ORIENTATION, None)  # else Pillow turns it unasked
            image.load()
            pixels, repairs = _eight_bits(image, encoded, conversion.channels)
    except BadImage:
        raise
    except UnidentifiedImageError:
        raise BadImage(f"the {kind} has no valid header") from None
    except Exception as error:  # Pillow's plugins raise whatever their arithmetic does
        reason = str(error) or type(error).__name__
        raise BadImage(f"the {kind} cannot be decoded ({reason})") from None
    if mode == "CMYK":
        repairs = ("CMYK converted to RGB", *repairs)
    return pixels, repairs


def _eight_bits(image, encoded, channels):
    """(uint8 (height, width, channels), repairs) of a loaded Pillow image of any mode."""
    from PIL import Image

    mode = image.mode
    repairs: tuple[str, ...] = ()
    sixteen = mode.startswith("I") or mode == "F"
    if sixteen:
        values = np.asarray(image)
        # The high byte, as libpng's and so TensorFlow's reduction to 8 bits.
        grey = np.clip(values.astype(np.int64) >> 8, 0, 255).astype(np.uint8)
        image = Image.fromarray(grey)
    if sixteen or (encoded[:4] == b"\x89PNG" and encoded[24:25] == b"\x10"):
        repairs += ("16 bits reduced to 8",)
    if mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        repairs += ("alpha channel dropped",)
    if mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    if mode in ("1", "L", "LA", "La") or sixteen:
        if channels == 3:
            repairs += ("grey stored as RGB",)
        if mode in ("LA", "La"):
            image = image.getchannel(0)
    pixels = np.asarray(image.convert("RGB" if channels == 3 else "L"))
    return np.ascontiguousarray(pixels.reshape(*pixels.shape[:2], channels)), repairs


def _check_size(height, width, max_pixels):
    if height * width > max_pixels:
        raise BadImage(
            f"it has {width} x {height} pixels, more than the {max_pixels} that --max_pixels allows"
        )
    if height < 1 or width < 1:
        raise BadImage(f"it has {width} x {height} pixels")


def _has_exif(encoded, kind) -> bool:
    """Whether there may be EXIF data. A quick look at a JPEG's segments saves the slow Pillow."""
    if kind != "JPEG":
        return True
    position = 2
    while encoded[position : position + 1] == b"\xff":
        marker, data = encoded[position + 1 : position + 2], position + 4
        if marker == b"\xe1" and encoded[data : data + 6] == b"Exif\0\0":
            return True
        if marker == b"\xda":  # the pixels begin
            return False
        position += 2 + int.from_bytes(encoded[position + 2 : data], "big")
    return False


def _orientation(encoded, kind) -> int:
    """The EXIF orientation, 1 to 8. Pillow would also read XMP, which no other reader here does."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(encoded), formats=[kind]) as image:
            exif = Image.Exif()
            if kind == "TIFF":
                exif = image.getexif()
            elif content := image.info.get("exif"):
                exif.load(content)
            turn = exif.get(_ORIENTATION, 1)
    except Exception:  # as above; with damaged EXIF data nothing is turned
        return 1
    return turn if turn in range(1, 9) else 1


def _oriented(pixels, turn):
    """EXIF 2.32, tag 0x0112: 5..8 exchange rows and columns, the others only mirror."""
    if turn >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if turn in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if turn in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def central_square(pixels, size: int):
    """The central square of an image, resized: a faster `preprocessing.central_square`.

    Args:
      pixels: uint8 (height, width, channels).
      size: of the result.

    Returns:
      uint8 (size, size, channels), C order.
    """
    height, width, channels = pixels.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = pixels[top : top + side, left : left + side]
    if area_resize.is_for(side, size):
        square = area_resize.shrink(square, size)
    elif side > size:
        square = cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA)
    elif side < size:
        square = _enlarge(square, size)
    # OpenCV and Pillow drop a single channel.
    return np.ascontiguousarray(square.reshape(size, size, channels))


def _enlarge(square, size):
    """Keys' bicubic kernel with a = -0.5, as TensorFlow's; OpenCV's has -0.75."""
    from PIL import Image

    image = Image.fromarray(square if square.shape[2] == 3 else square[..., 0])
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))
