"""Reads an image's EXIF orientation with TensorFlow operations.

TensorFlow's decoders do not report it, and a served model consists of operations only. Invalid EXIF
data gives orientation 1 (unchanged): it is no reason to refuse the image.
"""

import tensorflow as tf

_TAG = 0x0112  # EXIF 2.32, section 4.6.4
_SHORT, _LONG = 3, 4  # value types
_MAX_ENTRIES = 512  # per tag directory; usually about ten


def orientation(encoded: tf.Tensor) -> tf.Tensor:
    """Returns the orientation in a JPEG's first EXIF segment or a PNG's eXIf chunk.

    Args:
      encoded: string scalar, a whole file.

    Returns:
      int32 scalar, 1..8; 1 if there is none, or for other formats.
    """
    # One byte is appended, which positions beyond the end read.
    content = tf.concat([tf.io.decode_raw(encoded, tf.uint8), [tf.constant(0, tf.uint8)]], axis=0)
    file = _Bytes(content)
    is_jpeg = tf.strings.substr(encoded, 0, 3) == b"\xff\xd8\xff"
    is_png = tf.strings.substr(encoded, 0, 8) == b"\x89PNG\r\n\x1a\n"
    nowhere = tf.constant(-1, tf.int64)
    begin = tf.case(
        [(is_jpeg, lambda: _in_jpeg(file)), (is_png, lambda: _in_png(file))],
        default=lambda: nowhere,
    )
    return tf.cond(begin < 0, lambda: tf.constant(1), lambda: _of_tiff(file, begin))


def turned(image: tf.Tensor, how: tf.Tensor) -> tf.Tensor:
    """Returns the image upright: 5..8 exchange rows and columns, the others only mirror.

    Args:
      image: (height, width, channels).
      how: int32 scalar, from `orientation`.
    """
    channels = image.shape[-1]
    image = tf.cond(how >= 5, lambda: tf.transpose(image, (1, 0, 2)), lambda: image)
    for axis, which in ((1, (2, 3, 6, 7)), (0, (3, 4, 7, 8))):
        mirrored = tf.reverse(image, [axis])
        image = tf.where(tf.reduce_any(tf.equal(how, which)), mirrored, image)
    image.set_shape((None, None, channels))
    return image


class _Bytes:
    """A file's bytes, as numbers; zeros beyond its end."""

    def __init__(self, content):
        self._content = content
        self.size = tf.size(content, out_type=tf.int64) - 1

    def at(self, place):
        """The bytes at int64 `place`, of any shape."""
        inside = tf.clip_by_value(place, 0, self.size)
        return tf.cast(tf.gather(self._content, inside), tf.int64)

    def number(self, place, count, little=None):
        """`count` bytes as one number; little endian if bool `little`."""
        values = [self.at(place + n) for n in range(count)]
        big = sum(value * 256**n for n, value in enumerate(reversed(values)))
        if little is None:
            return big
        return tf.where(little, sum(value * 256**n for n, value in enumerate(values)), big)

    def text(self, place, wanted):
        """Whether these bytes are at `place`."""
        return tf.reduce_all(
            tf.equal(self.at(place + tf.range(len(wanted), dtype=tf.int64)), list(wanted))
        )


def _in_jpeg(file):
    """Where the TIFF structure of a JPEG's EXIF segment begins; -1 if it has none."""

    def unfinished(place, found):
        marker = file.number(place, 2)
        # 0xffda: the pixels begin.
        return (found < 0) & (place < file.size) & (marker // 256 == 0xFF) & (marker != 0xFFDA)

    def segment(place, found):
        is_exif = (file.number(place, 2) == 0xFFE1) & file.text(place + 4, b"Exif\0\0")
        return place + 2 + file.number(place + 2, 2), tf.where(is_exif, place + 10, found)

    start = (tf.constant(2, tf.int64), tf.constant(-1, tf.int64))
    return tf.while_loop(unfinished, segment, start)[1]


def _in_png(file):
    """Where the TIFF structure of a PNG's eXIf chunk begins; -1 if it has none."""

    def unfinished(place, found):
        return (found < 0) & (place < file.size) & ~file.text(place + 4, b"IDAT")

    def chunk(place, found):
        is_exif = file.text(place + 4, b"eXIf")
        return place + 12 + file.number(place, 4), tf.where(is_exif, place + 8, found)

    start = (tf.constant(8, tf.int64), tf.constant(-1, tf.int64))
    return tf.while_loop(unfinished, chunk, start)[1]


def _of_tiff(file, begin):
    little = file.text(begin, b"II*\0")
    known = little | file.text(begin, b"MM\0*")
    directory = begin + file.number(begin + 4, 4, little)
    count = tf.minimum(file.number(directory, 2, little), _MAX_ENTRIES)
    entries = directory + 2 + 12 * tf.range(count)
    wanted = tf.equal(file.number(entries, 2, little), _TAG)
    # The format forbids two entries with this tag; the first is used.
    entry = tf.reduce_min(tf.where(wanted, entries, file.size))
    kind = file.number(entry + 2, 2, little)
    short, long = file.number(entry + 8, 2, little), file.number(entry + 8, 4, little)
    value = tf.where(kind == _SHORT, short, tf.where(kind == _LONG, long, 1))
    right = known & tf.reduce_any(wanted) & (value >= 1) & (value <= 8)
    return tf.where(right, tf.cast(value, tf.int32), 1)
