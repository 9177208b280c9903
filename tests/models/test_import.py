"""Weights as people have them, into a small network of torchvision's shape."""

import json
import pathlib
import re
import resource

import numpy as np
import pytest

import alexnet_tf
from alexnet_tf import import_weights
from alexnet_tf.models import weights
from alexnet_tf.models.weights import conversion

torch = pytest.importorskip("torch")
safetensors_torch = pytest.importorskip("safetensors.torch")
onnx = pytest.importorskip("onnx")

SIDES = "the file's network has images of 224x224, the model images of 95x95"
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


@pytest.fixture(scope="module")
def images(small_owt):
    side = alexnet_tf.models.crop_size(small_owt)
    return np.random.default_rng(0).uniform(0, 255, (2, side, side, 3)).astype(np.float32)


def expected(network, images):
    x = torch.from_numpy(((images / 255 - MEAN) / STD).astype(np.float32)).permute(0, 3, 1, 2)
    with torch.no_grad():
        return torch.softmax(network(x), -1).numpy()


def wrapped(state, how):
    """What `torch.save` gets."""
    part = {n: n.replace("features.", "features.module.") for n in state}  # torchvision's example
    return {
        "state dictionary": state,
        "data parallel": {f"module.{n}": v for n, v in state.items()},
        "features in parallel": {part[n]: v for n, v in state.items()},
        "both": {f"module.{part[n]}": v for n, v in state.items()},
        "compiled": {f"_orig_mod.{n}": v for n, v in state.items()},
        "lightning": {"state_dict": {f"model.net.{n}": v for n, v in state.items()}, "epoch": 1},
        "checkpoint": {
            "epoch": 3,
            "arch": "alexnet",
            "best_acc1": torch.tensor(1.0),
            "optimizer": {"state": {0: {"momentum_buffer": torch.ones(3)}}, "param_groups": []},
            "state_dict": state,
        },
    }[how]


HOW = [
    *("state dictionary", "data parallel", "features in parallel", "both", "compiled"),
    *("lightning", "checkpoint"),
]


@pytest.mark.parametrize("name", ["a.pth", "a.pth.tar", "a.pt"])
@pytest.mark.parametrize("how", HOW)
def test_names_and_places_of_state_dictionaries(
    small_owt, small_torch, images, tmp_path, how, name
):
    torch.save(wrapped(small_torch.state_dict(), how), tmp_path / name)
    model = alexnet_tf.build_model(small_owt, weights=tmp_path / name)
    np.testing.assert_allclose(model(images), expected(small_torch, images), atol=1e-5)
    assert expected(small_torch, images).max() > 0.12


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float64"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_other_precisions(small_owt, small_torch, tmp_path, kind, suffix):
    state = {n: v.to(getattr(torch, kind)) for n, v in small_torch.state_dict().items()}
    path = tmp_path / f"a{suffix}"
    safetensors_torch.save_file(state, path) if suffix != ".pth" else torch.save(state, path)
    model = alexnet_tf.build_model(small_owt, weights=path)
    np.testing.assert_array_equal(
        model.get_layer("fc7").bias, state["classifier.4.bias"].float().numpy()
    )


def test_parameters_that_require_gradients(small_owt, small_torch, images, tmp_path):
    torch.save(dict(small_torch.named_parameters()), tmp_path / "a.pth")
    model = alexnet_tf.build_model(small_owt, weights=tmp_path / "a.pth")
    np.testing.assert_allclose(model(images), expected(small_torch, images), atol=1e-5)


def test_pytorch_is_not_needed(small_torch, small_owt, tmp_path, monkeypatch):
    torch.save(small_torch.state_dict(), tmp_path / "a.pth")
    safetensors_torch.save_file(small_torch.state_dict(), tmp_path / "a.safetensors")
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    monkeypatch.setitem(__import__("sys").modules, "safetensors", None)
    for name in ("a.pth", "a.safetensors"):
        alexnet_tf.build_model(small_owt, weights=tmp_path / name)


def with_head(network, classes):
    state = dict(network.state_dict())
    generator = torch.Generator().manual_seed(2)
    state["classifier.6.weight"] = torch.randn(classes, 16, generator=generator)
    state["classifier.6.bias"] = torch.randn(classes, generator=generator)
    return state


def test_the_number_of_classes_is_the_files(small_owt, small_torch, images, tmp_path):
    torch.save(with_head(small_torch, 3), tmp_path / "a.pth")
    report = conversion.convert(tmp_path / "a.pth", small_owt, tmp_path / "a.keras")
    model = alexnet_tf.load_model(tmp_path / "a.keras")
    assert model.output_shape == (None, 3)
    # A state dictionary does not tell for which images it is: torchvision's take 224 pixels.
    assert report.modelling == (SIDES,)
    assert report.conversions == () and len(report.tensors) == 16
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("a.keras", "a.keras.json", "a.pth")
    ]
    assert json.loads((tmp_path / "a.keras.json").read_text())["convention"] == "torchvision"


def test_another_number_of_classes_makes_a_new_head(small_owt, small_torch, images, tmp_path):
    torch.save(small_torch.state_dict(), tmp_path / "a.pth")
    report = conversion.convert(tmp_path / "a.pth", small_owt, tmp_path / "a.keras", classes=4)
    model = alexnet_tf.load_model(tmp_path / "a.keras")
    assert model.output_shape == (None, 4)
    assert report.conversions == ("fc8 begins anew with 4 classes; the file's 10 are left out",)
    assert report.modelling == (SIDES,) and len(report.tensors) == 14
    np.testing.assert_array_equal(
        model.get_layer("fc7").bias, small_torch.classifier[4].bias.detach()
    )
    # The same number keeps the file's.
    report = conversion.convert(tmp_path / "a.pth", small_owt, tmp_path / "b.keras", classes=10)
    assert len(report.tensors) == 16


def bad(state, how):
    state, name = dict(state), "features.3.weight"
    some = state[name]
    if how == "integer key":
        state[7] = state.pop(name)
    elif how == "sparse":
        state[name] = some.to_sparse()
    elif how == "meta":
        state[name] = some.to("meta")
    elif how == "float8":
        state[name] = some.to(torch.float8_e4m3fn)
    elif how == "complex":
        state[name] = some.to(torch.complex64)
    elif how == "twice":
        state[f"module.{name}"] = some
    elif how == "number":
        state["epoch"] = 3
    elif how == "expanded":
        state[name] = torch.ones(1).expand(10**4, 10**4, 10**4)
    elif how == "expanded head":
        state["classifier.6.weight"] = torch.ones(1).expand(10**6, 10**6)
    elif how == "flat head":
        state["classifier.6.weight"] = torch.ones(10)
    return state


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("integer key", r"the key 7, a int: expected the names"),
        ("sparse", r"features\.3\.weight .* is a sparse tensor"),
        ("meta", r"features\.3\.weight .* is a meta tensor"),
        ("float8", r"features\.3\.weight .* holds float8_e4m3fn: expected floating-point"),
        ("complex", r"features\.3\.weight .* holds complex64"),
        ("twice", r"two tensors for features\.3\.weight"),
        ("number", r"epoch .* is a int: expected a tensor"),
        ("expanded", r"features\.3\.weight .*\(10000, 10000, 10000\).* takes \(8, 6, 5, 5\)"),
        ("expanded head", r"classifier\.6\.weight .*\(1000000, 1000000\), but only 1 numbers"),
        ("flat head", r"classifier\.6\.weight .* has shape \(10,\): expected \(outputs"),
    ],
)
def test_a_bad_tensor_is_one_sentence(small_owt, small_torch, tmp_path, how, words):
    torch.save(bad(small_torch.state_dict(), how), tmp_path / "a.pth")
    with pytest.raises(ValueError, match=words) as error:
        conversion.convert(tmp_path / "a.pth", small_owt, tmp_path / "a.keras")
    assert "\n" not in str(error.value) and len(str(error.value)) < 500
    assert [path.name for path in tmp_path.iterdir()] == ["a.pth"]


def test_eight_bit_floats_in_safetensors(small_owt, small_torch, tmp_path):
    safetensors_torch.save_file(bad(small_torch.state_dict(), "float8"), tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"features\.3\.weight .* holds F8_E4M3"):
        alexnet_tf.build_model(small_owt, weights=tmp_path / "a.safetensors")


def header(content, **changes):
    """A safetensors file with another header."""
    length = int.from_bytes(content[:8], "little")
    text = json.loads(content[8 : 8 + length])
    for name, change in changes.items():
        text[name.replace("_", ".")].update(change)
    encoded = json.dumps(text).encode()
    return len(encoded).to_bytes(8, "little") + encoded + content[8 + length :]


@pytest.mark.parametrize(
    "how", ["huge length", "deep", "number", "shape", "outside", "overlap", "negative", "left over"]
)
def test_a_hostile_safetensors_header_is_one_sentence(small_owt, small_torch, tmp_path, how):
    path = tmp_path / "a.safetensors"
    safetensors_torch.save_file(small_torch.state_dict(), path)
    content = path.read_bytes()
    deep = b"[" * 100_000
    end = len(content) - 8 - int.from_bytes(content[:8], "little")
    path.write_bytes(
        {
            "huge length": (2**63).to_bytes(8, "little") + content[8:],
            "deep": len(deep).to_bytes(8, "little") + deep,
            "number": (1).to_bytes(8, "little") + b"7",
            "shape": header(content, classifier_6_bias={"shape": [10**12]}),
            "outside": header(content, classifier_6_bias={"data_offsets": [end, end + 40]}),
            "overlap": header(content, classifier_6_bias={"data_offsets": [0, 40]}),
            "negative": header(content, classifier_6_bias={"data_offsets": [-40, 0]}),
            "left over": content + b"x",
        }[how]
    )
    with pytest.raises(ValueError, match="cannot be read as safetensors") as error:
        weights.open_source(path)
    assert len(str(error.value)) < 400


@pytest.fixture(scope="module")
def graph(small_torch, small_owt, tmp_path_factory):
    """What `torch.onnx.export` wrote before it used `torch.export`."""
    path = tmp_path_factory.mktemp("onnx") / "small.onnx"
    side = alexnet_tf.models.crop_size(small_owt)
    with pytest.warns(DeprecationWarning):
        torch.onnx.export(small_torch, (torch.zeros(1, 3, side, side),), path, dynamo=False)
    return path


def test_onnx_of_torchvisions_network(small_owt, small_torch, images, graph, tmp_path):
    """Its adaptive pool is a mean over windows of one; its pixels are RGB, standardised."""
    operations = [node.op_type for node in onnx.load(graph).graph.node]
    assert "AveragePool" in operations
    report = conversion.convert(graph, small_owt, tmp_path / "a.keras")
    assert report.convention == "torchvision"
    assert report.modelling == report.conversions == report.preprocessing == ()
    model = alexnet_tf.load_model(tmp_path / "a.keras")
    np.testing.assert_allclose(model(images), expected(small_torch, images), atol=1e-5)


def test_onnx_that_torch_onnx_export_writes_by_default(small_owt, small_torch, images, tmp_path):
    """Weights in a file beside the graph."""
    pytest.importorskip("onnxscript")
    side = alexnet_tf.models.crop_size(small_owt)
    path = tmp_path / "a.onnx"
    torch.onnx.export(small_torch, (torch.zeros(1, 3, side, side),), path, verbose=False)
    assert (tmp_path / "a.onnx.data").exists()
    report = conversion.convert(path, small_owt, tmp_path / "a.keras")
    assert report.modelling == ()
    model = alexnet_tf.load_model(tmp_path / "a.keras")
    np.testing.assert_allclose(model(images), expected(small_torch, images), atol=1e-5)


def beside(graph, path, **told):
    """The graph with its values in a file beside it; `told` changes what it says of the first."""
    model = onnx.load(graph)
    onnx.save(model, path, save_as_external_data=True, location="values.bin", size_threshold=0)
    model = onnx.load(path, load_external_data=False)
    tensor = model.graph.initializer[0]
    for entry in tensor.external_data:
        entry.value = told.get(entry.key, entry.value)
    path.write_bytes(model.SerializeToString())
    return path


def test_values_beside_the_graph(small_owt, small_torch, images, graph, tmp_path):
    path = beside(graph, tmp_path / "a.onnx")
    assert (tmp_path / "values.bin").exists()
    model = alexnet_tf.build_model(small_owt, weights=path)
    np.testing.assert_allclose(model(images), expected(small_torch, images), atol=1e-5)
    (tmp_path / "values.bin").unlink()
    with pytest.raises(ValueError, match=r"values\.bin beside it, which is not there"):
        weights.open_source(path)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"location": "/etc/passwd"}, "expected a file beside the graph"),
        ({"location": "../values.bin"}, "expected a file beside the graph"),
        ({"location": ".."}, "expected a file beside the graph"),
        ({"location": "link.bin"}, "is not there"),
        ({"offset": "-8"}, "fewer or more numbers"),
        ({"offset": "99999999"}, "fewer or more numbers"),
        ({"offset": "x"}, "fewer or more numbers"),
        ({"length": "99999999999999"}, "fewer or more numbers"),
        ({"length": "4"}, "fewer or more numbers"),
    ],
)
def test_a_hostile_graph_reads_no_other_file(graph, tmp_path, told, words):
    (tmp_path / "link.bin").symlink_to("/etc/passwd")
    path = beside(graph, tmp_path / "a.onnx", **told)
    with pytest.raises(ValueError, match=words):
        weights.open_source(path)


def changed(graph, how):
    model = onnx.load(graph)
    nodes = {node.op_type: node for node in model.graph.node}
    if how == "no inputs":
        del model.graph.input[:]
    elif how == "huge shape":
        model.graph.initializer[0].dims[0] = 10**12
    elif how == "negative shape":
        model.graph.initializer[0].dims[0] = -8
    elif how == "no kernel shape":
        del nodes["MaxPool"].attribute[:]
    elif how == "mean of four":
        nodes["AveragePool"].attribute.append(onnx.helper.make_attribute("pads", [1, 1, 1, 1]))
    elif how == "integers":
        tensor = next(t for t in model.graph.initializer if t.name == "classifier.6.bias")
        tensor.CopyFrom(onnx.numpy_helper.from_array(np.arange(10), tensor.name))
    return model.SerializeToString()


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("no inputs", "has no input"),
        ("huge shape", "fewer or more numbers than its shape says"),
        ("negative shape", r"has shape \(-8"),
        ("no kernel shape", "MaxPool .* has no kernel_shape"),
        ("mean of four", "an operation AveragePool"),
        ("integers", r"classifier\.6\.bias .* holds type 7"),
    ],
)
def test_a_hostile_graph_is_one_sentence(graph, small_owt, tmp_path, how, words):
    path = tmp_path / "a.onnx"
    path.write_bytes(changed(graph, how))
    with pytest.raises(ValueError, match=words):
        conversion.convert(path, small_owt, tmp_path / "a.keras")


@pytest.mark.parametrize(
    "content",
    [
        b"\x3a\x80\xad\xe2\x04" + b"\x0a\x00" * 5_000_000,  # a graph of five million empty nodes
        b"\x42\x00" * 5_000_000,  # as many sets of operators
        b"\x3a\xff\xff\xff\xff\x7f",  # a graph of 32 GB
        b"\xff" * 100,
    ],
)
def test_a_graph_of_empty_parts_takes_no_memory(tmp_path, content):
    path = tmp_path / "a.onnx"
    path.write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=r"more than 4,194,304 bytes|longer than|no end"):
        weights.open_source(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB


@pytest.mark.parametrize("suffix", [".onnx", ".safetensors"])
def test_whatever_is_flipped_or_cut_is_read_or_refused(small_torch, graph, tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    if suffix == ".onnx":
        whole = pathlib.Path(graph).read_bytes()
    else:
        safetensors_torch.save_file(small_torch.state_dict(), path)
        whole = path.read_bytes()
    rng = np.random.default_rng(3)
    refused = 0
    for number in range(150):
        content = bytearray(whole)
        # Most of such a file is weights: what describes them is at its ends.
        places = rng.integers(2500, size=4) * rng.choice([1, -1], size=4)
        for place in places:
            content[place] = rng.integers(256)
        path.write_bytes(content[: rng.integers(len(content))] if number % 3 == 0 else content)
        try:
            for tensor in weights.open_source(path).tensors:
                if tensor.stored.dtype == "float32":
                    tensor.stored.read()
        except ValueError as error:
            refused += 1
            assert not re.search("Traceback", str(error))
    assert refused > 40


def test_the_command_takes_classes(small_torch, tmp_path, capsys):
    torch.save(small_torch.state_dict(), tmp_path / "a.pth")
    flags = [f"--source={tmp_path}/a.pth", "--model=alexnet_owt", f"--output={tmp_path}/a.keras"]
    flags += ["--allow_random"]
    assert import_weights.main([*flags, "--classes=0"]) == 2
    assert "--classes" in capsys.readouterr().err
    # The file is of a network that is narrower than the published one.
    assert import_weights.main([*flags, "--classes=3"]) == 1
    assert "(64, 3, 11, 11)" in capsys.readouterr().err
