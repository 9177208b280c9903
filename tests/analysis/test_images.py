"""What the images of a single photograph and of a network's plan say is what is there."""

import dataclasses
import json
import math
import os

import numpy as np
import pytest
from PIL import Image

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import tensorflow as tf

from alexnet_tf import analyze as analyze_command
from alexnet_tf import models
from alexnet_tf.analysis import architecture, augmentation, features, images, saliency
from alexnet_tf.data import pipeline, preprocessing, records

STATISTICS = {
    "rgb_mean": np.array([120.0, 110.0, 100.0]),
    "principal_components": np.linalg.qr(np.array([[1.0, 1, 0], [1, 0, 1], [1, 2, 3]]))[0],
    "principal_stddevs": np.array([120.0, 40.0, 10.0]),
}


@pytest.fixture
def dataset(make_dataset):
    path, _, _ = make_dataset(1, 64, shards=1)
    np.savez(os.path.join(path, "statistics.npz"), **STATISTICS)
    return records.open_dataset(path)


@pytest.mark.parametrize("kind", ["paper", "source"])
def test_the_views_are_those_of_the_training_pipeline(dataset, kind):
    image, _ = images.of_split(dataset, "validation", 0)
    found = augmentation.views(image, dataset, 48, seed=5)
    noise = preprocessing.ColourNoise.from_statistics(STATISTICS, kind, STATISTICS["rgb_mean"])
    trained = dataclasses.replace(
        dataset,
        shards={"train": dataset.shards["validation"]},
        counts={"train": dataset.counts["validation"]},
        shard_counts={"train": dataset.shard_counts["validation"]},
    )
    wanted = pipeline.training_batches(
        trained,
        pipeline.Augmentation(crop_size=48, noise=noise),
        pipeline.Schedule(batch_size=1, epochs=augmentation.VIEWS, seed=5),
    )
    trained_on = [images.numpy()[0] for images, _ in wanted]
    assert len({(view["top"], view["left"]) for view in found}) > 3
    assert {view["mirrored"] for view in found} == {False, True}
    for view, one in zip(found, trained_on, strict=True):
        np.testing.assert_allclose(view[kind]["image"], one, atol=1e-3)
        plain = image[view["top"] :, view["left"] :][:48, :48]
        np.testing.assert_array_equal(view["crop"], plain)


class Quarters(keras.layers.Layer):
    """Logit 0 is the sum of the upper right quarter's red / 1000, logit 1 is 0."""

    def call(self, images):
        half = images.shape[1] // 2
        red = tf.reduce_sum(images[:, :half, half:, 0], axis=(1, 2)) / 1000
        return tf.stack([red, tf.zeros_like(red)], axis=1)


def test_saliency_finds_the_quarter_that_the_network_looks_at():
    inputs = keras.Input((32, 32, 3))
    model = keras.Model(inputs, keras.layers.Softmax(name="prob")(Quarters()(inputs)))
    image = np.zeros((32, 32, 3), np.float32)
    image[..., 0] = np.linspace(5, 20, 32)[:, None]
    found = saliency.measure(model, image, label=0, places=8)
    # The gradient by hand: 1/1000 in the quarter's red, 0 elsewhere.
    wanted = np.zeros((32, 32))
    wanted[:16, 16:] = 1e-3
    np.testing.assert_allclose(found.gradient, wanted, atol=1e-9)
    # Occlusion by hand, in float64.
    assert found.square == 8 and found.tops[0] == 0 and found.tops[-1] == 24
    for i, top in enumerate(found.tops):
        for j, left in enumerate(found.lefts):
            hidden = image.astype(np.float64)
            hidden[top : top + 8, left : left + 8] = image.mean((0, 1), np.float64)
            logit = hidden[:16, 16:, 0].sum() / 1000
            assert found.occluded[i, j] == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-5)
    assert np.ptp(found.occluded[:, 0]) == 0  # the left half does not matter


def test_what_crosses_between_the_halves_is_what_the_paper_says():
    def crossing(name):
        blocks = architecture.blocks(models.build_model(name, classes=10))
        return blocks, [block.name for block in blocks if block.crosses]

    # Section 3.5: conv2, 4, 5 read their own GPU's maps; conv3 and the dense layers read all.
    blocks, crosses = crossing("alexnet_145")
    assert crosses == ["conv3", "fc6", "fc7", "fc8"]
    by_name = {block.name: block for block in blocks}
    assert by_name["conv1"].then == ("LRN", "max-pool 3/2")
    assert (by_name["conv5"].side, by_name["conv5"].maps, by_name["conv5"].columns) == (13, 256, 2)
    blocks, crosses = crossing("lenet5")
    assert crosses == [] and [b.name for b in blocks] == ["input", "c1", "c3", "c5", "f6", "output"]
    assert all(block.columns == 1 for block in blocks)
    # Every layer that slides over a map says how wide it looks.
    kernels = {block.name: block.kernel for block in (*blocks, *crossing("cifarnet")[0])}
    assert {name: kernels[name] for name in ("c1", "c3", "conv1", "local3", "local4")} == {
        "c1": 5,
        "c3": 5,
        "conv1": 5,
        "local3": 3,
        "local4": 3,
    }


def test_published_networks_are_drawn_without_values_for_their_weights(monkeypatch):
    """Neither then, nor when Keras tries out the next layer."""
    sizes = []
    draw = keras.initializers.RandomNormal.__call__

    def counted(self, shape, dtype=None):
        sizes.append(math.prod(shape))
        return draw(self, shape, dtype)

    monkeypatch.setattr(keras.initializers.RandomNormal, "__call__", counted)
    blocks = architecture.published_blocks("alexnet")
    assert sum(block.parameters for block in blocks) == 60_965_224
    keras.layers.Lambda(lambda values: values)(keras.Input((4,)))
    assert sizes == []


def test_features_come_back_from_records(tmp_path):
    rng = np.random.default_rng(0)
    rows, labels = rng.normal(size=(3, 2, 5)).astype(np.float32), np.array([4, 0, 2])
    path = str(tmp_path / "new" / "f.tfrecord")
    features.save_features(rows, labels, path)
    specs = {
        "features": tf.io.FixedLenFeature([10], tf.float32),
        "shape": tf.io.FixedLenFeature([2], tf.int64),
        "label": tf.io.FixedLenFeature([], tf.int64),
    }
    found = [tf.io.parse_single_example(one, specs) for one in tf.data.TFRecordDataset(path)]
    np.testing.assert_array_equal(
        np.stack([tf.reshape(one["features"], one["shape"]) for one in found]), rows
    )
    assert [int(one["label"]) for one in found] == [4, 0, 2]
    assert os.listdir(tmp_path / "new") == ["f.tfrecord"]


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    inputs = keras.Input((56, 56, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(inputs)
    outputs = keras.layers.Softmax(name="prob")(keras.layers.Dense(7)(pooled))
    path = tmp_path_factory.mktemp("model") / "small.keras"
    keras.Model(inputs, outputs).save(path)
    return str(path)


def test_images_and_numbers_of_a_file_of_any_size(network, dataset, tmp_path):
    flags = [f"--data_dir={dataset.path}", "--crop_size=48", f"--output={tmp_path}/a.png"]
    for size in ((1, 1), (3000, 40)):
        Image.new("RGB", size, (200, 30, 90)).save(tmp_path / "one.png")
        image = f"--image={tmp_path}/one.png"
        assert analyze_command.main(["augmentation", image, *flags]) == 0
        arguments = ["saliency", image, f"--workdir={network}", f"--output={tmp_path}/s.png"]
        assert analyze_command.main(arguments) == 0
    numbers = json.loads((tmp_path / "a.json").read_text())
    assert len(numbers["views"]) == 6 and len(numbers["views"][0]["source"]["shift"]) == 3
    numbers = json.loads((tmp_path / "s.json").read_text())
    # One colour everywhere: hiding it behind its own mean changes nothing.
    np.testing.assert_allclose(numbers["occluded_probability"], numbers["probability"], atol=1e-5)
    for name in ("a.png", "s.png"):
        assert min(Image.open(tmp_path / name).size) > 400


def test_bad_images_and_names_end_with_one_sentence(network, dataset, tmp_path, capsys):
    (tmp_path / "text.jpg").write_text("no image")
    Image.new("L", (20000, 10000)).save(tmp_path / "huge.png")
    whole = (tmp_path / "huge.png").read_bytes()
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    Image.new("L", (3, 2000)).save(tmp_path / "thin.png")
    data, output = f"--data_dir={dataset.path}", f"--output={tmp_path}/o.png"
    look = ["saliency", f"--workdir={network}", output]
    change = ["augmentation", data, output]
    for flags, wanted, sentence in [
        (look, 2, "--image is missing"),
        ([*look, f"--image={tmp_path}/none.jpg"], 1, "There is no image"),
        ([*look, f"--image={tmp_path}/text.jpg"], 1, "neither a JPEG nor a PNG"),
        ([*look, f"--image={tmp_path}/huge.png"], 1, "size is out of range"),
        ([*look, f"--image={tmp_path}/thin.png"], 1, "100 times as long as wide"),
        ([*look, data, "--number=7"], 1, "no image 7 in validation"),
        ([*look, data, "--split=test"], 1, "has no split 'test'"),
        ([*change, "--number=1"], 1, "expected 0 to 0"),
        ([*change, "--crop_size=65"], 1, "does not fit"),
        (["architecture", output, "--model=alexnet,vgg"], 1, "no model 'vgg'"),
        (["architecture", f"--output={tmp_path}/o.bmp"], 1, "ends in .png, .svg or .pdf"),
    ]:
        code = analyze_command.main(flags)
        err = capsys.readouterr().err.strip().splitlines()
        assert (code, sentence in err[-1], len(err)) == (wanted, True, 1), (flags, code, err)
    assert not (tmp_path / "o.png").exists()


def test_an_image_alone_is_augmented_with_imagenets_statistics(tmp_path, photo_crops):
    """As it was found: `analyze augmentation --image=X` said that --data_dir is missing."""
    photograph = tmp_path / "photograph.png"
    Image.fromarray(next(photo_crops(1, 300))).save(photograph)
    output = tmp_path / "views.png"
    given = ["augmentation", f"--output={output}"]
    assert analyze_command.main([*given, f"--image={photograph}"]) == 0
    found = json.loads(output.with_suffix(".json").read_text())
    assert found["crop_size"] == 224 and len(found["views"]) == 6 and output.stat().st_size > 10_000
    assert any(view["source"]["shift"] for view in found["views"])


def test_a_file_or_a_data_set_to_augment_is_asked_for(tmp_path, capsys):
    assert analyze_command.main(["augmentation", f"--output={tmp_path}/views.png"]) == 2
    assert "--image is missing" in capsys.readouterr().err


def test_colour_noise_of_imagenet_is_as_large_as_its_pixels_vary():
    """sqrt of the sum of variances: 125 of 255; axes are orthonormal to four digits."""
    from alexnet_tf.data import imagenet

    found = imagenet.colour_statistics()
    axes = found["principal_components"]
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=2e-3)
    assert 120 < np.sqrt((found["principal_stddevs"] ** 2).sum()) < 130
