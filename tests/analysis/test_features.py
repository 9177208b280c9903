"""Kernels, features, neighbours and the layer table: values that are known beforehand."""

import json
import os
import shutil

import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from alexnet_tf import analyze as analyze_command
from alexnet_tf.analysis import features, filters, summary
from alexnet_tf.data import records
from alexnet_tf.models import saved_run


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


@pytest.mark.parametrize(
    "variant, parameters, multiply_adds",
    [
        (
            "lenet5",
            60_840,
            # LeCun et al. 1998 count connections: 122,304, 151,600, 48,120, 10,164 and 840; less
            # the biases, one per value of a map or unit.
            {
                "c1": 122_304 - 6 * 28 * 28,
                "c3": 151_600 - 16 * 10 * 10,
                "c5": 48_120 - 120,
                "f6": 10_164 - 84,
                "output": 840,
            },
        ),
        (
            "cifarnet",
            2_112_970,
            {
                "conv1": 24 * 24 * 64 * 5 * 5 * 3,
                "conv2": 12 * 12 * 64 * 5 * 5 * 64,
                # No weight is shared: each is used once.
                "local3": 6 * 6 * 64 * 3 * 3 * 64,
                "local4": 6 * 6 * 32 * 3 * 3 * 64,
                "fc10": 6 * 6 * 32 * 10,
            },
        ),
    ],
)
def test_networks_for_small_images_have_the_counts_made_by_hand(variant, parameters, multiply_adds):
    from alexnet_tf import models

    rows = summary.layer_table(models.build_model(variant))
    assert sum(row.parameters for row in rows) == parameters
    assert {row.name: row.multiply_adds for row in rows if row.multiply_adds} == multiply_adds


def test_receptive_fields_grow_with_every_window():
    from alexnet_tf import models

    def fields(variant):
        return {r.name: r.receptive_field for r in summary.layer_table(models.build_model(variant))}

    # 5; a pair is one more; 5 more of stride 2; another pair, of stride 2.
    lenet = fields("lenet5")
    assert [lenet[name] for name in ("c1", "s2", "c3", "s4")] == [5, 6, 14, 16]
    # The authors' second normalisation of layer 2 looks 5 wide within a map of stride 8.
    source = fields("alexnet_145")
    assert source["cnorm2"] - source["norm2"] == 4 * 8


def test_what_is_missing_in_images_and_labels_is_said(model_file, make_dataset, tmp_path, capsys):
    none, _, _ = make_dataset(0, 64)
    unlabelled, _, _ = make_dataset(8, 64, labels=[0, 1, 2, -1] * 2)
    text = tmp_path / "text.keras"
    text.write_text("no model")
    run = tmp_path / "run"
    run.mkdir()
    (run / "metrics.csv").write_text("step,loss\n1,2.5\n")
    whole = tmp_path / "whole"
    whole.mkdir()
    shutil.copy(model_file, whole / "model.keras")
    (whole / "metrics.csv").write_text("epoch,top1_error,validation_top1_error\n1,0.5,\n")
    names = [f"n{n:08d}" for n in range(7)]
    (whole / "config.json").write_text(json.dumps({"class_names": names}))
    model, layer, output = f"--workdir={model_file}", "--layer=colours", f"--output={tmp_path}/o"
    for flags, sentence in [
        (["features", model, layer, f"--data_dir={none}", f"{output}.npy"], "has no split"),
        (["neighbours", model, layer, f"--data_dir={none}", f"{output}.png"], "has no split"),
        (["augmentation", f"--data_dir={none}", f"{output}.png"], "has no split"),
        (["saliency", model, f"--data_dir={none}", f"{output}.png"], "has no split"),
        (["run", model, f"--data_dir={none}", f"{output}.png"], "has no split"),
        (
            ["neighbours", model, layer, f"--data_dir={unlabelled}", f"{output}.png"],
            "has the label -1, but the classes are 0 to 6",
        ),
        (["run", model, f"--data_dir={unlabelled}", f"{output}.png"], "small.keras is no table"),
        (["run", f"--workdir={whole}", f"--data_dir={unlabelled}", f"{output}.png"], "label -1"),
        (["curves", f"--workdir={run}", f"{output}.png"], "has no column epoch"),
        (["summary", f"--workdir={text}"], "text.keras"),
        (["neighbours", model, "--layer=fc7", f"--data_dir={unlabelled}", f"{output}.png"], "has"),
    ]:
        code = analyze_command.main(flags)
        err = capsys.readouterr().err.strip().splitlines()
        assert (code, sentence in err[-1], "Traceback" in "".join(err)) == (1, True, False), err
        assert err[-1].startswith("error: ")
    assert not list(tmp_path.glob("o.*"))
    # What needs no label does without: the features of images whose class nobody knows.
    arguments = ["features", model, layer, f"--data_dir={unlabelled}", f"{output}.npy"]
    assert analyze_command.main(arguments) == 0
    assert np.load(tmp_path / "o-labels.npy").tolist() == [0, 1, 2, -1] * 2


def test_neighbours_among_many_are_those_among_all_at_once(monkeypatch):
    rows = np.random.default_rng(3).normal(size=(23, 6)).astype(np.float32)
    wanted = features.nearest(rows, np.array([0, 9, 22]), 4)
    monkeypatch.setattr(features, "_ROWS", 5)
    found = features.nearest(rows, np.array([0, 9, 22]), 4)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one, other)
    direct = np.linalg.norm(rows[found[0][1]].astype(float) - rows[9].astype(float), axis=1)
    np.testing.assert_allclose(found[1][1], direct, rtol=1e-12)


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


def test_features_are_the_layers_output_for_each_image(model_file, make_dataset, tmp_path):
    path, images, labels = make_dataset(11, 64)
    code = analyze_command.main(
        [
            "features",
            f"--workdir={model_file}",
            f"--data_dir={path}",
            "--layer=colours",
            f"--output={tmp_path}/f.npy",
        ]
    )
    assert code == 0
    windows = images[:, 4:60, 4:60].astype(np.float64)
    wanted = windows.reshape(11, 2, 28, 2, 28, 3).mean((2, 4)).reshape(11, -1)
    np.testing.assert_allclose(np.load(tmp_path / "f.npy"), wanted, rtol=1e-5)
    np.testing.assert_array_equal(np.load(tmp_path / "f-labels.npy"), labels)


def test_each_command_leaves_its_image_and_its_numbers(model_file, make_dataset, tmp_path, capsys):
    from PIL import Image

    path, _, _ = make_dataset(21, 64)
    model, data = f"--workdir={model_file}", f"--data_dir={path}"
    assert analyze_command.main(["filters", model, f"--output={tmp_path}/f.png"]) == 0
    numbers = json.loads((tmp_path / "f.json").read_text())
    assert [group["kernels"] for group in numbers["groups"]] == [32]  # it has no halves
    arguments = ["neighbours", model, data, "--layer=colours", f"--output={tmp_path}/n.png"]
    assert analyze_command.main(arguments) == 0
    numbers = json.loads((tmp_path / "n.json").read_text())
    assert numbers["images"] == 21 and len(numbers["rows"]) == 7
    assert Image.open(tmp_path / "f.png").size[0] == 1350
    assert min(Image.open(tmp_path / "n.png").size) > 400
    network = saved_run.open_model(model_file)
    outputs, _ = features.layer_features(
        network, "colours", records.open_dataset(path), "validation"
    )
    row = numbers["rows"][0]
    direct = np.linalg.norm(outputs[row["neighbours"]] - outputs[row["query"]], axis=1)
    np.testing.assert_allclose(row["distances"], direct, rtol=1e-4)
    capsys.readouterr()
    assert analyze_command.main(["summary", model]) == 0
    assert "conv1" in capsys.readouterr().out


def test_bad_input_ends_with_one_sentence(model_file, make_dataset, tmp_path, capsys):
    path, _, _ = make_dataset(1, 64)
    model, data, output = f"--workdir={model_file}", f"--data_dir={path}", f"--output={tmp_path}/o"
    for flags, wanted, sentence in [
        ([], 2, "expected one of run"),
        (["dream", model], 2, "expected one of run"),
        (["filters", output], 2, "--workdir is missing"),
        (["filters", model], 2, "--output is missing"),
        (["features", model, output], 2, "--data_dir is missing"),
        (["filters", model, output], 1, "ends in .png, .svg or .pdf"),
        (["features", model, data, f"{output}.npy", "--layer=fc9"], 1, ", conv1, quarters"),
        (
            ["features", model, data, f"{output}.npz", "--layer=colours"],
            1,
            "should end in .npy or .tfrecord",
        ),
        (["neighbours", model, data, f"{output}.png", "--layer=colours"], 1, "at least two"),
        (["curves", f"--workdir={tmp_path}", f"{output}.png"], 1, "There is no"),
        (["summary", "--workdir=none.keras"], 1, "There is no model none.keras"),
    ]:
        code = analyze_command.main(flags)
        err = capsys.readouterr().err.strip().splitlines()
        assert (code, sentence in err[-1]) == (wanted, True), (flags, code, err)
