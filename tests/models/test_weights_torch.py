"""torchvision's layout, against PyTorch, through .pth and .safetensors."""

import pickle

import numpy as np
import pytest

import alexnet_tf
from alexnet_tf import import_weights
from alexnet_tf.models import weights

torch = pytest.importorskip("torch")
safetensors_torch = pytest.importorskip("safetensors.torch")

MEAN = np.array([0.485, 0.456, 0.406])
STD = np.array([0.229, 0.224, 0.225])


class TorchAlexNet(torch.nn.Module):
    """The modules of torchvision's AlexNet, in its order, so that its tensors have their names."""

    def __init__(self):
        super().__init__()
        nn = torch.nn
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 11, stride=4, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
        )
        self.avgpool = nn.AdaptiveAvgPool2d((6, 6))
        self.classifier = nn.Sequential(
            nn.Dropout(0.5),
            nn.Linear(9216, 4096),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Linear(4096, 1000),
        )

    def forward(self, x):
        x = self.avgpool(self.features(x))
        return self.classifier(torch.flatten(x, 1))


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(4)
    module = TorchAlexNet().eval()
    with torch.no_grad():
        # The default start shrinks the signal layer by layer; weights this large keep it visible.
        for parameter in module.parameters():
            if parameter.ndim > 1:
                parameter.mul_(2.2)
    return module


@pytest.fixture(scope="module")
def files(network, tmp_path_factory):
    folder = tmp_path_factory.mktemp("torch")
    state = network.state_dict()
    torch.save(state, folder / "net.pth")
    safetensors_torch.save_file(state, folder / "net.safetensors")
    return folder


@pytest.fixture(scope="module")
def shared_model():
    return alexnet_tf.AlexNetOWT()


def expected_probabilities(network, pixels):
    with torch.no_grad():
        x = torch.from_numpy(((pixels / 255 - MEAN) / STD).astype(np.float32)).permute(0, 3, 1, 2)
        return torch.softmax(network(x), -1).numpy()


@pytest.mark.parametrize("name", ["net.pth", "net.safetensors"])
def test_pixels_give_the_probabilities_that_pytorch_gives(network, files, shared_model, name):
    report = weights.load(shared_model, files / name)
    assert report.modelling == () and report.preprocessing == () and report.conversions == ()
    assert len(report.tensors) == 16
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 224, 224, 3)).astype(np.float32)
    expected = expected_probabilities(network, pixels)
    np.testing.assert_allclose(shared_model(pixels), expected, atol=1e-5)
    assert expected.max() > 0.01 and np.abs(expected[0] - expected[1]).max() > 1e-3


def test_a_model_of_unscaled_pixels_gets_its_first_kernel_scaled(network, files):
    """Same mean, no scale: the scale moves into conv1."""
    model = alexnet_tf.AlexNetOWT(
        include_preprocessing=alexnet_tf.models.PixelNormalization(MEAN * 255)
    )
    report = weights.load(model, files / "net.pth")
    assert len(report.conversions) == 1 and "conv1" in report.conversions[0]
    pixels = np.random.default_rng(3).uniform(0, 255, (1, 224, 224, 3)).astype(np.float32)
    np.testing.assert_allclose(model(pixels), expected_probabilities(network, pixels), atol=1e-5)


def test_bfloat16_files_and_checkpoints_of_training_scripts_are_read(network, tmp_path):
    state = {f"module.{k}": v.bfloat16() for k, v in network.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "checkpoint.pth")
    model = alexnet_tf.AlexNetOWT()
    weights.load(model, tmp_path / "checkpoint.pth")
    np.testing.assert_array_equal(
        model.get_layer("fc7").bias, network.classifier[4].bias.detach().bfloat16().float().numpy()
    )


class Foreign:
    """Unpickled, this would run a command."""

    def __reduce__(self):
        return (print, ("unpickled!",))


def bad_state(state, how):
    state = dict(state)
    if how == "missing":
        del state["features.8.bias"]
    elif how == "extra":
        state["features.14.weight"] = torch.zeros(2, 3)
    elif how == "shape":
        state["classifier.6.weight"] = torch.zeros(10, 4096)
    elif how == "nan":
        state["features.3.weight"] = torch.full((192, 64, 5, 5), float("nan"))
    elif how == "integers":
        state["features.0.bias"] = torch.zeros(64, dtype=torch.int64)
    return state


CASES = [
    ("missing", ["lacks the tensor features.8.bias"]),
    ("extra", ["extra tensor features.14.weight", "(2, 3)"]),
    ("shape", ["classifier.6.weight", "(10, 4096)", "(1000, 4096)"]),
    ("nan", ["features.3.weight", "307200 numbers that are not finite"]),
    ("integers", ["features.0.bias", "int64"]),
]


@pytest.mark.parametrize("how, words", CASES)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_bad_tensor_is_named(network, shared_model, tmp_path, how, words, suffix):
    path = tmp_path / f"bad{suffix}"
    state = bad_state(network.state_dict(), how)
    if suffix == ".pth":
        torch.save(state, path)
    else:
        safetensors_torch.save_file(state, path)
    before = [w.numpy().copy() for w in shared_model.weights[:4]]
    with pytest.raises(ValueError) as error:
        weights.load(shared_model, path)
    assert all(word in str(error.value) for word in words), error.value
    for weight, value in zip(shared_model.weights[:4], before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), value)


def test_a_pickle_that_would_run_code_is_refused_and_not_run(shared_model, tmp_path, capsys):
    path = tmp_path / "foreign.pth"
    torch.save({"features.0.weight": Foreign()}, path)
    with pytest.raises(ValueError, match="holds more than tensors"):
        weights.load(shared_model, path)
    path.write_bytes(pickle.dumps(Foreign()))
    with pytest.raises(ValueError, match=r"more than tensors|truncated"):
        weights.load(shared_model, path)
    assert "unpickled!" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["net.pth", "net.safetensors"])
@pytest.mark.parametrize("length", [0, 100, -100])
def test_a_truncated_file_is_refused(files, shared_model, tmp_path, name, length):
    path = tmp_path / name
    path.write_bytes((files / name).read_bytes()[:length])
    with pytest.raises(ValueError, match=r"truncated|damaged"):
        weights.load(shared_model, path)


def test_another_network_is_refused_by_name(files):
    model = alexnet_tf.build_model("alexnet_caffe", include_preprocessing=False)
    with pytest.raises(ValueError, match=r"features\.0\.weight.*\(64, 3, 11, 11\).*\(96, 3"):
        weights.load(model, files / "net.pth")


def test_the_command_converts_and_reports(files, tmp_path, capsys):
    output = tmp_path / "owt.keras"
    source = files / "net.safetensors"
    code = import_weights.main(
        [f"--source={source}", "--model=alexnet_owt", f"--output={output}", "--allow_random"]
    )
    assert code == 0, capsys.readouterr().err
    model = alexnet_tf.load_model(output)
    np.testing.assert_allclose(model.get_layer("preprocessing").mean, MEAN * 255, rtol=1e-6)
    assert code == 0 and "Differences in the preprocessing:\n  - none" in capsys.readouterr().out
