"""Activations of files and data sets: order, names, formats, going on, dissimilarities."""

import json
import os

import h5py
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from scipy.spatial import distance

from alexnet_tf import features as command
from alexnet_tf.analysis import activations, rdm, stimuli
from alexnet_tf.models import saved_run


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    """A small network; "colours" are the mean colours of the four quarters."""
    import keras

    inputs = keras.Input((56, 56, 3))
    x = keras.layers.Conv2D(8, 11, strides=4, name="conv1")(inputs)
    x = keras.layers.ReLU(name="relu1")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pooled")(x)
    colours = keras.layers.AveragePooling2D(28, name="quarters")(inputs)
    x = keras.layers.Concatenate()([x, keras.layers.Flatten(name="relu7")(colours)])
    outputs = keras.layers.Dense(7, activation="softmax")(x)
    path = tmp_path_factory.mktemp("model") / "small.keras"
    keras.Model(inputs, outputs).save(path)
    return str(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, photo_crops):
    """Six images of 80 pixels in two folders, and the pixels by path."""
    root = tmp_path_factory.mktemp("stimuli")
    pixels = {}
    for number, crop in enumerate(photo_crops(6, 80)):
        path = root / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(crop).save(path)
        pixels[str(path)] = crop
    return str(root), pixels


def quarters(pixels):
    """What "relu7" is of an image of 80 pixels: shrunk to 56 by area, then four means."""
    crop = tf.image.resize(pixels[None].astype(np.float32), (56, 56), method="area")[0].numpy()
    return crop.reshape(2, 28, 2, 28, 3).mean((1, 3)).reshape(-1)


def run(*arguments):
    return command.main(list(map(str, arguments)))


def test_rows_have_the_order_and_the_names_that_were_given(model_file, folder, tmp_path, capsys):
    _, pixels = folder
    paths = sorted(pixels, reverse=True)
    output = tmp_path / "f.npz"
    layers = "--layers=conv1,features.1,classifier.5"
    assert run(f"--model={model_file}", layers, f"--output={output}", *paths) == 0
    said = capsys.readouterr().out
    # 12 x 12 x 8 floats of 4 bytes; six images have 6 * (2 * 1152 + 12) * 4 bytes.
    assert "conv1        12 x 12 x 8    4.61 kB an image" in said and "55.6 kB of float32" in said
    with np.load(output) as found:
        assert found["file_names"].tolist() == paths
        assert json.loads(str(found["about"]))["layers"] == "conv1=conv1,features.1=relu1," + (
            "classifier.5=relu7"
        )
        np.testing.assert_allclose(
            found["classifier.5"], [quarters(pixels[path]) for path in paths], rtol=1e-4
        )
        assert found["conv1"].min() < 0 and found["features.1"].min() == 0
        np.testing.assert_array_equal(np.maximum(found["conv1"], 0), found["features.1"])
        network = saved_run.open_model(model_file)
        crop = tf.image.resize(pixels[paths[2]][None], (56, 56), method="area")
        direct = network.model.get_layer("conv1")(crop)[0]
        np.testing.assert_allclose(found["conv1"][2], direct, atol=1e-3)
    assert os.listdir(tmp_path) == ["f.npz"]


def test_a_folder_is_sorted_and_a_data_set_has_its_own_names(
    model_file, folder, make_dataset, tmp_path
):
    root, pixels = folder
    model = f"--model={model_file}"
    assert run(model, f"--output={tmp_path}/f.npz", root) == 0
    with np.load(tmp_path / "f.npz") as found:
        assert found["file_names"].tolist() == sorted(pixels) and "labels" not in found
    path, images, labels = make_dataset(11, 64)
    assert run(model, f"--output={tmp_path}/d.npz", path, "--batch_size=4") == 0
    with np.load(tmp_path / "d.npz") as found:
        assert found["file_names"].tolist() == [f"{n}.jpg" for n in range(11)]
        assert found["labels"].tolist() == labels.tolist()
        windows = images[:, 4:60, 4:60].astype(np.float64)
        wanted = windows.reshape(11, 2, 28, 2, 28, 3).mean((2, 4)).reshape(11, -1)
        np.testing.assert_allclose(found["relu7"], wanted, rtol=1e-5)


@pytest.mark.parametrize("pooling", ["avg", "max"])
def test_pooling_makes_one_number_of_each_map(model_file, folder, tmp_path, pooling):
    model, layers = f"--model={model_file}", "--layers=conv1,relu7"
    assert run(model, layers, f"--output={tmp_path}/w.npz", folder[0]) == 0
    assert run(model, layers, f"--output={tmp_path}/p.npz", f"--pooling={pooling}", folder[0]) == 0
    with np.load(tmp_path / "w.npz") as whole, np.load(tmp_path / "p.npz") as pooled:
        reduced = (np.mean if pooling == "avg" else np.max)(whole["conv1"], (1, 2))
        np.testing.assert_allclose(pooled["conv1"], reduced, rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(pooled["relu7"], whole["relu7"])


@pytest.mark.parametrize("ending", ["h5", "nc"])
def test_xarray_reads_named_axes(model_file, make_dataset, tmp_path, ending):
    xarray = pytest.importorskip("xarray")
    pytest.importorskip("h5netcdf")
    path, _, labels = make_dataset(5, 64)
    output, model = tmp_path / f"f.{ending}", f"--model={model_file}"
    layers = "--layers=conv1,relu7"
    assert run(model, layers, f"--output={output}", path) == 0
    assert run(model, layers, f"--output={tmp_path}/f.npz", path) == 0
    with xarray.open_dataset(output, engine="h5netcdf") as found:
        assert found["conv1"].dims == ("image", "row_conv1", "column_conv1", "channel_conv1")
        assert found["relu7"].dims == ("image", "unit_relu7")
        assert found.coords["image"].values.tolist() == [f"{n}.jpg" for n in range(5)]
        assert found["labels"].values.tolist() == labels.tolist()
        assert found.attrs["pooling"] == "none"
        assert set(found.variables) == {"image", "labels", "conv1", "relu7"}
        with np.load(tmp_path / "f.npz") as arrays:
            np.testing.assert_array_equal(found["conv1"].values, arrays["conv1"])
            one = found["relu7"].sel(image="3.jpg")
            np.testing.assert_array_equal(one.values, arrays["relu7"][3])
    with h5py.File(output) as file:  # and a program that knows HDF5 only
        assert file["conv1"].shape == (5, 12, 12, 8)


def test_records_hold_the_same(model_file, make_dataset, tmp_path):
    path, _, labels = make_dataset(3, 64)
    model, layers = f"--model={model_file}", "--layers=conv1,relu7"
    assert run(model, layers, f"--output={tmp_path}/f.tfrecord", path) == 0
    assert run(model, layers, f"--output={tmp_path}/f.npz", path) == 0
    with np.load(tmp_path / "f.npz") as arrays:
        for n, record in enumerate(tf.data.TFRecordDataset(f"{tmp_path}/f.tfrecord")):
            feature = tf.train.Example.FromString(record.numpy()).features.feature
            assert feature["file_name"].bytes_list.value[0] == f"{n}.jpg".encode()
            assert feature["label"].int64_list.value[0] == labels[n]
            shape = feature["conv1/shape"].int64_list.value
            row = np.array(feature["conv1"].float_list.value, np.float32).reshape(shape)
            np.testing.assert_array_equal(row, arrays["conv1"][n])


def test_an_interrupted_extraction_goes_on(model_file, folder, tmp_path, monkeypatch, capsys):
    """To the same bytes, without looking again at what it had."""
    arguments = [f"--model={model_file}", "--layers=conv1,relu7", "--batch_size=2", folder[0]]
    assert run(*arguments, f"--output={tmp_path}/whole.npz") == 0
    looked, crop = [], stimuli.FileStimuli._crop

    def interrupted(self, path):
        looked.append(path)
        if len(looked) == 5:
            raise KeyboardInterrupt
        return crop(self, path)

    monkeypatch.setattr(stimuli.FileStimuli, "_crop", interrupted)
    assert run(*arguments, f"--output={tmp_path}/f.npz") == 130
    assert sorted(os.listdir(tmp_path)) == ["f.npz.partial", "whole.npz"]
    looked[:] = range(10)
    assert run(*arguments, f"--output={tmp_path}/f.npz") == 0
    assert looked[10:] == sorted(folder[1])[4:]
    assert "Going on after 4 of 6 images." in capsys.readouterr().err
    assert sorted(os.listdir(tmp_path)) == ["f.npz", "whole.npz"]
    with np.load(tmp_path / "f.npz") as one, np.load(tmp_path / "whole.npz") as other:
        for name in other:
            np.testing.assert_array_equal(one[name], other[name])


def test_other_work_at_the_same_output_begins_anew(model_file, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(
        stimuli.FileStimuli,
        "_crop",
        lambda self, path, crop=stimuli.FileStimuli._crop: (
            crop(self, path) if not path.endswith("5.png") else 1 / 0
        ),
    )
    arguments = [f"--model={model_file}", "--batch_size=2", f"--output={tmp_path}/f.npz"]
    with pytest.raises(ZeroDivisionError):
        run(*arguments, "--layers=relu7", folder[0])
    monkeypatch.undo()
    assert run(*arguments, "--layers=conv1", folder[0]) == 0
    with np.load(tmp_path / "f.npz") as found:
        assert found["conv1"].shape == (6, 12, 12, 8) and "relu7" not in found


def test_an_image_that_cannot_be_read_is_named_and_left_out(model_file, tmp_path, capsys):
    Image.new("RGB", (64, 64), (10, 20, 30)).save(tmp_path / "a.png")
    (tmp_path / "b.jpg").write_bytes(b"\xff\xd8\xff no image")
    Image.new("RGB", (64, 64), (40, 50, 60)).save(tmp_path / "c.png")
    assert run(f"--model={model_file}", f"--output={tmp_path}/f.npz", tmp_path) == 1
    errors = capsys.readouterr().err.strip().splitlines()
    assert len(errors) == 1 and "b.jpg: " in errors[0] and "is damaged" in errors[0]
    with np.load(tmp_path / "f.npz") as found:
        assert [os.path.basename(name) for name in found["file_names"]] == ["a.png", "c.png"]
        np.testing.assert_allclose(found["relu7"][1], [40, 50, 60] * 4, rtol=1e-5)


def test_two_processes_do_not_write_the_same_output(model_file, folder, tmp_path):
    network = saved_run.open_model(model_file)
    images = stimuli.FileStimuli(sorted(folder[1]), network)
    output = str(tmp_path / "f.npz")
    first, second = (
        activations.extracted(network, {"relu7": "relu7"}, images, output) for _ in range(2)
    )
    with first, pytest.raises(ValueError, match="being written by another process"):
        second.__enter__()


def test_the_flags_are_what_the_functions_take():
    assert command.KINDS == rdm.KINDS and command.POOLINGS == activations.POOLINGS


@pytest.mark.parametrize("kind", rdm.KINDS)
def test_dissimilarities_are_scipys(kind, monkeypatch):
    rows = np.random.default_rng(0).normal(3, 1, (9, 4, 5, 2)).astype(np.float32)
    rows[4] = rows[3]
    monkeypatch.setattr(rdm, "_COLUMNS", 7)
    wanted = distance.squareform(distance.pdist(rows.reshape(9, -1).astype(float), kind))
    found = rdm.dissimilarity(rows, kind)
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    assert found[3, 4] < 1e-6 and np.array_equal(found, found.T) and not np.diag(found).any()


def test_a_pattern_without_variance_has_no_correlation():
    rows = np.random.default_rng(0).normal(size=(4, 30)).astype(np.float32)
    rows[1], rows[2] = 0, 0.1
    found = rdm.dissimilarity(rows)
    assert np.isnan(found[1]).all() and np.isnan(found[2]).all()
    assert np.isfinite(found[np.ix_([0, 3], [0, 3])]).all()


def test_matrices_and_their_plot_are_written(model_file, folder, tmp_path, capsys):
    arguments = [f"--model={model_file}", "--layers=relu1,relu7", f"--output={tmp_path}/f.npz"]
    assert run(*arguments, "--rdm=correlation", folder[0]) == 0
    with np.load(tmp_path / "f.npz") as arrays, np.load(tmp_path / "f-rdm.npz") as found:
        assert found["file_names"].tolist() == sorted(folder[1])
        wanted = distance.pdist(arrays["relu7"].astype(float), "correlation")
        np.testing.assert_allclose(distance.squareform(found["relu7"]), wanted, atol=1e-6)
    assert min(Image.open(tmp_path / "f-rdm.png").size) > 300
    # Refused before any work.
    assert run(*arguments, "--rdm=euclidean", "--rdm_max=5", folder[0]) == 1
    assert "6 images has 36 numbers, and --rdm_max is 5" in capsys.readouterr().err


def test_the_projector_of_tensorboard_reads_its_files(model_file, make_dataset, tmp_path):
    pytest.importorskip("tensorboard")
    from google.protobuf import text_format
    from tensorboard.plugins.projector import projector_config_pb2, projector_plugin

    path, images, labels = make_dataset(5, 64)
    directory = tmp_path / "projector"
    output = f"--output={tmp_path}/f.npz"
    assert run(f"--model={model_file}", output, f"--projector={directory}", path) == 0
    config = projector_config_pb2.ProjectorConfig()
    text_format.Parse((directory / "projector_config.pbtxt").read_text(), config)
    (shown,) = config.embeddings
    vectors = projector_plugin._read_tensor_binary_file(
        str(directory / shown.tensor_path), shown.tensor_shape
    )
    with np.load(tmp_path / "f.npz") as arrays:
        np.testing.assert_array_equal(vectors, arrays["relu7"])
    rows = (directory / shown.metadata_path).read_text().splitlines()
    assert rows == ["file_name\tlabel", *(f"{n}.jpg\t{label}" for n, label in enumerate(labels))]
    sheet = np.asarray(Image.open(directory / shown.sprite.image_path))
    side = shown.sprite.single_image_dim[0]
    assert sheet.shape == (3 * side, 3 * side, 3)
    fourth = sheet[side : 2 * side, :side].astype(float)
    assert abs(fourth.mean() - images[3, 4:60, 4:60].mean()) < 1
    assert not sheet[side : 2 * side, 2 * side :].any()


def test_bad_input_is_one_sentence(model_file, folder, tmp_path, capsys):
    model, output = f"--model={model_file}", f"--output={tmp_path}/f.npz"
    for flags, code, words in [
        ([output, folder[0]], 2, "--model is missing"),
        ([model, folder[0]], 2, "--output is missing"),
        ([model, output], 2, "No image is named"),
        ([model, output, "-"], 2, "activations need file names"),
        ([model, output, folder[0], "--split=train"], 2, "--split is only for"),
        ([model, output, folder[0], "--rdm=cosine"], 2, "correlation"),
        ([model, f"--output={tmp_path}/f.csv", folder[0]], 1, "should end in .npz, .h5, .nc or"),
        ([model, output, folder[0], "--layers=fc6"], 1, "has no layer 'fc6': it has"),
        ([model, output, folder[0], "--layers=,"], 1, "No layer is named"),
        ([model, output, tmp_path / "none.png"], 1, "There is no image"),
    ]:
        assert run(*flags) == code, flags
        err = capsys.readouterr().err.strip().splitlines()
        assert len(err) == 1 and words in err[0], err
    assert not os.listdir(tmp_path)


def test_a_disk_that_is_too_small_is_noticed_first(
    model_file, folder, tmp_path, monkeypatch, capsys
):
    full = type("Usage", (), {"free": 100})
    monkeypatch.setattr(activations.shutil, "disk_usage", lambda _: full)
    assert run(f"--model={model_file}", f"--output={tmp_path}/f.npz", folder[0]) == 1
    assert "take 576 B with the copy" in capsys.readouterr().err
    assert not os.listdir(tmp_path)
