"""Folders in, a TFDS data set out: through the command, read back with plain TFDS."""

import hashlib
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from alexnet_tf.data import preprocessing, records
from data_prep import plan, preparation, writer


def digests(folder):
    """file name -> sha256 of everything in a directory."""
    return {
        name: hashlib.sha256(pathlib.Path(folder, name).read_bytes()).hexdigest()
        for name in sorted(os.listdir(folder))
    }


@pytest.fixture(scope="module")
def prepared(photo_folders, tmp_path_factory, real):
    output = tmp_path_factory.mktemp("convert") / "data"
    done = real.run(
        "data_prep.convert", f"--source={photo_folders}", f"--output={output}", "--shards=3"
    )
    assert done.returncode == 0, done.stderr
    assert "84 train, 42 validation images of 14 classes" in done.stdout
    return str(output)


def test_plain_tfds_reads_it(prepared, photo_folders):
    builder = tfds.builder_from_directory(prepared)
    names = builder.info.features["label"].names
    assert names == sorted(os.listdir(os.path.join(photo_folders, "train")))
    for split, folder, count in (("train", "train", 84), ("validation", "val", 42)):
        assert builder.info.splits[split].num_examples == count
        rows = list(tfds.as_numpy(builder.as_dataset(split=split)))
        found = sorted((row["synset"].decode(), row["file_name"].decode()) for row in rows)
        expected = sorted(
            (name, file)
            for name in names
            for file in os.listdir(os.path.join(photo_folders, folder, name))
        )
        assert found == expected
        for row in rows:
            assert row["image"].shape == (256, 256, 3) and row["image"].dtype == np.uint8
            assert names[row["label"]] == row["synset"].decode()


def test_places_may_be_relative_where_images_are_unpacked_first(tmp_path, monkeypatch, real):
    """As `--source=CIFAR10_BATCHES --output=cifar10` in the documents: the same records."""
    photo = real.photograph("coffee", 200, 300)
    for number, name in enumerate([*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]):
        planes = photo[number * 16 :, number * 16 :][:32, :32].transpose(2, 0, 1)
        row = bytes([number]) + np.ascontiguousarray(planes).tobytes()
        real.write(tmp_path / "batches" / f"{name}.bin", row)
    preparation.prepare(str(tmp_path / "batches"), str(tmp_path / "absolute"), workers=1)
    monkeypatch.chdir(tmp_path)
    preparation.prepare("batches", "relative", workers=1)
    records_of = {
        folder: {name: sha for name, sha in digests(folder).items() if "tfrecord" in name}
        for folder in ("absolute", "relative")
    }
    assert len(records_of["relative"]) == 2
    assert records_of["relative"] == records_of["absolute"]


def test_images_are_what_preprocessing_makes_of_the_files(prepared, photo_folders):
    builder = tfds.builder_from_directory(prepared)
    for row in tfds.as_numpy(builder.as_dataset(split="validation").take(12)):
        path = os.path.join(photo_folders, "val", row["synset"].decode(), row["file_name"].decode())
        expected = preprocessing.evaluation_crop(
            preprocessing.decode(tf.io.read_file(path)), 256
        ).numpy()
        error = np.mean((row["image"].astype(np.float64) - expected) ** 2)
        assert 10 * np.log10(255**2 / error) > 33, path  # what JPEG 95 with halved chroma costs


def test_the_shards_are_shuffled_over_the_whole_set(prepared):
    rows = tfds.as_numpy(tfds.builder_from_directory(prepared).as_dataset(split="train"))
    labels = [int(row["label"]) for row in rows]
    assert labels != sorted(labels)
    shards = records.open_dataset(prepared).shards["train"]
    assert len(shards) == 3
    for shard in shards:  # 28 images each: several classes in every one
        found = {int(records.parse_example(record)[1]) for record in tf.data.TFRecordDataset(shard)}
        assert len(found) >= 8


def test_statistics_are_those_of_the_stored_images(photo_folders, tmp_path):
    output = str(tmp_path / "raw")
    preparation.prepare(photo_folders, output, preparation.Settings(encoding="raw"), workers=1)
    dataset = records.open_dataset(output)
    images = np.stack(
        [
            row["image"]
            for row in tfds.as_numpy(tfds.builder_from_directory(output).as_dataset(split="train"))
        ]
    ).astype(np.float64)
    pixels = images.reshape(-1, 3)
    statistics = dataset.statistics()
    assert statistics["count"] == 84 and statistics["pixels"] == len(pixels)
    np.testing.assert_allclose(statistics["mean_image"], images.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(statistics["rgb_mean"], pixels.mean(axis=0), rtol=1e-12)
    covariance = np.cov(pixels, rowvar=False, bias=True)
    np.testing.assert_allclose(statistics["rgb_covariance"], covariance, rtol=1e-10)
    axes, stddevs = statistics["principal_components"], statistics["principal_stddevs"]
    assert stddevs[0] >= stddevs[1] >= stddevs[2]
    np.testing.assert_allclose(axes @ np.diag(stddevs**2) @ axes.T, covariance, rtol=1e-9)
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-12)


def test_statistics_of_jpegs_are_close_to_the_decoded_ones(prepared):
    statistics = records.open_dataset(prepared).statistics()
    # TFDS decodes with the fast transform, which darkens red and blue by one grey level.
    rows = tfds.as_numpy(
        tfds.builder_from_directory(prepared).as_dataset(
            split="train", decoders={"image": tfds.decode.SkipDecoding()}
        )
    )
    images = np.stack([preprocessing.decode(row["image"]).numpy() for row in rows])
    images = images.astype(np.float64)
    np.testing.assert_allclose(statistics["rgb_mean"], images.mean(axis=(0, 1, 2)), atol=0.1)
    # 84 images: what the codec rounds away does not average out much further.
    assert np.abs(statistics["mean_image"] - images.mean(axis=0)).mean() < 0.5


def test_workers_do_not_change_a_byte(photo_folders, prepared, tmp_path):
    # The manifest names the source and the settings, which are equal too.
    for workers in (1, 3):
        output = str(tmp_path / f"by_{workers}")
        preparation.prepare(photo_folders, output, preparation.Settings(shards=3), workers)
        assert digests(output) == digests(prepared)


def test_the_seed_changes_the_order_only(photo_folders, prepared, tmp_path):
    output = str(tmp_path / "seeded")
    preparation.prepare(photo_folders, output, preparation.Settings(shards=3, seed=7), 1)

    def stored(folder):
        rows = tfds.as_numpy(
            tfds.builder_from_directory(folder).as_dataset(
                split="train", decoders={"image": tfds.decode.SkipDecoding()}
            )
        )
        return [row["image"] for row in rows]

    first, second = stored(prepared), stored(output)
    assert first != second and sorted(first) == sorted(second)


def test_the_manifest_tells_shards_settings_and_repairs(prepared, photo_folders):
    manifest = records.read_manifest(prepared)
    for shard in manifest["shards"]:
        path = os.path.join(prepared, shard["file"])
        content = pathlib.Path(path).read_bytes()
        assert shard["bytes"] == len(content)
        assert shard["sha256"] == hashlib.sha256(content).hexdigest()
        assert shard["count"] == sum(1 for _ in tf.data.TFRecordDataset(path))
    assert manifest["counts"] == {"train": 84, "validation": 42}
    assert manifest["settings"]["source_name"] == photo_folders
    assert manifest["tool"].startswith("alexnet-tf ")
    assert manifest["rejects"] == []
    for file, repair in manifest["repairs"]:
        assert repair == "grey stored as RGB"
        assert tf.io.decode_image(tf.io.read_file(os.path.join(photo_folders, file))).shape[2] == 1


def test_a_second_run_does_nothing(prepared, photo_folders, real):
    before = {name: os.stat(os.path.join(prepared, name)).st_mtime_ns for name in digests(prepared)}
    again = real.run(
        "data_prep.convert", f"--source={photo_folders}", f"--output={prepared}", "--shards=3"
    )
    assert again.returncode == 0, again.stderr
    assert before == {
        name: os.stat(os.path.join(prepared, name)).st_mtime_ns for name in digests(prepared)
    }
    other = real.run(
        "data_prep.convert", f"--source={photo_folders}", f"--output={prepared}", "--seed=5"
    )
    assert other.returncode == 1
    assert "already prepared with" in real.last_line(other.stderr)


def test_grey_and_small_images(photo_folders, tmp_path):
    output = str(tmp_path / "grey")
    settings = preparation.Settings(image_size=28, channels=1, encoding="raw")
    preparation.prepare(photo_folders, output, settings, workers=1)
    row = next(iter(tfds.builder_from_directory(output).as_dataset(split="train")))
    assert row["image"].shape == (28, 28, 1)
    assert records.open_dataset(output).format == records.RecordFormat(28, 1, "raw")
    assert records.open_dataset(output).statistics()["mean_image"].shape == (28, 28, 1)


def test_an_interrupted_run_keeps_finished_shards(photo_folders, prepared, tmp_path, monkeypatch):
    output, made = str(tmp_path / "data"), []
    whole = writer.write_shard

    def until_two(job, shard, progress=None):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(shard.file_name)
        return whole(job, shard, progress)

    monkeypatch.setattr(writer, "write_shard", until_two)
    with pytest.raises(KeyboardInterrupt):
        preparation.prepare(photo_folders, output, preparation.Settings(shards=3), 1)
    assert not os.path.exists(output)
    first, made[:] = list(made), []
    monkeypatch.setattr(
        writer, "write_shard", lambda *args: made.append(args[1].file_name) or whole(*args)
    )
    preparation.prepare(photo_folders, output, preparation.Settings(shards=3), 1)
    assert len(first) == 2 and not set(first) & set(made)
    assert digests(output) == digests(prepared)


def test_a_plan_deals_every_image_once_in_little_memory(tmp_path):
    count = 100_000
    found = (
        plan.SourceImage(
            "train", f"n{i % 1000:08d}/{i}.JPEG", -1, 100_000, f"{i}.JPEG", f"n{i % 1000}"
        )
        for i in range(count)
    )
    made = plan.make_plan(found, str(tmp_path), seed=3)
    assert len(made.synsets) == 1000 and made.counts == {"train": count}
    assert len(made.shards) == round(count / 256)
    assert {shard.images for shard in made.shards} <= {count // 391, count // 391 + 1}
    names = [p.file_name for shard in made.shards for p in plan.read_lines(str(tmp_path), shard)]
    assert len(set(names)) == count
    numbers = np.array([int(name.split(".")[0]) for name in names])
    # Shuffled: neighbours are far apart, and position tells nothing about the number.
    assert np.median(np.abs(np.diff(numbers))) > count / 5
    assert abs(np.corrcoef(numbers, np.arange(count))[0, 1]) < 0.02


@pytest.mark.slow
def test_memory_and_open_files_do_not_grow_with_the_input(photo_folders, tmp_path):
    """Ten times the images, in processes of their own: the same peak, to a few megabytes."""
    files = sorted(pathlib.Path(photo_folders, "train").rglob("*.jpg"))
    code = (
        "import os, resource, sys\n"
        "from data_prep import preparation\n"
        "preparation.prepare(sys.argv[1], sys.argv[2], workers=1)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
        "print(len(os.listdir('/proc/self/fd')))\n"
    )
    peaks, descriptors = [], []
    for count in (300, 3000):
        source = tmp_path / f"source_{count}"
        for number in range(count):
            file = files[number % len(files)]
            link = source / "train" / file.parent.name / f"{number}.jpg"
            link.parent.mkdir(parents=True, exist_ok=True)
            os.link(file, link)
        done = subprocess.run(
            [sys.executable, "-c", code, str(source), str(tmp_path / f"out_{count}")],
            cwd=pathlib.Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
        )
        peak, opened = done.stdout.split()[-2:]
        peaks.append(int(peak) / 1024)
        descriptors.append(int(opened))
    assert peaks[1] - peaks[0] < 20, peaks
    assert descriptors[0] == descriptors[1]
