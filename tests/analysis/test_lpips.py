"""LPIPS beside the `lpips` package, on the same random convolutions, with its own heads."""

import importlib.resources
import importlib.util
import sys
import types

import keras
import numpy as np
import pytest

import alexnet_tf
from alexnet_tf.analysis import lpips
from alexnet_tf.models import layer_names

torch = pytest.importorskip("torch")
if importlib.util.find_spec("lpips") is None:
    pytest.skip("needs the package lpips", allow_module_level=True)
SIZES = {"conv1": (64, 3, 11), "conv2": (192, 64, 5), "conv3": (384, 192, 3)}
SIZES |= {"conv4": (256, 384, 3), "conv5": (256, 256, 3)}


@pytest.fixture(scope="module")
def theirs():
    """Their module with AlexNet's convolutions from a torchvision that has only these."""
    nn = torch.nn
    torch.manual_seed(1)
    convolutions = {
        name: nn.Conv2d(
            i, o, k, **({"stride": 4, "padding": 2} if k == 11 else {"padding": k // 2})
        )
        for name, (o, i, k) in SIZES.items()
    }
    modules = []
    for name, convolution in convolutions.items():
        with torch.no_grad():
            convolution.weight.mul_(2.2)
        modules += [convolution, nn.ReLU(inplace=True)]
        if name in ("conv1", "conv2", "conv5"):
            modules.append(nn.MaxPool2d(3, 2))
    models = types.ModuleType("torchvision.models")
    models.alexnet = lambda pretrained: types.SimpleNamespace(features=nn.Sequential(*modules))
    vision = types.ModuleType("torchvision")
    vision.models = models
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "torchvision", vision)
        patch.setitem(sys.modules, "torchvision.models", models)
        for name in [name for name in sys.modules if name.split(".")[0] == "lpips"]:
            patch.delitem(sys.modules, name)
        package = importlib.import_module("lpips")
        yield package.LPIPS(net="alex", pnet_rand=True, verbose=False)


@pytest.fixture(scope="module")
def network(theirs):
    # Without the top: 60 million numbers that no distance asks for.
    model = alexnet_tf.build_model("alexnet_owt", include_top=False)
    state = {k: v.numpy() for k, v in theirs.net.state_dict().items()}
    for module, layer in layer_names.TORCHVISION_WEIGHTS.items():
        if layer in SIZES:
            (name,) = (k for k in state if k.endswith(f".{module.split('.')[1]}.weight"))
            kernel, bias = state[name], state[name.replace("weight", "bias")]
            model.get_layer(layer).set_weights([kernel.transpose(2, 3, 1, 0), bias])
    return model


@pytest.fixture(scope="module")
def heads():
    files = importlib.resources.files("lpips")
    return lpips.read_heads(str(files / "weights" / "v0.1" / "alex.pth"))


def _pairs(size, seed=0):
    rng = np.random.default_rng(seed)
    images = np.kron(rng.uniform(0, 255, (3, size // 8, size // 8, 3)), np.ones((1, 8, 8, 1)))
    others = np.clip(images + rng.normal(0, 25, images.shape), 0, 255)
    others[2] = images[2]
    return images.astype(np.float32), others.astype(np.float32)


@pytest.mark.parametrize("size", [64, 96])
def test_distances_are_those_of_the_package(theirs, network, heads, size):
    images, others = _pairs(size)
    with torch.no_grad():
        wanted = theirs(
            *(torch.from_numpy(x.transpose(0, 3, 1, 2) / 127.5 - 1) for x in (images, others))
        )
    found = lpips.Distance(network, heads)(images, others).numpy()
    np.testing.assert_allclose(found, wanted.numpy().ravel(), rtol=2e-4, atol=1e-6)
    assert found[2] == 0 and found[:2].min() > 1e-3


def test_gradients_are_those_of_the_package(theirs, network, heads):
    """Also where all features of a pixel are 0, where the root has no slope."""
    import tensorflow as tf

    images, others = _pairs(64, 1)
    images[0], others[0, :32] = 0, 0
    x = torch.from_numpy(others.transpose(0, 3, 1, 2) / 127.5 - 1).requires_grad_()
    theirs(torch.from_numpy(images.transpose(0, 3, 1, 2) / 127.5 - 1), x).sum().backward()
    wanted = x.grad.numpy().transpose(0, 2, 3, 1) / 127.5
    variable = tf.Variable(others)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(lpips.Distance(network, heads)(images, variable))
    found = tape.gradient(total, variable).numpy()
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, wanted, atol=1e-3 * np.abs(wanted).max())


def test_a_model_learns_from_the_loss_and_the_metric_counts_images(network, heads):
    distance = lpips.Distance(network, heads)
    images, others = _pairs(64)
    inputs = keras.Input((64, 64, 3))
    outputs = keras.layers.Conv2D(3, 1, kernel_initializer="zeros")(inputs)
    model = keras.Model(inputs, keras.layers.Add()([inputs, outputs]))
    before = [np.array(w) for layer in network.layers for w in layer.get_weights()]
    model.compile("sgd", loss=lpips.Loss(distance), metrics=[lpips.Metric(distance)])
    found = model.evaluate(others, images, batch_size=2, verbose=0, return_dict=True)
    wanted = float(np.mean(distance(images, others)))
    np.testing.assert_allclose([found["loss"], found["lpips"]], wanted, rtol=1e-5)
    model.fit(others, images, batch_size=3, verbose=0)
    assert np.abs(model.layers[1].get_weights()[0]).max() > 0
    after = [np.array(w) for layer in network.layers for w in layer.get_weights()]
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)


def test_other_files_and_networks_are_one_sentence(network, heads, tmp_path):
    assert [len(head) for head in heads] == [64, 192, 384, 256, 256]
    with pytest.raises(FileNotFoundError, match="There is no file of LPIPS heads"):
        lpips.read_heads(tmp_path / "none.pth")
    torch.save({"lin0.model.1.weight": torch.ones(1, 64, 1, 1)}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"has no tensor lin1\.model\.1\.weight"):
        lpips.read_heads(tmp_path / "a.pth")
    torch.save({f"lin{n}.model.1.weight": torch.ones(64) for n in range(5)}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"has shape \(64,\): expected \(1, channels, 1, 1\)"):
        lpips.read_heads(tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"heads have .* channels, but the network's maps"):
        lpips.Distance(network, heads[:4])
    lenet = alexnet_tf.build_model("lenet5")
    with pytest.raises(ValueError, match="LPIPS is for torchvision's AlexNet"):
        lpips.Distance(lenet, heads)
