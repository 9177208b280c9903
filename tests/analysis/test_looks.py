"""Kernels, features, neighbours and the layer table: values that are known beforehand."""

import json
import os

import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from alexnet_tf import analyze as analyze_door
from alexnet_tf.analysis import features, filters, summary
from alexnet_tf.data import records
from alexnet_tf.models import trained


def test_colour_selectivity_of_planted_kernels():
    rng = np.random.default_rng(0)
    kernels = np.zeros((11, 11, 3, 5))
    kernels[..., 0] = rng.normal(size=(11, 11, 1))  # the same in all channels: brightness
    kernels[:, :, 0, 1], kernels[:, :, 1, 1] = 1, -1  # red against green: colour
    kernels[:, :, 0, 2] = 1  # red alone: a third is brightness
    kernels[..., 3] = 0
    kernels[..., 4] = rng.normal(size=(11, 11, 3))
    measure = filters.colour_selectivity(kernels)
    np.testing.assert_allclose(measure[:4], [0, 1, 2 / 3, 0], atol=1e-12)
    assert abs(measure[4] - 2 / 3) < 0.1


def test_a_planted_duplicate_is_the_nearest_neighbour(tmp_path):
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(20, 4, 2))
    rows[13] = rows[4] + 1e-7
    found, distances = features.nearest(rows, np.array([4, 13]), 3)
    assert found[:, 0].tolist() == [13, 4]
    np.testing.assert_allclose(distances[:, 0], 1e-7 * np.sqrt(8), rtol=1e-6)
    # scipy's tree knows nothing of this code.
    from scipy.spatial import cKDTree

    flat = rows.reshape(20, -1)
    wanted = cKDTree(flat).query(flat[[4, 13]], 4)[1][:, 1:]
    np.testing.assert_array_equal(found, wanted)
    with pytest.raises(ValueError, match="ask for fewer"):
        features.nearest(rows, np.array([0]), 20)


def test_the_papers_network_has_the_published_counts():
    from alexnet_tf import models

    rows = {row.name: row for row in summary.layer_table(models.build_model("alexnet"))}
    assert sum(row.parameters for row in rows.values()) == 60_965_224
    assert {name: row.multiply_adds for name, row in rows.items() if row.multiply_adds} == {
        "conv1": 105_415_200,
        "conv2": 223_948_800,
        "conv3": 149_520_384,
        "conv4": 112_140_288,
        "conv5": 74_760_192,
        "fc6": 37_748_736,
        "fc7": 16_777_216,
        "fc8": 4_096_000,
    }
    # 11; pool 11 + 2*4; conv2 19 + 4*8; pool 51 + 2*8; then 67 + 2*16 three times; pool + 2*16.
    fields = [rows[name].receptive_field for name in ("conv1", "pool1", "conv2", "pool2", "conv3")]
    assert fields == [11, 19, 51, 67, 99]
    assert [rows[n].receptive_field for n in ("conv4", "conv5", "pool5")] == [131, 163, 195]
    assert rows["fc6"].receptive_field is None and rows["conv1"].shape == (55, 55, 96)


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    """A small network: features are the mean colours of the four quarters."""
    import keras

    inputs = keras.Input((56, 56, 3))
    x = keras.layers.Conv2D(32, 11, strides=4, name="conv1")(inputs)
    x = keras.layers.GlobalAveragePooling2D(name="pooled")(x)
    colours = keras.layers.AveragePooling2D(28, name="quarters")(inputs)
    x = keras.layers.Concatenate()([x, keras.layers.Flatten(name="colours")(colours)])
    outputs = keras.layers.Dense(7, activation="softmax")(x)
    path = tmp_path_factory.mktemp("model") / "small.keras"
    keras.Model(inputs, outputs).save(path)
    return str(path)


def test_features_are_the_layers_output_for_each_picture(model_file, make_dataset, tmp_path):
    path, pictures, labels = make_dataset(11, 64)
    code = analyze_door.main(
        [
            "features",
            f"--workdir={model_file}",
            f"--data_dir={path}",
            "--layer=colours",
            f"--output={tmp_path}/f.npy",
        ]
    )
    assert code == 0
    windows = pictures[:, 4:60, 4:60].astype(np.float64)
    wanted = windows.reshape(11, 2, 28, 2, 28, 3).mean((2, 4)).reshape(11, -1)
    np.testing.assert_allclose(np.load(tmp_path / "f.npy"), wanted, rtol=1e-5)
    np.testing.assert_array_equal(np.load(tmp_path / "f-labels.npy"), labels)


def test_each_command_leaves_its_picture_and_its_numbers(
    model_file, make_dataset, tmp_path, capsys
):
    from PIL import Image

    path, _, _ = make_dataset(21, 64)
    model, data = f"--workdir={model_file}", f"--data_dir={path}"
    assert analyze_door.main(["filters", model, f"--output={tmp_path}/f.png"]) == 0
    numbers = json.loads((tmp_path / "f.json").read_text())
    assert [group["kernels"] for group in numbers["groups"]] == [16, 16]
    arguments = ["neighbours", model, data, "--layer=colours", f"--output={tmp_path}/n.png"]
    assert analyze_door.main(arguments) == 0
    numbers = json.loads((tmp_path / "n.json").read_text())
    assert numbers["pictures"] == 21 and len(numbers["rows"]) == 7
    for name in ("f.png", "n.png"):
        assert min(Image.open(tmp_path / name).size) > 400
    network = trained.open_model(model_file)
    outputs, _ = features.layer_features(
        network, "colours", records.open_dataset(path), "validation"
    )
    row = numbers["rows"][0]
    direct = np.linalg.norm(outputs[row["neighbours"]] - outputs[row["query"]], axis=1)
    np.testing.assert_allclose(row["distances"], direct, rtol=1e-4)
    capsys.readouterr()
    assert analyze_door.main(["summary", model]) == 0
    assert "conv1" in capsys.readouterr().out


def test_bad_input_ends_with_one_sentence(model_file, make_dataset, tmp_path, capsys):
    path, _, _ = make_dataset(1, 64)
    model, data, output = f"--workdir={model_file}", f"--data_dir={path}", f"--output={tmp_path}/o"
    for flags, wanted, sentence in [
        ([], 2, "expected what to do"),
        (["dream", model], 2, "expected what to do"),
        (["filters", output], 2, "--workdir is missing"),
        (["filters", model], 2, "--output is missing"),
        (["features", model, output], 2, "--data_dir is missing"),
        (["filters", model, output], 1, "ends in .png or .svg"),
        (["features", model, data, f"{output}.npy", "--layer=fc9"], 1, "it has input_layer, conv1"),
        (
            ["features", model, data, f"{output}.npz", "--layer=colours"],
            1,
            "should end in .npy or .tfrecord",
        ),
        (["neighbours", model, data, f"{output}.png", "--layer=colours"], 1, "at least two"),
        (["curves", f"--workdir={tmp_path}", f"{output}.png"], 1, "There is no"),
        (["summary", "--workdir=none.keras"], 1, "There is no model none.keras"),
    ]:
        code = analyze_door.main(flags)
        err = capsys.readouterr().err.strip().splitlines()
        assert (code, sentence in err[-1]) == (wanted, True), (flags, code, err)
