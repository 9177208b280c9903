"""Which AlexNet a file is: variant, lineage, pixels, trained or random, checksum, answer."""

import hashlib
import json

import keras
import numpy as np
import pytest

import alexnet_tf
from alexnet_tf import identify, import_weights
from alexnet_tf.analysis import identification
from alexnet_tf.models import catalog, knowledge, layer_names


def _smoothed(state):
    """The network with what training leaves: smooth kernels, shared directions, moved biases."""
    import torch

    generator = torch.Generator().manual_seed(3)
    found = {}
    for name, value in state.items():
        if value.ndim == 4:
            value = value + value.roll(1, 2) + value.roll(1, 3)
        elif value.ndim == 2:
            rows, columns = value.shape
            shared = torch.randn(rows, 1, generator=generator) @ torch.randn(
                1, columns, generator=generator
            )
            value = value + value.std() * shared * 3
        else:
            value = value + torch.randn(value.shape, generator=generator) * 3
        found[name] = value
    return found


@pytest.fixture
def files(small_owt, small_torch, tmp_path):
    torch = pytest.importorskip("torch")
    state = small_torch.state_dict()
    torch.save(state, tmp_path / "random.pth")
    torch.save(_smoothed(state), tmp_path / "trained.pth")
    partly = {**_smoothed(state), "classifier.6.weight": state["classifier.6.weight"]}
    torch.save(partly, tmp_path / "partly.pth")
    moved = {n: v + 3 * torch.randn(v.shape) if v.ndim == 1 else v for n, v in state.items()}
    torch.save(moved, tmp_path / "moved.pth")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        ("random", "random"),
        ("trained", "trained"),
        ("partly", "partly random"),
        ("moved", "hardly trained"),
    ],
)
def test_the_verdict(files, name, verdict):
    found = identification.identify(files / f"{name}.pth")
    assert found.verdict == verdict, found.text()
    assert [layer.layer for layer in found.layers] == list(layer_names.TORCHVISION_WEIGHTS.values())
    if verdict == "partly random":
        assert [layer.layer for layer in found.layers if layer.random] == ["fc8"]


def test_the_facts_of_a_file(files, small_owt, monkeypatch):
    path = files / "trained.pth"
    monkeypatch.setattr(identification.catalog, "list_models", lambda: [small_owt, "alexnet"])
    sums = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(identification, "PUBLISHED", (("sha256", sums[:8], "a known one"),))
    found = identification.identify(path)
    assert (found.sha256, found.published) == (sums, "a known one")
    assert found.variants == (small_owt,) and found.groups == 1 and found.classes == 10
    assert found.lineage == "torchvision's network" and found.channel_order == "rgb"
    assert found.expects.startswith("RGB, 0..255, minus 123.67, 116.28, 103.53 (R, G, B), times")
    model = alexnet_tf.build_model(small_owt, weights=path)
    crop = alexnet_tf.preprocess_input(identification_image(), small_owt)
    scores = model(crop)[0].numpy()
    assert [name for name, _ in found.answer] == [f"class {n}" for n in np.argsort(-scores)[:5]]
    np.testing.assert_allclose([score for _, score in found.answer], np.sort(scores)[:-6:-1])


def identification_image():
    import skimage.data

    return skimage.data.chelsea()


def test_every_published_shape_is_told_from_the_others():
    """Shapes as the built networks have them, and the variants that share them."""
    shapes = {
        name: identification._shapes(catalog.find_variant(name))
        for name in ("alexnet", "alexnet_caffe", "alexnet_owt", "alexnet_slim", "alexnet_146")
    }
    assert shapes["alexnet"] == shapes["alexnet_caffe"]
    assert shapes["alexnet"]["fc6"] == (4096, 9216) and shapes["alexnet"]["conv2"][1] == 48
    assert shapes["alexnet_slim"]["fc6"] == (4096, 6400)
    assert len({json.dumps(found) for found in shapes.values()}) == 4


def test_a_model_file_says_what_it_knows(small_owt, tmp_path, capsys):
    model = alexnet_tf.build_model(small_owt)
    names = [f"class_{n}" for n in range(10)]
    knowledge.write(model, {"class_names": names, "lineage": {"recipe": "torchvision"}})
    model.save(tmp_path / "a.keras")
    assert identify.main([str(tmp_path / "a.keras"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"] == "random" and "recipe torchvision" in found["lineage"]
    assert found["layers"][0]["start"] == "uniform +-1/sqrt(fan-in), PyTorch's default"
    assert {name for name, _ in found["answer"]} <= set(names)
    assert identify.main([str(tmp_path / "a.keras"), "--noanswer"]) == 0
    assert "as before training" in capsys.readouterr().out


def test_a_network_that_was_trained_a_little_is_not_called_random(tmp_path, photo_crops):
    """Some steps of its own training leave their mark."""
    model = alexnet_tf.build_model("cifarnet", classes=3)
    images = np.stack(list(photo_crops(24, 24))).astype(np.float32)
    labels = np.arange(24) % 3
    model.compile(keras.optimizers.SGD(0.01, 0.9), "sparse_categorical_crossentropy")
    model.fit(images, labels, batch_size=8, epochs=4, verbose=0)
    model.save(tmp_path / "a.keras")
    assert identification.identify(tmp_path / "a.keras").verdict != "random"


def test_random_weights_are_imported_only_when_asked(files, small_owt, capsys, monkeypatch):
    arguments = [f"--source={files}/random.pth", f"--model={small_owt}"]
    monkeypatch.setattr(catalog, "list_models", lambda: [small_owt])
    monkeypatch.setattr("alexnet_tf.models.list_models", lambda: [small_owt])
    output = files / "a.keras"
    assert import_weights.main([*arguments, f"--output={output}"]) == 1
    said = capsys.readouterr()
    assert "every kernel looks as before training" in said.out
    assert "look random, as they are before training" in said.err and not output.exists()
    assert import_weights.main([*arguments, f"--output={output}", "--allow_random"]) == 0
    assert output.exists()
    trained = [f"--source={files}/trained.pth", f"--model={small_owt}"]
    assert import_weights.main([*trained, f"--output={files}/b.keras"]) == 0
    # The functions take whatever fits.
    alexnet_tf.build_model(small_owt, weights=files / "random.pth")


def test_bad_input_is_one_sentence(tmp_path, capsys):
    (tmp_path / "a.pth").write_bytes(b"no weights")
    for arguments, code, words in [
        ([], 2, "No file is named"),
        ([f"{tmp_path}/none.pth"], 1, "There is no file of weights"),
        ([f"{tmp_path}/a.pth"], 1, "cannot be read as a file of PyTorch"),
        ([f"{tmp_path}"], 1, "holds no model.keras"),
    ]:
        assert identify.main(arguments) == code
        err = capsys.readouterr().err.strip().splitlines()
        assert len(err) == 1 and words in err[0], err
