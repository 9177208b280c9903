"""safetensors exports, and the card that each export has."""

import json

import numpy as np
import pytest

import alexnet_tf
from alexnet_tf import export
from alexnet_tf.models import card, knowledge, saved_run
from alexnet_tf.models.weights import safetensors_files
from alexnet_tf.serving import tensors

NAMES = [f"class_{n}" for n in range(10)]


@pytest.fixture
def run(small_owt, tmp_path):
    """A run's workdir, as training leaves it."""
    model = alexnet_tf.build_model(small_owt)
    model.get_layer("fc7").bias.assign(np.arange(16) / 100)
    known = {"class_names": NAMES, "image_size": 95, "crop_size": 95, "apply_exif": True}
    recipe = {"model": small_owt, "epochs": 3, "batch_size": 128}
    knowledge.write(model, {**known, "lineage": {"recipe": recipe, "data": "0123abcd"}})
    folder = tmp_path / "run"
    folder.mkdir()
    model.save(folder / "model.keras")
    config = {"counts": {"train": 1500, "validation": 300}, "seed": 4, "class_names": NAMES}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "results.json").write_text(json.dumps({"validation_top1_error": 0.16, "epochs": 3}))
    found = {"top1_error": 0.1467, "top5_error": 0.0033}
    (folder / "evaluation-validation-10crop.json").write_text(json.dumps(found))
    return folder


def test_pytorch_takes_the_exported_tensors(run, small_torch, tmp_path, capsys):
    torch = pytest.importorskip("torch")
    from_file = pytest.importorskip("safetensors.torch").load_file
    output = tmp_path / "net.safetensors"
    assert export.main([f"--model={run}", "--format=safetensors", f"--output={output}"]) == 0
    assert "features.0.weight to classifier.6.bias" in capsys.readouterr().out
    small_torch = type(small_torch)()
    small_torch.load_state_dict(from_file(output))
    model = alexnet_tf.load_model(run / "model.keras")
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 95, 95, 3)).astype(np.float32)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    x = ((pixels / 255 - mean) / std).astype(np.float32).transpose(0, 3, 1, 2).copy()
    with torch.no_grad():
        wanted = small_torch.eval()(torch.from_numpy(x)).softmax(-1).numpy()
    np.testing.assert_allclose(model(pixels), wanted, atol=1e-5)


def test_the_exported_tensors_are_read_back(run, small_owt, tmp_path):
    network = saved_run.open_model(run)
    output = str(tmp_path / "net.safetensors")
    tensors.export_safetensors(network, NAMES, output)
    again = alexnet_tf.build_model(small_owt, weights=output)
    for one, other in zip(again.get_weights(), network.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_safetensors_own_reader_reads_the_file(tmp_path):
    library = pytest.importorskip("safetensors")
    rng = np.random.default_rng(0)
    wanted = {"b.bias": rng.normal(size=3), "a.weight": rng.normal(size=(2, 3, 1, 4))}
    wanted = {name: value.astype(np.float32) for name, value in wanted.items()}
    safetensors_files.write(tmp_path / "a.safetensors", wanted, {"card": "# A card"})
    with library.safe_open(tmp_path / "a.safetensors", "numpy") as file:
        assert file.metadata() == {"card": "# A card"}
        assert set(file.keys()) == set(wanted)
        for name, value in wanted.items():
            np.testing.assert_array_equal(file.get_tensor(name), value)


def test_a_dropout_that_is_scaled_at_test_is_in_the_weights(tmp_path):
    model = alexnet_tf.build_model("cifarnet_no_norm", include_preprocessing=False)
    model.save(tmp_path / "a.keras")
    network = saved_run.open_model(str(tmp_path / "a.keras"))
    with pytest.raises(ValueError, match="which PyTorch's layout has not"):
        tensors.named_tensors(network)
    import keras

    from alexnet_tf.models import Dropout

    inputs = keras.Input((4, 4, 2))
    x = keras.layers.Flatten()(inputs)
    x = Dropout(0.25, 0, "paper", name="drop")(x)
    model = keras.Model(inputs, keras.layers.Dense(5, name="fc")(x))
    model.get_layer("fc").bias.assign(np.arange(5.0))
    found = tensors.named_tensors(saved_run.TrainedModel("a.keras", model, None, 4))
    pixels = np.random.default_rng(0).normal(size=(3, 4, 4, 2)).astype(np.float32)
    chw = pixels.transpose(0, 3, 1, 2).reshape(3, -1)
    np.testing.assert_allclose(
        model(pixels), chw @ found["fc.weight"].T + found["fc.bias"], atol=1e-5
    )


def test_a_card_says_what_a_run_left(run):
    found = card.of_run(saved_run.open_model(run))
    for line in (
        "- takes 95 x 95 x 3 pixels, RGB, 0..255; gives one probability per class",
        "- 10 classes: class_0, class_1",
        "- images: 1,500 train, 300 validation",
        "- fingerprint of the data set: 0123abcd",
        "- turned by EXIF orientation",
        "- epochs: 3",
        "- seed: 4; replicas: 1",
        "- top-1 error, validation, centre crop: 16.00%",
        "- top1 error, evaluation-validation-10crop.json: 14.67%",
        "- probabilities are not calibrated",
    ):
        assert line in found, found
    assert found.startswith("---\nlibrary_name: keras\n")


def test_a_network_without_a_run_has_a_card_that_says_so(small_owt, tmp_path):
    alexnet_tf.build_model(small_owt).save(tmp_path / "a.keras")
    found = card.of_run(saved_run.open_model(str(tmp_path / "a.keras")))
    assert "- none measured" in found and "- not known" in found
    assert "no error was measured with this file" in found and "older version" in found


def test_a_saved_model_has_its_card(run, tmp_path):
    assert export.main([f"--model={run}", f"--output={tmp_path}/served"]) == 0
    text = (tmp_path / "served" / "1" / "card.md").read_text()
    assert text == card.of_run(saved_run.open_model(run))


def test_bad_flags_are_one_sentence(run, tmp_path, capsys):
    flags = [f"--model={run}", "--format=safetensors"]
    for more, code, words in [
        ([f"--output={tmp_path}/a.pth"], 1, "should end in .safetensors"),
        ([f"--output={tmp_path}/a.safetensors", "--data_dir=x"], 2, "--data_dir belongs to"),
        ([f"--output={tmp_path}/a.safetensors", "--version=2"], 2, "--version belongs to"),
    ]:
        assert export.main([*flags, *more]) == code
        err = capsys.readouterr().err.strip().splitlines()
        assert len(err) == 1 and words in err[0], err
