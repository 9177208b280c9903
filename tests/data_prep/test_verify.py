"""Damage is done to a prepared data set, and `verify` has to find it."""

import json
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf import files
from alexnet_tf.data import imagenet
from data_prep import checks, preparation, verify


@pytest.fixture(scope="module")
def whole(photo_folders, tmp_path_factory):
    output = str(tmp_path_factory.mktemp("verify") / "data")
    preparation.prepare(
        photo_folders, output, preparation.Settings(image_size=64, shards=4), workers=1
    )
    return output


@pytest.fixture
def data(whole, tmp_path):
    """A copy that may be damaged."""
    return pathlib.Path(shutil.copytree(whole, tmp_path / "data"))


def problems(folder):
    return checks.verify(str(folder), workers=1)["problems"]


def shard(folder, split="train", index=1):
    return sorted(folder.glob(f"imagenet-{split}.tfrecord-*"))[index]


def test_a_whole_data_set_has_no_problem(whole, capsys, tmp_path):
    report = tmp_path / "report.json"
    flags = [f"--data_dir={whole}", "--workers=1", f"--report={report}"]
    assert verify.main(flags) == 0
    assert "whole and right; 84 train, 42 validation" in capsys.readouterr().out
    result = json.loads(report.read_text())
    assert result["problems"] == [] and result["counts"] == {"train": 84, "validation": 42}


def test_worker_processes_find_the_same(whole):
    assert checks.verify(whole, workers=2) == checks.verify(whole, workers=1)


@pytest.mark.parametrize("where", [0.02, 0.3, 0.5, 0.7, 0.99])
def test_a_flipped_bit(data, where, capsys):
    path = shard(data)
    content = bytearray(path.read_bytes())
    content[int(where * len(content))] ^= 1 << 3
    path.write_bytes(content)
    assert any(f"{path.name} was changed" in problem for problem in problems(data))
    assert verify.main([f"--data_dir={data}", "--workers=1"]) == 1
    assert f"problem: {path.name}" in capsys.readouterr().err


def test_a_missing_shard(data):
    path = shard(data)
    path.unlink()
    assert problems(data) == [f"{path.name} is missing."]


def test_a_tail_cut_at_a_record_boundary(data):
    path = shard(data)
    lengths = [len(record.numpy()) + 16 for record in tf.data.TFRecordDataset(str(path))]
    size = sum(lengths)
    assert size == path.stat().st_size
    with open(path, "rb+") as file:
        file.truncate(size - lengths[-1])
    found = problems(data)
    assert any(f"has {size - lengths[-1]} bytes" in problem for problem in found)
    assert any(f"{path.name} has 20 records, manifest.json says 21" in p for p in found)


def test_a_foreign_shard(data):
    shutil.copy(shard(data), data / "imagenet-train.tfrecord-00004-of-00005")
    assert any("00004-of-00005 is not in manifest.json" in problem for problem in problems(data))


def rewrite(data, change):
    """Changes the records of a shard and makes the manifest agree, so that only content is off."""
    path = shard(data)
    examples = [
        tf.train.Example.FromString(record.numpy()) for record in tf.data.TFRecordDataset(str(path))
    ]
    change(examples)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for example in examples:
            writer.write(example.SerializeToString())
    size, sha256 = files.fingerprint(str(path))
    manifest = json.loads((data / "manifest.json").read_text())
    for entry in manifest["shards"]:
        if entry["file"] == path.name:
            entry["bytes"], entry["sha256"] = size, sha256
    (data / "manifest.json").write_text(json.dumps(manifest))
    return path.name


def test_an_image_that_cannot_be_decoded(data):
    def cut(examples):
        image = examples[3].features.feature["image"].bytes_list
        image.value[0] = image.value[0][: len(image.value[0]) * 2 // 3]

    name = rewrite(data, cut)
    [problem] = problems(data)
    assert problem.startswith(f"{name} record 3 cannot be decoded: the JPEG is cut off")


def test_labels_that_disagree_with_their_synset(data):
    def swap(examples):
        examples[0].features.feature["label"].int64_list.value[0] += 1
        examples[1].features.feature["label"].int64_list.value[0] = 99

    rewrite(data, swap)
    first, second = problems(data)
    assert "but the synset" in first and "has the label 99, expected 0..13" in second


def test_a_validation_image_among_the_training_ones(data):
    record = next(iter(tf.data.TFRecordDataset(str(shard(data, "validation", 0)))))

    def leak(examples):
        examples[5] = tf.train.Example.FromString(record.numpy())

    rewrite(data, leak)
    assert problems(data) == ["1 images are both in train and in validation."]


def test_metadata_and_statistics_of_another_set(data):
    info = json.loads((data / "dataset_info.json").read_text())
    info["splits"][0]["shardLengths"][0] = "5"
    (data / "dataset_info.json").write_text(json.dumps(info))
    with np.load(data / "statistics.npz") as arrays:
        content = dict(arrays)
    np.savez(data / "statistics.npz", **{**content, "count": 3})
    found = problems(data)
    assert any("dataset_info.json says that train has" in problem for problem in found)
    assert any("statistics.npz is about 3 images" in problem for problem in found)


def test_what_is_no_prepared_data_set(tmp_path, capsys):
    for path, says in ((tmp_path / "nothing", "There is no directory"), (tmp_path, "is missing")):
        assert verify.main([f"--data_dir={path}"]) == 1
        assert says in capsys.readouterr().err
    assert verify.main([]) == 2


@pytest.mark.parametrize("year, first", [(2010, "n01484850"), (2012, "n01440764")])
def test_counts_are_compared_with_the_published_ones(year, first):
    synsets = [first, *(f"n{20_000_000 + i}" for i in range(999))]
    published = next(c for c in imagenet.CHALLENGES if c.name == f"ILSVRC-{year}")
    # Any spread within the bounds with the right total.
    low, high = published.train_per_class
    train = dict.fromkeys(range(1000), low)
    rest = published.train - 1000 * low
    for label in range(1000):
        more = min(high - low, rest)
        train[label] += more
        rest -= more
    assert rest == 0
    labels = {
        "train": checks.Counter(train),
        "validation": checks.Counter(dict.fromkeys(range(1000), 50)),
    }
    manifest = {"rejects": []}
    assert checks._check_published(labels, synsets, manifest) == []
    labels["train"][3] -= 1
    labels["validation"][7] -= 1
    labels["validation"][8] += 1
    found = checks._check_published(labels, synsets, manifest)
    assert any(f"train has {published.train - 1} images" in problem for problem in found)
    assert any("validation has 49 images" in problem for problem in found)
