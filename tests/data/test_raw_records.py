"""Where raw records' pixels stand: held to protobuf's own reader, and to damaged files."""

import pathlib
import random

import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.data import raw_records, records
from alexnet_tf.data.foreign import RecordKeys
from alexnet_tf.data.raw_records import RawRecords, locate

SIZE, SHAPE = 48, (4, 4, 3)


def _feature(value):
    if isinstance(value, int):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))


def _in_any_order(generator, features):
    """A record whose features stand in a drawn order, some behind a second Features message."""
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
    begins, labels = locate(path, 50, size, RecordKeys())
    whole = (tmp_path / "shard").read_bytes()
    for content, begin, label in zip(contents, begins, labels, strict=True):
        feature = tf.train.Example.FromString(content).features.feature
        assert whole[begin : begin + size] == feature["image"].bytes_list.value[0]
        assert label == feature["label"].int64_list.value[0]


def test_labels_in_the_old_encoding_and_counted_from_one(tmp_path):
    """A repeated number may stand unpacked: one key and one value each."""
    entry = b"\x0a\x05class" + b"\x12\x05" + b"\x1a\x03" + b"\x08\xac\x02"  # class: 300
    features = b"\x0a" + bytes([len(entry)]) + entry
    content = b"\x0a" + bytes([len(features)]) + features
    assert tf.train.Example.FromString(content).features.feature["class"].int64_list.value == [300]
    picture = tf.train.Example(
        features=tf.train.Features(feature={"pixels": _feature(_pixels(0))})
    ).SerializeToString()
    path = _write(tmp_path / "shard", [content + picture])
    _, labels = locate(path, 1, SIZE, RecordKeys("pixels", "class", first_label=1))
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
        return locate(str(broken), count, size, RecordKeys())

    for cut in (*range(1, each), 2 * each - 1, 3 * each + 20):
        with pytest.raises(ValueError, match=r"broken is cut off"):
            found(whole[:-cut])
    with pytest.raises(ValueError, match=r"broken is cut off"):
        found(whole[:-each])
    with pytest.raises(ValueError, match=rf"has {5 * each} bytes.*4 records.*byte {4 * each}\."):
        found(whole, count=4)
    with pytest.raises(ValueError, match=r"Record 0 of .*expected 47 bytes called 'image'"):
        found(whole, size=47)
    assert found(b"", count=0)[0].shape == (0,)


def test_flipped_bits_never_end_in_another_kind_of_error(shard, tmp_path):
    whole = pathlib.Path(shard).read_bytes()
    generator = random.Random(1)
    refused = 0
    for _ in range(400):
        broken = bytearray(whole)
        broken[generator.randrange(len(whole))] ^= 1 << generator.randrange(8)
        (tmp_path / "broken").write_bytes(broken)
        try:
            locate(str(tmp_path / "broken"), 5, SIZE, RecordKeys())
        except ValueError as error:
            refused += 1
            assert "broken" in str(error)
    assert refused > 40


def _crops(raw, numbers, corners, size):
    function = tf.function(lambda n, c: raw.crops(n, c, size))
    return function(tf.constant(numbers, tf.int64), tf.constant(corners, tf.int32))


def test_crops_come_from_the_right_shard_and_place(shard, tmp_path):
    other = _write(
        tmp_path / "other", [records.encode_example(_pixels(9), 9, "9", "s") for _ in range(2)]
    )
    raw = RawRecords((shard, other), (5, 2), SHAPE, RecordKeys())
    images, labels = _crops(raw, [6, 0, 4], [(1, 2), (0, 0), (2, 1)], 2)
    assert labels.numpy().tolist() == [9, 0, 4]
    for image, (number, top, left) in zip(images, [(9, 1, 2), (0, 0, 0), (4, 2, 1)], strict=True):
        stored = np.frombuffer(_pixels(number), np.uint8).reshape(SHAPE)
        np.testing.assert_array_equal(image, stored[top : top + 2, left : left + 2])
    assert list(raw.of_shard(tf.constant(1)).as_numpy_iterator()) == [5, 6]


def test_what_goes_wrong_in_a_run_is_what_its_loop_understands(shard, tmp_path):
    raw = RawRecords((shard,), (5,), SHAPE, RecordKeys())
    _crops(raw, [0], [(0, 0)], 4)
    with open(shard, "rb+") as file:  # as by a disk that fails while it is trained on
        file.truncate(300)
    with pytest.raises(tf.errors.InvalidArgumentError, match="shard is cut off"):
        _crops(raw, [4], [(0, 0)], 4)
    gone = RawRecords((str(tmp_path / "gone"),), (5,), SHAPE, RecordKeys())
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"No such file.*gone"):
        _crops(gone, [4], [(0, 0)], 4)


def test_pixels_are_not_read_to_find_them(tmp_path, monkeypatch):
    path = _write(
        tmp_path / "shard",
        [records.encode_example(bytes(3 * 256 * 256), n, "f", "s") for n in range(20)],
    )
    taken = []

    class Counting(raw_records._Window):
        def read(self, position, count):
            taken.append((self._begin, len(self._bytes)))
            return super().read(position, count)

    monkeypatch.setattr(raw_records, "_Window", Counting)
    locate(path, 20, 3 * 256 * 256, RecordKeys())
    assert sum(count for _, count in set(taken)) < 0.01 * (tmp_path / "shard").stat().st_size
