"""Caffe's AlexNet, as the graph in the `onnx` package, against onnxruntime."""

import pathlib

import keras
import numpy as np
import pytest

import alexnet_tf
from alexnet_tf import import_weights
from alexnet_tf.models import weights

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

GRAPH = pathlib.Path(onnx.__file__).parent / "backend/test/data/light/light_bvlc_alexnet.onnx"
# The graph's names for what our layers put out.
POOL5, FC7_RELU, PROB = "r14", "r21", "prob_1"


def filled_graph(seed, size):
    """The graph with seeded weights in place of its zeros, for images of `size`."""
    model = onnx.load(GRAPH)
    graph = model.graph
    rng = np.random.default_rng(seed)
    shapes = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    empty = [n for n in graph.node if n.op_type == "ConstantOfShape"]
    for node in empty:
        shape = shapes[node.input[0]]
        # Deviations that keep the activations alive up to the softmax; biases that are not zero.
        fan_in = np.prod(shape[1:])
        value = rng.normal(0, 0.1 if len(shape) == 1 else np.sqrt(2 / fan_in), shape)
        tensor = onnx.numpy_helper.from_array(value.astype(np.float32), node.output[0])
        graph.initializer.append(tensor)
        graph.node.remove(node)
    for name in [n for n in shapes if n.endswith("__SHAPE")]:
        graph.initializer.remove(next(t for t in graph.initializer if t.name == name))
        graph.input.remove(next(i for i in graph.input if i.name == name))
    image = next(i for i in graph.input if i.name == "data_0")
    for dim in image.type.tensor_type.shape.dim[2:]:
        dim.dim_value = size
    for name in (POOL5, FC7_RELU):
        graph.output.append(onnx.helper.make_tensor_value_info(name, 1, None))
    return model


@pytest.fixture(scope="module")
def zoo_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "bvlcalexnet.onnx"
    onnx.save(filled_graph(seed=12, size=224), path)
    return str(path)


@pytest.fixture(scope="module")
def shared_model():
    return alexnet_tf.build_model("alexnet_onnx")


@pytest.mark.parametrize("variant, size", [("alexnet_onnx", 224), ("alexnet_caffe", 227)])
def test_the_imported_network_computes_what_onnxruntime_computes(variant, size, tmp_path):
    graph = filled_graph(seed=size, size=size)
    onnx.save(graph, tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    model = alexnet_tf.build_model(variant, include_preprocessing=False)
    report = weights.load_onnx(model, tmp_path / "net.onnx")
    assert len(report.tensors) == 16
    assert report.modelling == ()

    image = np.random.default_rng(5).normal(0, 60, (1, size, size, 3)).astype(np.float32)
    expected = session.run([POOL5, FC7_RELU, PROB], {"data_0": image.transpose(0, 3, 1, 2)})
    outputs = [model.get_layer(name).output for name in ("pool5", "relu7", "prob")]
    pool5, fc7, prob = (np.asarray(y) for y in keras.Model(model.input, outputs)(image))
    expected_pool5 = expected[0].transpose(0, 2, 3, 1)
    assert np.abs(pool5 - expected_pool5).max() <= 2e-5 * np.abs(expected_pool5).max()
    assert np.abs(fc7 - expected[1]).max() <= 2e-5 * np.abs(expected[1]).max()
    assert np.abs(prob - expected[2]).max() <= 1e-5
    # The comparison means something only if the image matters to the answer.
    assert prob.max() > 0.01


def test_caffes_weights_fit_the_papers_network_but_for_its_norms(zoo_file):
    """Into `alexnet`, with RGB input and dropout scaled at test: conv1 and the dense layers "
    "agree."""
    caffe = alexnet_tf.build_model("alexnet_caffe", weights=zoo_file)
    paper = alexnet_tf.AlexNet(
        input_shape=(227, 227, 3),
        include_preprocessing=alexnet_tf.models.PixelNormalization(
            caffe.get_layer("preprocessing").mean
        ),
    )
    report = weights.load(paper, zoo_file)
    assert any("norm" in difference and "k 2" in difference for difference in report.modelling)
    assert any("reversed" in c for c in report.conversions)
    image = np.random.default_rng(1).uniform(0, 255, (1, 227, 227, 3)).astype(np.float32)

    def outputs(model, start, end, x):
        return np.asarray(keras.Model(model.get_layer(start).output, end)(x))

    ours = keras.Model(paper.input, paper.get_layer("conv1").output)(image)
    theirs = keras.Model(caffe.input, caffe.get_layer("conv1").output)(image)
    # At 227 the paper's windows end where Caffe's do. The maps reach some 400.
    np.testing.assert_allclose(ours, theirs, atol=1e-3, rtol=1e-5)
    maps = np.abs(np.random.default_rng(2).normal(0, 1, (1, 6, 6, 256))).astype(np.float32)
    np.testing.assert_allclose(
        outputs(paper, "pool5", paper.output, maps),
        outputs(caffe, "pool5", caffe.output, maps),
        atol=1e-6,
    )


def test_the_command_writes_a_model_that_loads(zoo_file, tmp_path, capsys):
    output = tmp_path / "alexnet_onnx.keras"
    code = import_weights.main(
        [f"--source={zoo_file}", "--model=alexnet_onnx", f"--output={output}", "--allow_random"]
    )
    assert code == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == [output.name, output.name + ".json"]
    printed = capsys.readouterr().out
    assert "16 tensors" in printed and "none: the same function" in printed
    model = alexnet_tf.load_model(output)
    kernel = onnx.numpy_helper.to_array(
        next(t for t in onnx.load(zoo_file).graph.initializer if t.name == "conv4_w_0")
    )
    np.testing.assert_array_equal(
        model.get_layer("conv4").kernel.numpy(), kernel.transpose(2, 3, 1, 0)
    )


def damaged(model, how):
    tensors = {t.name: t for t in model.graph.initializer}
    if how == "missing":
        model.graph.initializer.remove(tensors["fc7_w_0"])
    elif how == "nan":
        value = onnx.numpy_helper.to_array(tensors["conv3_b_0"]).copy()
        value[7] = np.nan
        tensors["conv3_b_0"].CopyFrom(onnx.numpy_helper.from_array(value, "conv3_b_0"))
    elif how == "shape":
        value = np.zeros((999, 4096), np.float32)
        tensors["fc8_w_0"].CopyFrom(onnx.numpy_helper.from_array(value, "fc8_w_0"))
    elif how == "extra":
        extra = onnx.numpy_helper.from_array(np.zeros((3, 3), np.float32), "left_over")
        model.graph.initializer.append(extra)
    elif how == "short":
        tensors["fc6_b_0"].raw_data = tensors["fc6_b_0"].raw_data[:-8]
    elif how == "other network":
        model.graph.node.remove(next(n for n in model.graph.node if n.op_type == "Conv"))
    return model.SerializeToString()


@pytest.mark.parametrize(
    "how, words",
    [
        ("missing", ["lacks the tensor fc7_w_0", "fc7"]),
        ("nan", ["conv3_b_0", "1 numbers that are not finite"]),
        ("shape", ["fc8_w_0", "(999, 4096)", "(1000, 4096)"]),
        ("extra", ["extra tensor left_over", "(3, 3)"]),
        ("short", ["fc6_b_0", "damaged"]),
        ("other network", ["4 convolutions and 3 dense"]),
    ],
)
def test_a_bad_file_is_refused_with_the_tensors_name(zoo_file, shared_model, tmp_path, how, words):
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(damaged(onnx.load(zoo_file), how))
    with pytest.raises(ValueError) as error:
        weights.load(shared_model, bad)
    assert all(word in str(error.value) for word in words), error.value


def test_the_command_writes_nothing_for_a_bad_file(zoo_file, tmp_path, capsys):
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(damaged(onnx.load(zoo_file), "nan"))
    code = import_weights.main(
        [f"--source={bad}", "--model=alexnet_onnx", f"--output={tmp_path}/out.keras"]
    )
    message = capsys.readouterr().err
    assert code == 1
    assert "conv3_b_0" in message and message.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["bad.onnx"]


@pytest.mark.parametrize("content", [b"", b"\x08\x03", b"no graph at all", None])
def test_a_truncated_or_foreign_file_is_refused(zoo_file, shared_model, tmp_path, content):
    bad = tmp_path / "bad.onnx"
    if content is None:
        content = pathlib.Path(zoo_file).read_bytes()[:-1000]
    bad.write_bytes(content)
    before = shared_model.get_layer("fc8").kernel.numpy().copy()
    with pytest.raises(ValueError, match="truncated"):
        weights.load(shared_model, bad)
    np.testing.assert_array_equal(shared_model.get_layer("fc8").kernel.numpy(), before)


@pytest.mark.parametrize(
    "flags, words",
    [
        ([], "--source is missing"),
        (["--source=a.onnx", "--model=alexnet_9", "--output=b.keras"], "--model is 'alexnet_9'"),
        (["--source=a.onnx", "--model=alexnet", "--output=b.h5"], "ends in .keras"),
    ],
)
def test_a_wrong_flag_is_a_usage_error(flags, words, capsys):
    assert import_weights.main(flags) == 2
    assert words in capsys.readouterr().err
