"""Reading images by position, against protobuf's reader and TensorFlow's decoder; damage."""

import io
import os
import pathlib
import random
import subprocess
import sys

import numpy as np
import pytest
import simplejpeg
import tensorflow as tf
from PIL import Image

from alexnet_tf.data import located_records, preprocessing, record_places, records
from alexnet_tf.data.external import RecordKeys
from alexnet_tf.data.located_records import LocatedRecords
from alexnet_tf.data.record_places import locate
from alexnet_tf.data.records import RecordFormat

SIZE, SHAPE, RAW = 48, (4, 4, 3), RecordFormat(4, 3, "raw")


def _feature(value):
    if isinstance(value, int):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))


def _in_any_order(generator, features):
    """A record whose features are in a random order, some behind a second Features message."""
    names = list(features)
    generator.shuffle(names)
    parts = [
        tf.train.Example(
            features=tf.train.Features(feature={name: _feature(features[name])})
        ).SerializeToString()
        for name in names
    ]
    return b"".join(parts)  # protobuf merges messages that follow on each other


def _write(path, contents):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for content in contents:
            writer.write(content)
    return str(path)


def _pixels(number):
    return np.random.default_rng(number).integers(0, 256, SIZE, np.uint8).tobytes()


@pytest.mark.parametrize("size", [SIZE, 3 * 256 * 256])
def test_pixels_and_labels_are_what_protobuf_reads(tmp_path, size):
    generator = random.Random(0)
    contents = []
    for number in range(50):
        features = {
            "image": np.random.default_rng(number).bytes(size),
            "label": generator.choice([0, 1, 127, 128, 999, 2**31, -1]),
            "file_name": b"n" * generator.choice([0, 1, 100, 127, 128, 700]),
            "an image": b"no pixels, only a name like it",
        }
        contents.append(_in_any_order(generator, features))
    path = _write(tmp_path / "shard", contents)
    spans, labels = locate(path, 50, RecordKeys(), size)
    np.testing.assert_array_equal(locate(path, 50, RecordKeys())[0], spans)
    whole = (tmp_path / "shard").read_bytes()
    for content, (begin, end), label in zip(contents, spans, labels, strict=True):
        feature = tf.train.Example.FromString(content).features.feature
        assert whole[begin:end] == feature["image"].bytes_list.value[0]
        assert label == feature["label"].int64_list.value[0]


def test_labels_in_the_old_encoding_and_counted_from_one(tmp_path):
    """A repeated number may be unpacked: one key and one value each."""
    entry = b"\x0a\x05class" + b"\x12\x05" + b"\x1a\x03" + b"\x08\xac\x02"  # class: 300
    features = b"\x0a" + bytes([len(entry)]) + entry
    content = b"\x0a" + bytes([len(features)]) + features
    assert tf.train.Example.FromString(content).features.feature["class"].int64_list.value == [300]
    image = tf.train.Example(
        features=tf.train.Features(feature={"pixels": _feature(_pixels(0))})
    ).SerializeToString()
    path = _write(tmp_path / "shard", [content + image])
    _, labels = locate(path, 1, RecordKeys("pixels", "class", first_label=1), SIZE)
    assert labels.tolist() == [299]


@pytest.fixture
def shard(tmp_path):
    contents = [records.encode_example(_pixels(n), n, f"{n}.jpg", "s") for n in range(5)]
    return _write(tmp_path / "shard", contents)


def test_a_file_that_is_not_as_described_is_an_error(shard, tmp_path):
    whole = pathlib.Path(shard).read_bytes()
    each = len(whole) // 5
    broken = tmp_path / "broken"

    def found(content, count=5, size=SIZE):
        broken.write_bytes(content)
        return locate(str(broken), count, RecordKeys(), size)

    for cut in (*range(1, each), 2 * each - 1, 3 * each + 20):
        with pytest.raises(ValueError, match=r"broken is cut off"):
            found(whole[:-cut])
    with pytest.raises(ValueError, match=r"broken is cut off"):
        found(whole[:-each])
    with pytest.raises(ValueError, match=rf"has {5 * each} bytes.*4 records.*byte {4 * each}\."):
        found(whole, count=4)
    with pytest.raises(ValueError, match=r"Record 0 of .*expected 47 bytes called 'image'"):
        found(whole, size=47)
    assert found(whole, size=None)[1].tolist() == [0, 1, 2, 3, 4]
    assert found(b"", count=0)[0].shape == (0, 2)


def test_flipped_bits_never_end_in_another_kind_of_error(shard, tmp_path):
    whole = pathlib.Path(shard).read_bytes()
    generator = random.Random(1)
    refused = 0
    for _ in range(400):
        broken = bytearray(whole)
        broken[generator.randrange(len(whole))] ^= 1 << generator.randrange(8)
        (tmp_path / "broken").write_bytes(broken)
        try:
            locate(str(tmp_path / "broken"), 5, RecordKeys(), SIZE)
        except ValueError as error:
            refused += 1
            assert "broken" in str(error)
    assert refused > 40


def _images(located, numbers):
    return tf.function(located.images)(tf.constant(numbers, tf.int64))


def test_images_come_from_the_right_shard_and_place(shard, tmp_path):
    other = _write(
        tmp_path / "other", [records.encode_example(_pixels(9), 9, "9", "s") for _ in range(2)]
    )
    raw = LocatedRecords((shard, other), (5, 2), RAW, RecordKeys())
    images, labels = _images(raw, [6, 0, 4, 0])
    assert labels.numpy().tolist() == [9, 0, 4, 0]
    for image, number in zip(images, [9, 0, 4, 0], strict=True):
        np.testing.assert_array_equal(
            image, np.frombuffer(_pixels(number), np.uint8).reshape(SHAPE)
        )
    assert list(raw.of_shard(tf.constant(1)).as_numpy_iterator()) == [5, 6]


def test_what_goes_wrong_in_a_run_is_what_its_loop_understands(shard, tmp_path):
    raw = LocatedRecords((shard,), (5,), RAW, RecordKeys())
    _images(raw, [0])
    with open(shard, "rb+") as file:  # as by a disk that fails while it is trained on
        file.truncate(300)
    with pytest.raises(tf.errors.InvalidArgumentError, match="shard is cut off"):
        _images(raw, [4])
    gone = LocatedRecords((str(tmp_path / "gone"),), (5,), RAW, RecordKeys())
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"No such file.*gone"):
        _images(gone, [4])


def test_pixels_are_not_read_to_find_them(tmp_path, monkeypatch):
    path = _write(
        tmp_path / "shard",
        [records.encode_example(bytes(3 * 256 * 256), n, "f", "s") for n in range(20)],
    )
    taken = []

    class Counting(record_places._Window):
        def read(self, position, count):
            taken.append((self._begin, len(self._bytes)))
            return super().read(position, count)

    monkeypatch.setattr(record_places, "_Window", Counting)
    locate(path, 20, RecordKeys(), 3 * 256 * 256)
    assert sum(count for _, count in set(taken)) < 0.01 * (tmp_path / "shard").stat().st_size


def _photograph(size, channels):
    import skimage.data

    pixels = skimage.data.astronaut()[:size, 100 : 100 + size]
    return np.ascontiguousarray(pixels if channels == 3 else pixels[..., 1:2])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("chroma", ["420", "422", "440", "411", "444", "Gray", "progressive"])
@pytest.mark.parametrize("quality", [30, 95])
def test_jpegs_are_decoded_to_tensorflows_bits(tmp_path, monkeypatch, channels, chroma, quality):
    """Of every kind of sampling, odd sizes and grey files among them."""
    monkeypatch.setattr(preprocessing, "decode", None)  # not by TensorFlow itself
    for size in (61, 96):
        grey = chroma == "Gray"
        if chroma == "progressive":
            file = io.BytesIO()
            Image.fromarray(_photograph(size, 3)).save(file, "JPEG", progressive=True)
            encoded = file.getvalue()
        else:
            encoded = simplejpeg.encode_jpeg(
                _photograph(size, 1 if grey else 3), quality, "GRAY" if grey else "RGB", chroma
            )
        path = _write(tmp_path / "shard", [records.encode_example(encoded, 3, "f", "s")])
        located = LocatedRecords((path,), (1,), RecordFormat(size, channels), RecordKeys())
        images, labels = _images(located, [0, 0])
        assert labels.numpy().tolist() == [3, 3]
        expected = tf.io.decode_jpeg(encoded, channels, dct_method="INTEGER_ACCURATE")
        for image in images:
            np.testing.assert_array_equal(image, expected)


def test_damaged_jpegs_are_named_and_stray_bytes_pass_as_with_tensorflow(tmp_path):
    form = RecordFormat(96, 3)

    def read(encoded):
        path = _write(tmp_path / "shard", [records.encode_example(encoded, 3, "f", "s")])
        return _images(LocatedRecords((path,), (1,), form, RecordKeys()), [0])[0][0]

    whole = simplejpeg.encode_jpeg(_photograph(96, 3), 95)
    place = r"image at byte \d+ of .*shard: "
    for damaged in (whole[:1000], whole[:-500]):
        with pytest.raises(tf.errors.InvalidArgumentError, match=place + r".*\(Premature end"):
            read(damaged)
    for other in (b"", b"no image"):
        with pytest.raises(tf.errors.InvalidArgumentError, match=place + r".*it starts with b'"):
            read(other)
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=r"shape is \(90, 90, 3\), but .* says \(96, 96, 3\)"
    ):
        read(simplejpeg.encode_jpeg(_photograph(90, 3), 95))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"shape is \(99, 99, 3\)"):
        read(simplejpeg.encode_jpeg(_photograph(99, 3), 95))
    stray = whole[:20] + b"\0\0\0" + whole[20:]  # between two segments
    with pytest.raises(ValueError):
        simplejpeg.decode_jpeg(stray)
    np.testing.assert_array_equal(read(stray), read(whole))


@pytest.mark.parametrize("channels", [1, 3])
def test_other_images_are_what_they_are_elsewhere(tmp_path, channels):
    """As in evaluation, which goes through TensorFlow's decoders."""
    four = io.BytesIO()
    Image.fromarray(_photograph(96, 3)).convert("CMYK").save(four, "JPEG")
    png = tf.io.encode_png(_photograph(96, 3)).numpy()
    for encoded in (png, four.getvalue()):
        path = _write(tmp_path / "shard", [records.encode_example(encoded, 3, "f", "s")])
        located = LocatedRecords((path,), (1,), RecordFormat(96, channels), RecordKeys())
        try:
            expected = preprocessing.decode(tf.constant(encoded), channels)
        except tf.errors.InvalidArgumentError:  # no grey of four colours there
            with pytest.raises(tf.errors.InvalidArgumentError, match="its colours are CMYK"):
                _images(located, [0])
        else:
            np.testing.assert_array_equal(_images(located, [0])[0][0], expected)


def test_memory_is_used_again_only_when_nobody_has_the_batch(shard):
    raw = LocatedRecords((shard,), (5,), RAW, RecordKeys())
    batches = [_images(raw, [n] * 3)[0] for n in range(5)]
    for n, batch in enumerate(batches):
        assert (batch.numpy() == np.frombuffer(_pixels(n), np.uint8).reshape(SHAPE)).all()
    buffers = located_records._Buffers()
    first = buffers.take((2, 3))
    address, part = first.ctypes.data, first[1]
    assert address % 64 == 0 and buffers.take((2, 3)).ctypes.data != address
    del first
    assert buffers.take((2, 3)).ctypes.data != address  # a view keeps it
    del part
    assert buffers.take((2, 3)).ctypes.data == address


def test_places_are_found_once_for_all_pipelines_until_the_file_changes(shard, monkeypatch):
    taken = []

    def counting(path, *rest):
        taken.append(path)
        return locate(path, *rest)

    monkeypatch.setattr(record_places, "locate", counting)
    for _ in range(2):
        _images(LocatedRecords((shard,), (5,), RAW, RecordKeys()), [0, 4])
    assert taken == [shard]
    _write(shard, [records.encode_example(_pixels(7), n, f"longer {n}", "s") for n in range(5)])
    images, _ = _images(LocatedRecords((shard,), (5,), RAW, RecordKeys()), [3])
    np.testing.assert_array_equal(images[0], np.frombuffer(_pixels(7), np.uint8).reshape(SHAPE))
    assert taken == [shard, shard]


def test_several_values_are_refused_as_by_the_stream(tmp_path):
    def found(**lists):
        features = {"image": _feature(_pixels(0)), "label": _feature(1)} | lists
        example = tf.train.Example(features=tf.train.Features(feature=features))
        path = _write(tmp_path / "several", [example.SerializeToString()])
        return locate(path, 1, RecordKeys(), SIZE)

    assert found()[1].tolist() == [1]
    labels = tf.train.Feature(int64_list=tf.train.Int64List(value=[5, 7]))
    images = tf.train.Feature(bytes_list=tf.train.BytesList(value=[_pixels(0)] * 2))
    empty = tf.train.Feature(int64_list=tf.train.Int64List())
    for several in ({"label": labels}, {"image": images}, {"label": empty}):
        with pytest.raises(ValueError, match=r"Record 0 of .*several is not what"):
            found(**several)


@pytest.mark.parametrize("number", [b"\xff" * 200, b"\x80" * 200, b"\xff" * 9 + b"\x7f"])
def test_numbers_that_are_none_are_refused(tmp_path, number):
    path = _write(tmp_path / "shard", [b"\x0a" + number])
    with pytest.raises(ValueError, match=r"no tf\.train\.Example"):
        locate(path, 1, RecordKeys(), SIZE)


def test_a_shard_is_announced_before_it_is_read(shard, monkeypatch):
    if not hasattr(os, "posix_fadvise"):
        pytest.skip("this system has no posix_fadvise")
    announced = []
    monkeypatch.setattr(
        os, "posix_fadvise", lambda file, *rest: announced.append((os.fstat(file).st_size, rest))
    )
    monkeypatch.setattr(located_records, "_ANNOUNCED", 500)
    located = LocatedRecords((shard, "not there"), (5, 2), RAW, RecordKeys())
    shards = tf.data.Dataset.range(2).interleave(located.of_shard, cycle_length=2)
    assert sorted(shards.as_numpy_iterator()) == list(range(7))
    size = os.path.getsize(shard)
    assert 500 < size < 1000
    assert announced == [(size, (begin, 500, os.POSIX_FADV_WILLNEED)) for begin in (0, 500)]


@pytest.mark.parametrize("taker", ["nobody", "a thread"])
def test_python_ends_while_a_pipeline_is_in_full_swing(shard, taker):
    """An iterator that is still there waits for its threads, and they for Python."""
    program = f"""
import threading
import tensorflow as tf
from alexnet_tf.data import located_records
from alexnet_tf.data.located_records import LocatedRecords
from alexnet_tf.data.external import RecordKeys
from alexnet_tf.data.records import RecordFormat

located = LocatedRecords(({shard!r},), (5,), RecordFormat(4, 3, "raw"), RecordKeys())
numbers = tf.data.Dataset.from_tensors(tf.constant([4] * 100, tf.int64)).repeat()
iterator = iter(numbers.map(located.images, num_parallel_calls=4).prefetch(300))
next(iterator)
if {taker!r} == "a thread":
    threading.Thread(target=lambda: [None for _ in iterator], daemon=True).start()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    if taker == "nobody":
        assert "Traceback" not in done.stderr
    else:
        assert "Python is about to end." in done.stderr
