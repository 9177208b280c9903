"""LeNet-5 and the CIFAR-10 network through the commands, on images of their own size."""

import csv
import dataclasses
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import alexnet_tf
from alexnet_tf import evaluate, models, train
from alexnet_tf.data.pipeline import Augmentation, Schedule, training_batches
from alexnet_tf.data.records import open_dataset

# 1,500 digits give few steps. The 1998 output units leave the first plateau sooner than a softmax.
SHORT_LENET5 = (
    "--recipe=lenet5", "--model=lenet5", "--learning_rate=0.004", "--epochs=6", "--batch_size=32",
)  # fmt: skip


def _train(data, workdir, *flags):
    common = [f"--data_dir={data}", f"--workdir={workdir}", "--deterministic=false"]
    assert not train.main([*common, *flags])
    return json.loads((workdir / "config.json").read_text())


def _evaluated(data, workdir):
    output = workdir / "evaluation.json"
    assert not evaluate.main([f"--model={workdir}", f"--data_dir={data}", f"--output={output}"])
    return json.loads(output.read_text())


def test_lenet5_pads_smaller_images():
    """Against NumPy's own padding of the pixels, before anything else happens to them."""
    whole = alexnet_tf.LeNet5()
    small = alexnet_tf.LeNet5(input_shape=(28, 28, 1))
    odd = alexnet_tf.LeNet5(input_shape=(25, 25, 1))
    pixels = np.random.default_rng(0).uniform(0, 255, (3, 28, 28, 1)).astype(np.float32)
    for network, view, pads in ((small, pixels, (2, 2)), (odd, pixels[:, :25, :25], (3, 4))):
        network.set_weights(whole.get_weights())
        padded = np.pad(view, [(0, 0), pads, pads, (0, 0)])
        np.testing.assert_allclose(network(view), whole(padded), atol=1e-6)
    assert [models.crop_size("lenet5", n) for n in (28, 32, 64)] == [28, 32, 32]
    assert models.crop_size("alexnet", 28) == models.crop_size("alexnet")


def test_lenet5_learns_digits_of_28_pixels(digit_records, tmp_path):
    config = _train(digit_records, tmp_path, *SHORT_LENET5)
    assert open_dataset(digit_records).format.shape == (28, 28, 1)
    assert config["recipe"]["crop_size"] == 28 and config["recipe"]["mean"] == "published"
    result = _evaluated(digit_records, tmp_path)
    assert result["count"] == 297
    assert result["top1_error"] < 0.4, "guessing is wrong nine times in ten"
    with open(tmp_path / "metrics.csv", encoding="utf-8") as file:
        last = list(csv.DictReader(file))[-1]
    assert float(last["validation_top1_error"]) == pytest.approx(result["top1_error"])
    network = alexnet_tf.load_model(tmp_path / "model.keras")
    assert network.input_shape == (None, 28, 28, 1)
    np.testing.assert_allclose(network.get_layer("preprocessing").mean, [20.0])


def test_a_border_moves_images_by_a_pixel_or_two(digit_records):
    """Found by search: NumPy's padded images, cut at each of the nine places."""
    dataset = open_dataset(digit_records)
    schedule = Schedule(batch_size=50, epochs=1, seed=1)
    still = Augmentation(crop_size=28, mirror=False)
    moved = dataclasses.replace(still, border=1)
    images = next(iter(training_batches(dataset, still, schedule)))[0].numpy()
    places = []
    for image, picture in zip(
        next(iter(training_batches(dataset, moved, schedule)))[0].numpy(), images, strict=True
    ):
        padded = np.pad(picture, [(1, 1), (1, 1), (0, 0)])
        fits = [
            (top, left)
            for top in range(3)
            for left in range(3)
            if np.array_equal(image, padded[top : top + 28, left : left + 28])
        ]
        assert len(fits) == 1
        places += fits
    assert len(set(places)) == 9


@pytest.mark.slow
def test_lenet5_learns_digits_of_32_pixels(digit_files, tmp_path):
    from alexnet_tf import export, predict
    from data_prep import convert

    data = tmp_path / "data"
    assert not convert.main(
        [f"--source={digit_files}", f"--output={data}", "--image_size=32", "--workers=1"]
    )
    workdir = tmp_path / "run"
    config = _train(data, workdir, *SHORT_LENET5)
    assert config["recipe"]["crop_size"] == 32
    assert _evaluated(data, workdir)["top1_error"] < 0.25
    assert not export.main([f"--model={workdir}", f"--output={tmp_path / 'served'}"])
    image = keras.utils.array_to_img(np.zeros((28, 28, 1)))
    image.save(tmp_path / "black.png")
    assert not predict.main([f"--model={workdir}", str(tmp_path / "black.png")])


@pytest.mark.slow
def test_cifarnet_learns_colour_of_32_pixels(small_photo_records, tmp_path):
    config = _train(
        small_photo_records,
        tmp_path,
        "--recipe=cifarnet",
        "--epochs=6",
        "--batch_size=16",
        "--initializer=he",
        "--learning_rate=3e-4",  # at the recipe's own 1e-3 so few and small batches may diverge
        "--rate_steps=4:3e-5",
    )
    assert config["image_size"] == 32 and config["recipe"]["crop_size"] == 24
    assert config["recipe"]["layer_weight_decay"][-1] == ["fc10", 0.01]
    result = _evaluated(small_photo_records, tmp_path)
    assert result["count"] == 36 and result["top1_error"] < 0.6, "guessing: 5 of 6 wrong"


@pytest.mark.slow
def test_lenet5_learns_from_records_of_others(digit_files, tmp_path, monkeypatch):
    """Inception's kind of records: labels from 1, PNG, no metadata; the recipe says 28 pixels."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    data = tmp_path / "records"
    data.mkdir()
    for split, name in (("train", "train"), ("t10k", "test")):
        images = np.frombuffer(
            (digit_files / f"{split}-images-idx3-ubyte").read_bytes(), np.uint8, offset=16
        ).reshape(-1, 28, 28, 1)
        labels = (digit_files / f"{split}-labels-idx1-ubyte").read_bytes()[8:]
        with tf.io.TFRecordWriter(str(data / f"{name}-00000-of-00001")) as writer:
            for image, label in zip(images, labels, strict=True):
                example = tf.train.Example()
                feature = example.features.feature
                encoded = tf.io.encode_png(image).numpy()
                feature["image/encoded"].bytes_list.value.append(encoded)
                feature["image/class/label"].int64_list.value.append(label + 1)
                writer.write(example.SerializeToString())
    workdir = tmp_path / "run"
    config = _train(data, workdir, *SHORT_LENET5)
    assert config["class_names"] == [str(n) for n in range(1, 11)]
    assert config["counts"] == {"train": 1500, "test": 297, "validation": 297}
    result = _evaluated(data, workdir)
    assert result["count"] == 297 and result["top1_error"] < 0.25
    output = tmp_path / "wrong.json"
    flags = [f"--model={workdir}", f"--data_dir={data}", f"--output={output}", "--first_label=0"]
    assert evaluate.main(flags) == 1, "11 classes are not the network's 10"
