"""What is beside a model file, and weights that are not finite."""

import json

import keras
import numpy as np
import pytest

from alexnet_tf import export, predict
from alexnet_tf.models import saved_run


@pytest.fixture
def run(tmp_path):
    """A workdir with a small network of 3 classes."""
    inputs = keras.Input((8, 8, 3))
    outputs = keras.layers.Dense(3, activation="softmax")(keras.layers.Flatten()(inputs))
    keras.Model(inputs, outputs).save(tmp_path / "model.keras")
    return tmp_path


def config(run, content):
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    (run / "config.json").write_bytes(data)
    return str(run)


def test_what_a_run_says_is_taken(run):
    network = saved_run.open_model(config(run, {"class_names": ["a", "b", "c"], "image_size": 12}))
    assert (network.class_names, network.image_size) == (("a", "b", "c"), 12)
    network = saved_run.open_model(config(run, {"class_names": None, "image_size": None}))
    assert (network.class_names, network.image_size) == (None, 8)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is no JSON"),
        (b"{", "is no JSON"),
        (b"\xff\xfe{}", "is no JSON"),
        (b"[" * 100_000, "is no JSON"),
        (b'{"image_size": ' + b"1" * 5000 + b"}", "is no JSON|as image_size"),
        ([], "no JSON object"),
        ({"class_names": 3}, "3 as class_names: expected a list of names"),
        ({"class_names": "abc"}, "as class_names"),
        ({"class_names": {"a": 1}}, "as class_names"),
        ({"class_names": []}, "as class_names"),
        ({"class_names": [1, 2, 3]}, "as class_names"),
        ({"class_names": [None] * 50}, r"\[null, null.*\.\.\. as class_names"),
        ({"class_names": ["a", "b"]}, "names 2 classes, but .* has 3 outputs"),
        ({"image_size": "large"}, "as image_size: expected a whole number of 1 to 10,000"),
        ({"image_size": [256]}, "as image_size"),
        ({"image_size": 256.5}, "as image_size"),
        ({"image_size": True}, "as image_size"),
        ({"image_size": -1}, "as image_size"),
        ({"image_size": 10**9}, "as image_size"),
        (b'{"image_size": NaN}', "as image_size"),
        ({"image_size": 7}, "an image_size of 7, but .* takes images of 8x8"),
    ],
)
def test_a_hostile_config_is_one_sentence(run, capsys, content, words):
    with pytest.raises(ValueError, match=words) as error:
        saved_run.open_model(config(run, content))
    assert len(str(error.value)) < 400
    assert predict.main([f"--model={run}", str(run / "none.jpg")]) == 1


def test_a_directory_in_the_configs_place_is_one_sentence(run):
    (run / "config.json").mkdir()
    with pytest.raises(ValueError, match=r"config\.json is no file of a run"):
        saved_run.open_model(str(run))


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused_by_every_program(run, tmp_path, capsys, number):
    """Where evaluation alone refused them, prediction printed NaN, which is not JSON."""
    model = keras.models.load_model(run / "model.keras")
    kernel, bias = model.get_weights()
    kernel[5, 1] = number
    model.set_weights([kernel, bias])
    model.save(run / "model.keras")
    image = tmp_path / "a.png"
    keras.utils.save_img(image, np.zeros((8, 8, 3)))
    for command, flags in (
        (export, [f"--output={tmp_path}/saved"]),
        (export, ["--format=litert", f"--output={tmp_path}/a.tflite"]),
        (predict, ["--json", str(image)]),
    ):
        assert command.main([f"--model={run}", *flags]) == 1
        captured = capsys.readouterr()
        assert "holds 1 numbers in dense" in captured.err and "not finite" in captured.err
        assert "NaN" not in captured.out
    assert not (tmp_path / "saved").exists() and not (tmp_path / "a.tflite").exists()


def test_answers_that_are_not_finite_are_no_predictions():
    """Also of a SavedModel or a server, whose weights are not seen."""
    from alexnet_tf.serving import predictor

    def classifier(files):
        values = np.array([[np.nan, 1.0] if file == b"bad" else [0.25, 0.75] for file in files])
        names = np.array([["b", "a"]] * len(files))
        return {"classes": names, "scores": values, "probabilities": values}

    rows = predictor._predict_batch(classifier, [("x", b"bad"), ("y", b"good")])
    bad, good = (row.as_json() for row in rows)
    assert bad["error"].startswith("The network gives NaN") and "predictions" not in bad
    assert good["predictions"][0] == {"class": "b", "score": 0.25}


def test_a_network_whose_answers_are_not_finite_is_not_exported(tmp_path):
    """Finite weights, but a logarithm of something negative."""
    from alexnet_tf.serving import export as serving_export

    inputs = keras.Input((8, 8, 3))
    x = keras.ops.log(-1 - keras.layers.Flatten()(inputs))
    network = saved_run.TrainedModel("a.keras", keras.Model(inputs, x[:, :3]), None, 8)
    with pytest.raises(ValueError, match="gives NaN or infinity"):
        serving_export.export_saved_model(network, "abc", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
