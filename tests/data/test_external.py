"""Records and TFDS data sets of others, against the pixels that went into them."""

import contextlib
import gzip
import io

import cv2
import numpy as np
import pytest
import skimage.data
import tensorflow as tf
from PIL import Image

from alexnet_tf.data import external, records
from alexnet_tf.data.evaluation_data import evaluation_batches
from alexnet_tf.data.pipeline import Augmentation, Schedule, training_batches

SIZE = 48
SYNSETS = ("n01440764", "n01443537", "n01484850")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def _images(count, seed=3):
    """Windows of photographs, each of another size, as PNG (JPEG every third) and as pixels."""
    rng = np.random.default_rng(seed)
    photographs = [skimage.data.astronaut(), skimage.data.chelsea(), skimage.data.coffee()]
    for number in range(count):
        height, width = rng.integers(60, 200, 2)
        window = photographs[number % 3][10 : 10 + height, 20 : 20 + width]
        buffer = io.BytesIO()
        Image.fromarray(window).save(buffer, format="PNG" if number % 3 else "JPEG", quality=95)
        # What Pillow reads back is what the record means.
        yield buffer.getvalue(), np.asarray(Image.open(io.BytesIO(buffer.getvalue())))


def _by_hand(pixels, size=SIZE):
    """The central square, averaged over areas in float64 by OpenCV."""
    side = min(pixels.shape[:2])
    top, left = (pixels.shape[0] - side) // 2, (pixels.shape[1] - side) // 2
    square = pixels[top : top + side, left : left + side].astype(np.float64)
    return cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA)


def _write(path, name, examples):
    path.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path / name)) as writer:
        for encoded, label in examples:
            feature = {
                "image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[encoded])),
                "image/class/label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
                "image/format": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"?"])),
            }
            if label > 0:
                synset = SYNSETS[(label - 1) % 3].encode()
                feature["image/class/synset"] = tf.train.Feature(
                    bytes_list=tf.train.BytesList(value=[synset])
                )
            example = tf.train.Example(features=tf.train.Features(feature=feature))
            writer.write(example.SerializeToString())


@pytest.fixture
def inception(tmp_path):
    """A directory as Inception's converter leaves it: labels from 1, no metadata."""
    rows = [(*row, n % 3 + 1) for n, row in enumerate(_images(15))]
    path = tmp_path / "inception"
    _write(path, "train-00000-of-00002", [(row[0], row[2]) for row in rows[:5]])
    _write(path, "train-00001-of-00002", [(row[0], row[2]) for row in rows[5:10]])
    _write(path, "validation-00000-of-00001", [(row[0], row[2]) for row in rows[10:]])
    return path, rows


def test_inception_records_train_and_evaluate(inception):
    path, rows = inception
    dataset = records.open_dataset(str(path)).viewed(SIZE, 3)
    assert dataset.counts == {"train": 10, "validation": 5}
    assert dataset.synsets == SYNSETS and dataset.keys.first_label == 1
    seen = []
    batches = training_batches(
        dataset, Augmentation(crop_size=SIZE, mirror=False), Schedule(batch_size=5, epochs=1)
    )
    for images, labels in batches.as_numpy_iterator():
        seen += list(zip(images, labels, strict=True))
    left = [(_by_hand(pixels), label - 1) for _, pixels, label in rows[:10]]
    for image, label in seen:
        apart = [np.abs(image - wanted).max() for wanted, _ in left]
        # Whole grey levels come only from the two JPEG decoders.
        assert min(apart) < 2.5, "no image that was written"
        assert left.pop(int(np.argmin(apart)))[1] == label
    assert not left
    images, labels, indices = next(
        evaluation_batches(dataset, "validation", 8, SIZE).as_numpy_iterator()
    )
    assert list(indices) == [0, 1, 2, 3, 4, -1, -1, -1]
    for image, label, (_, pixels, truth) in zip(images[:5, 0], labels[:5], rows[10:], strict=True):
        assert np.abs(image - _by_hand(pixels)).max() < 2.5 and label == truth - 1


def test_statistics_of_others_records_are_those_of_their_pixels(inception):
    path, rows = inception
    found = records.open_dataset(str(path)).viewed(SIZE, 3).statistics()
    images = np.stack([_by_hand(pixels) for _, pixels, _ in rows[:10]])
    flat = images.reshape(-1, 3)
    # A grey level at most from the JPEG decoders in a third of the images.
    np.testing.assert_allclose(found["mean_image"], images.mean(0), atol=0.8)
    np.testing.assert_allclose(found["rgb_mean"], flat.mean(0), atol=0.1)
    np.testing.assert_allclose(found["rgb_covariance"], np.cov(flat.T, bias=True), rtol=2e-3)
    assert found["count"] == 10


def test_the_first_label_is_seen_or_said(inception, tmp_path):
    path, rows = inception
    zero = records.open_dataset(str(path), first_label=0)
    assert zero.classes == 4 and zero.synsets == ("0", *SYNSETS)
    _write(tmp_path / "zero", "train-00000-of-00001", [(row[0], row[2] - 1) for row in rows])
    dataset = records.open_dataset(str(tmp_path / "zero"))
    assert dataset.keys.first_label == 0 and dataset.classes == 3
    with pytest.raises(ValueError, match=r"run from 0 to 2: .*--first_label"):
        records.open_dataset(str(tmp_path / "zero"), first_label=1)
    (path / "labels.txt").write_text("0:tench\n1:goldfish\n2:shark\n")
    assert records.open_dataset(str(path)).synsets == ("tench", "goldfish", "shark")
    (path / "labels.txt").write_text("tench\n")
    with pytest.raises(ValueError, match=r"labels.txt has 1 names, but labels run from 1 to 3"):
        records.open_dataset(str(path))


def test_records_are_read_through_once_until_they_change(inception, monkeypatch):
    path, rows = inception
    first = records.open_dataset(str(path))

    def scan(shards):
        raise AssertionError("read again")

    monkeypatch.setattr(external, "_scan", scan)
    assert records.open_dataset(str(path)) == first
    _write(path, "validation-00000-of-00001", [(row[0], row[2]) for row in rows[:2]])
    with pytest.raises(AssertionError, match="read again"):
        records.open_dataset(str(path))


def test_bad_records_are_refused_in_a_sentence(inception, tmp_path):
    path, _ = inception
    whole = (path / "train-00000-of-00002").read_bytes()
    (path / "train-00000-of-00002").write_bytes(whole[:-7])
    with pytest.raises(ValueError, match=r"\(train\) is damaged"):
        records.open_dataset(str(path))
    (path / "train-00000-of-00002").write_bytes(b"no records at all, but some bytes")
    with pytest.raises(ValueError, match=r"is no TFRecord file, or is damaged"):
        records.open_dataset(str(path))
    (path / "train-00000-of-00002").write_bytes(gzip.compress(whole))
    with pytest.raises(ValueError, match=r"is compressed with gzip.*gunzip"):
        records.open_dataset(str(path))
    other = tmp_path / "other"
    other.mkdir()
    with tf.io.TFRecordWriter(str(other / "train-00000-of-00001")) as writer:
        example = tf.train.Example()
        example.features.feature["pixels"].bytes_list.value.append(b"x")
        writer.write(example.SerializeToString())
    with pytest.raises(ValueError, match=r"have \['pixels'\]: expected image/encoded"):
        records.open_dataset(str(other))
    with pytest.raises(ValueError, match=r"TFDS cannot provide no_such_set.*tfds:imagenette"):
        records.open_dataset("tfds:no_such_set")


def test_an_empty_first_shard_is_no_hindrance(inception):
    """Converters that deal images out at random leave such."""
    path, _ = inception
    _write(path, "train-00000-of-00002", [])
    dataset = records.open_dataset(str(path))
    assert dataset.counts == {"train": 5, "validation": 5}
    for name in ("train-00001-of-00002", "validation-00000-of-00001"):
        _write(path, name, [])
    with pytest.raises(ValueError, match="holds no record"):
        records.open_dataset(str(path))


def _builder(directory, image, examples, anonymous=True):
    """Prepares a data set called tiny_images with TFDS itself; `examples` by split."""
    import tensorflow_datasets as tfds

    register = tfds.core.registered.skip_registration if anonymous else contextlib.nullcontext
    with register():
        builder = _tiny_images(image, examples)(data_dir=str(directory))
    builder.download_and_prepare()
    return builder


def _tiny_images(image, examples):
    import tensorflow_datasets as tfds

    class TinyImages(tfds.core.GeneratorBasedBuilder):
        """Images and labels, as they are given."""

        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {"image": image, "label": tfds.features.ClassLabel(names=["a", "b", "c"])}
            return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(split) for split in examples}

        def _generate_examples(self, split):
            for number, (pixels, label) in enumerate(examples[split]):
                yield number, {"image": pixels, "label": label}

    return TinyImages


def test_tfds_images_of_any_size_are_those_that_tfds_reads(tmp_path):
    import tensorflow_datasets as tfds

    every = [pixels for _, pixels in _images(9)]
    rows = [(pixels, n % 3) for n, pixels in enumerate(every)]
    builder = _builder(
        tmp_path / "tfds",
        tfds.features.Image(shape=(None, None, 3)),
        {"train": rows[:6], "test": rows[6:]},
    )
    dataset = records.open_dataset(str(builder.data_dir)).viewed(SIZE, 3)
    assert records.open_dataset(f"tfds:{builder.data_dir}").viewed(SIZE, 3) == dataset
    assert dataset.counts == {"train": 6, "test": 3, "validation": 3}
    assert dataset.synsets == ("a", "b", "c")
    plain = builder.as_dataset(split="test", shuffle_files=False)
    images, labels, _ = next(evaluation_batches(dataset, "validation", 3, SIZE).as_numpy_iterator())
    for row, image, label in zip(plain.as_numpy_iterator(), images[:, 0], labels, strict=True):
        # Lossless files: only float32 against float64.
        np.testing.assert_allclose(image, _by_hand(row["image"]), atol=1e-2)
        assert label == row["label"]
    with pytest.raises(ValueError, match="leave out --first_label"):
        records.open_dataset(str(builder.data_dir), first_label=1)


def test_a_tfds_data_set_by_name(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    rng = np.random.default_rng(0)
    rows = [(rng.integers(0, 256, (28, 28, 1), np.uint8), n % 3) for n in range(4)]
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path / "home"))
    _builder(tmp_path / "home", tfds.features.Image(shape=(28, 28, 1)), {"train": rows}, False)
    dataset = records.open_dataset("tfds:tiny_images").viewed(256, 1)
    assert dataset.format == records.RecordFormat(28, 1, "any")
    batches = training_batches(
        dataset, Augmentation(crop_size=28, mirror=False), Schedule(batch_size=4, epochs=1)
    )
    images, labels = next(batches.as_numpy_iterator())
    found = {
        (image.astype(np.uint8).tobytes(), int(n)) for image, n in zip(images, labels, strict=True)
    }
    assert found == {(pixels.tobytes(), n) for pixels, n in rows}
