"""Caffe's, MatConvNet's, caffe-tensorflow's and TensorFlow 1's files of an AlexNet.

No original file was at hand: each is built here from the format's published definition (Caffe's
caffe.proto, MatConvNet's import-caffe.py, caffe-tensorflow's kaffe, TF-Slim's alexnet.py), with the
numbers as their own programs have them, and the answers are compared with PyTorch's arithmetic.
"""

import dataclasses
import pickle

import numpy as np
import pytest
import scipy.io
import tensorflow as tf
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

import alexnet_tf
from alexnet_tf.models import alexnet, catalog, knowledge, spec, weights
from alexnet_tf.models.weights import conversion, matlab_files

SIDE, CLASSES = 99, 7  # 99 gives Caffe's pools something to round up
MAPS = {"conv1": 8, "conv2": 12, "conv3": 10, "conv4": 12, "conv5": 6}


def _small(source, name):
    def narrow(entry):
        if isinstance(entry, spec.Conv):
            return dataclasses.replace(entry, filters=MAPS[entry.name])
        if isinstance(entry, spec.Dense) and entry.units:
            return dataclasses.replace(entry, units=16)
        return entry

    variant = dataclasses.replace(
        source,
        name=name,
        crop_size=SIDE,
        classes=CLASSES,
        features=tuple(map(narrow, source.features)),
        top=tuple(map(narrow, source.top)),
    )
    catalog.add_variant(variant)
    return variant


@pytest.fixture(scope="module")
def small_caffe():
    return _small(alexnet.ALEXNET_CAFFE, "small_caffe")


@pytest.fixture(scope="module")
def small_slim():
    return _small(alexnet.ALEXNET_SLIM, "small_slim")


def _numbers(variant):
    """Layer -> (kernel (O, I / g, kh, kw) or (O, c h w), bias), as Caffe and PyTorch have them."""
    rng = np.random.default_rng(5)
    found, channels, side = {}, 3, SIDE
    for entry in variant.features:
        if isinstance(entry, spec.Conv):
            shape = (entry.filters, channels // entry.groups, entry.kernel, entry.kernel)
            scale = 1.0 / np.sqrt(np.prod(shape[1:])) / (60 if entry.name == "conv1" else 1)
            found[entry.name] = (rng.normal(0, scale, shape), rng.normal(0, 0.1, shape[0]))
            channels = entry.filters
        if hasattr(entry, "output_size"):
            side = entry.output_size(side)
    inputs = channels * side * side
    for name, outputs in (("fc6", 16), ("fc7", 16), ("fc8", CLASSES)):
        scale = 1.0 / np.sqrt(inputs)
        found[name] = (rng.normal(0, scale, (outputs, inputs)), rng.normal(0, 0.1, outputs))
        inputs = outputs
    return {
        name: (kernel.astype(np.float32), bias.astype(np.float32))
        for name, (kernel, bias) in found.items()
    }


@pytest.fixture(scope="module")
def caffe_numbers(small_caffe):
    return _numbers(small_caffe)


@pytest.fixture(scope="module")
def slim_numbers(small_slim):
    return _numbers(small_slim)


@pytest.fixture(scope="module")
def pixels():
    coarse = np.random.default_rng(1).uniform(0, 255, (2, 9, 9, 3)).astype(np.float32)
    return np.kron(coarse, np.ones((1, 11, 11, 1), np.float32))


def _answer(numbers, x, caffe):
    """PyTorch's arithmetic for what the original network takes, x (b, 3, h, w)."""
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    weights_ = {n: tuple(map(torch.from_numpy, pair)) for n, pair in numbers.items()}

    def pool(y):
        return F.max_pool2d(y, 3, 2, ceil_mode=caffe)

    def norm(y):
        return F.local_response_norm(y, 5, 1e-4, 0.75, 1.0) if caffe else y

    groups = 2 if caffe else 1
    y = torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32))
    y = pool(norm(F.relu(F.conv2d(y, *weights_["conv1"], stride=4))))
    y = pool(norm(F.relu(F.conv2d(y, *weights_["conv2"], padding=2, groups=groups))))
    y = F.relu(F.conv2d(y, *weights_["conv3"], padding=1))
    y = F.relu(F.conv2d(y, *weights_["conv4"], padding=1, groups=groups))
    y = pool(F.relu(F.conv2d(y, *weights_["conv5"], padding=1, groups=groups)))
    y = F.relu(F.linear(y.flatten(1), *weights_["fc6"]))
    y = F.relu(F.linear(y, *weights_["fc7"]))
    return F.linear(y, *weights_["fc8"]).softmax(-1).numpy()


def _bgr_minus_mean(pixels):
    return (pixels - np.array(spec.CAFFE.mean, np.float32))[..., ::-1].transpose(0, 3, 1, 2)


@pytest.fixture(scope="module")
def caffe_answer(caffe_numbers, pixels):
    found = _answer(caffe_numbers, _bgr_minus_mean(pixels), caffe=True)
    assert found.max() > 0.2 and np.abs(found[0] - found[1]).max() > 1e-3
    return found


# Caffe ---------------------------------------------------------------------------------------

_P = descriptor_pb2.FieldDescriptorProto
_TYPES = {"int32": _P.TYPE_INT32, "uint32": _P.TYPE_UINT32, "int64": _P.TYPE_INT64}
_TYPES |= {"float": _P.TYPE_FLOAT, "double": _P.TYPE_DOUBLE, "string": _P.TYPE_STRING}
# caffe.proto's own lines, as far as these networks need them. "packed" is [packed = true] there.
_PROTO = {
    "BlobShape": "repeated int64 dim = 1 packed",
    "BlobProto": (
        "optional int32 num = 1; optional int32 channels = 2; optional int32 height = 3;"
        "optional int32 width = 4; repeated float data = 5 packed; optional BlobShape shape = 7;"
        "repeated double double_data = 8 packed"
    ),
    "ConvolutionParameter": (
        "optional uint32 num_output = 1; repeated uint32 pad = 3; repeated uint32 kernel_size = 4;"
        "optional uint32 group = 5; repeated uint32 stride = 6"
    ),
    "InnerProductParameter": "optional uint32 num_output = 1",
    "LRNParameter": (
        "optional uint32 local_size = 1; optional float alpha = 2; optional float beta = 3"
    ),
    "PoolingParameter": (
        "optional int32 pool = 1; optional uint32 kernel_size = 2; optional uint32 stride = 3"
    ),
    "TransformationParameter": "optional uint32 crop_size = 3",
    "LayerParameter": (
        "optional string name = 1; optional string type = 2; repeated string bottom = 3;"
        "repeated string top = 4; repeated BlobProto blobs = 7;"
        "optional TransformationParameter transform_param = 100;"
        "optional ConvolutionParameter convolution_param = 106;"
        "optional InnerProductParameter inner_product_param = 117;"
        "optional LRNParameter lrn_param = 118; optional PoolingParameter pooling_param = 121"
    ),
    "V1LayerParameter": (
        "repeated string bottom = 2; repeated string top = 3; optional string name = 4;"
        "optional int32 type = 5; repeated BlobProto blobs = 6;"
        "optional ConvolutionParameter convolution_param = 10;"
        "optional InnerProductParameter inner_product_param = 17;"
        "optional LRNParameter lrn_param = 18; optional PoolingParameter pooling_param = 19;"
        "optional TransformationParameter transform_param = 36"
    ),
    "NetParameter": (
        "optional string name = 1; repeated V1LayerParameter layers = 2;"
        "repeated LayerParameter layer = 100"
    ),
}


def _net_parameter():
    file = descriptor_pb2.FileDescriptorProto(name="caffe.proto", package="caffe", syntax="proto2")
    for title, lines in _PROTO.items():
        message = file.message_type.add(name=title)
        for line in lines.split(";"):
            label, kind, name, _, number, *packed = line.split()
            field = message.field.add(name=name, number=int(number))
            field.label = _P.LABEL_REPEATED if label == "repeated" else _P.LABEL_OPTIONAL
            if kind in _TYPES:
                field.type = _TYPES[kind]
                field.options.packed = bool(packed)
            else:
                field.type, field.type_name = _P.TYPE_MESSAGE, f".caffe.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("caffe.NetParameter"))()


_V1 = {"Convolution": 4, "Data": 5, "Dropout": 6, "InnerProduct": 14, "LRN": 15, "Pooling": 17}
_V1 |= {"ReLU": 18, "SoftmaxWithLoss": 21}


def _caffemodel(variant, numbers, path, old, double=False, head="fc8"):
    net = _net_parameter()
    net.name = "AlexNet"

    def add(name, kind):
        layer = (net.layers if old else net.layer).add(name=name)
        layer.type = _V1[kind] if old else kind
        return layer

    add("data", "Data").transform_param.crop_size = SIDE
    for entry in (*variant.features, *variant.top):
        name = head if entry.name == "fc8" else entry.name
        if isinstance(entry, spec.Conv):
            layer = add(name, "Convolution")
            about = layer.convolution_param
            about.num_output, about.group = entry.filters, entry.groups
            about.kernel_size.append(entry.kernel)
            about.stride.append(entry.stride)
            about.pad.append(0 if entry.pad == "valid" else entry.pad[0][0])
        elif isinstance(entry, spec.Dense):
            layer = add(name, "InnerProduct")
        elif isinstance(entry, spec.Norm):
            about = add(name, "LRN").lrn_param
            about.local_size, about.alpha, about.beta = 5, 1e-4, 0.75
            continue
        elif isinstance(entry, spec.Pool):
            about = add(name, "Pooling").pooling_param
            about.kernel_size, about.stride = 3, 2
            continue
        else:
            kinds = {spec.Relu: "ReLU", spec.Drop: "Dropout"}
            if type(entry) in kinds:
                add(name, kinds[type(entry)])
            continue
        for value in numbers[entry.name]:
            blob = layer.blobs.add()
            if old:  # four axes, with ones in front
                shape = (1,) * (4 - value.ndim) + value.shape
                blob.num, blob.channels, blob.height, blob.width = shape
            else:
                blob.shape.dim.extend(value.shape)
            (blob.double_data if double else blob.data).extend(value.ravel().tolist())
    add("loss", "SoftmaxWithLoss")
    path.write_bytes(net.SerializeToString())
    return path


@pytest.mark.parametrize("old", [False, True], ids=["layer", "V1LayerParameter"])
def test_a_caffemodel_gives_the_networks_answers(
    small_caffe, caffe_numbers, caffe_answer, pixels, tmp_path, old
):
    path = _caffemodel(small_caffe, caffe_numbers, tmp_path / "net.caffemodel", old)
    model = alexnet_tf.build_model("small_caffe")
    report = weights.load_caffe(model, path)
    np.testing.assert_allclose(model(pixels), caffe_answer, atol=1e-5)
    # The file holds what its network computes: it is the same.
    assert report.modelling == () and report.convention == "caffe"
    assert len(report.tensors) == 16 and report.tensors[0][0] == "conv1/kernel"
    caffenet = _small(alexnet.CAFFENET, "small_caffenet")
    report = weights.load_caffe(alexnet_tf.build_model(caffenet.name), path)
    assert any("max-pool 3x3" in line for line in report.modelling)  # on the norm's other side


def test_a_finetuned_caffemodel_with_another_head(small_caffe, caffe_numbers, tmp_path):
    path = _caffemodel(
        small_caffe, caffe_numbers, tmp_path / "flickr.caffemodel", False, True, "fc8_flickr"
    )
    report = conversion.convert(path, "small_caffe", tmp_path / "a.keras")
    assert ("fc8_flickr/kernel", "fc8", (CLASSES, 16)) in report.tensors


def test_damaged_caffemodels_are_one_sentence(small_caffe, caffe_numbers, tmp_path):
    path = _caffemodel(small_caffe, caffe_numbers, tmp_path / "net.caffemodel", True)
    content = path.read_bytes()
    net = _net_parameter()
    net.ParseFromString(content)
    net.layers[1].blobs[0].num = 900
    other = _net_parameter()
    other.layer.add(name="bn", type="BatchNorm")
    for changed, words in [
        (content[: len(content) // 2], "truncated, damaged or of another kind"),
        (b"", "holds no layer"),
        (b"no network at all", "truncated, damaged or of another kind"),
        (net.SerializeToString(), r"A blob of conv1 .* has the shape \(900, 3, 11, 11\)"),
        (other.SerializeToString(), "layer bn .* is a BatchNorm: expected an AlexNet"),
    ]:
        path.write_bytes(changed)
        with pytest.raises(ValueError, match=words) as error:
            weights.load(alexnet_tf.build_model("small_caffe"), path)
        assert "\n" not in str(error.value)


# MatConvNet ----------------------------------------------------------------------------------


def _mat(numbers, path, meta, mean=None):
    """As import-caffe.py writes it, or (meta) as vl_simplenn_tidy does."""
    mean = np.array(spec.CAFFE.mean, np.float32) if mean is None else mean

    def conv(name, pad, stride):
        kernel, bias = numbers[name]
        if kernel.ndim == 2:
            side = int(np.sqrt(kernel.shape[1] // MAPS["conv5"])) if name == "fc6" else 1
            kernel = kernel.reshape(len(kernel), -1, side, side)
        filters = kernel.transpose(2, 3, 1, 0)
        if name == "conv1":
            filters = filters[:, :, ::-1]  # to RGB
        pair = np.empty((1, 2), object)
        pair[0, 0], pair[0, 1] = filters, bias[None]
        parts = {"weights": pair} if meta else {"filters": filters, "biases": bias[None]}
        numbers_ = {"pad": [float(pad)] * 4, "stride": [float(stride)] * 2}
        return {"type": "conv", "name": name, **parts, **numbers_}

    relu = {"type": "relu", "name": "relu"}
    norm = {"type": "normalize", "name": "norm", "param": [5.0, 1.0, 1e-4 / 5, 0.75]}
    pool = {"type": "pool", "name": "pool", "method": "max", "pool": [3.0, 3.0]}
    pool |= {"stride": [2.0, 2.0], "pad": [0.0, 1.0, 0.0, 1.0]}
    layers = [conv("conv1", 0, 4), relu, norm, pool, conv("conv2", 2, 1), relu, norm, pool]
    for name in ("conv3", "conv4", "conv5"):
        layers += [conv(name, 1, 1), relu]
    layers += [pool, conv("fc6", 0, 1), relu, conv("fc7", 0, 1), relu, conv("fc8", 0, 1)]
    cells = np.empty((1, len(layers) + 1), object)
    cells[0] = [*layers, {"type": "softmax", "name": "prob"}]
    names = np.empty((1, CLASSES), object)
    names[0] = [f"n{n:08d}" for n in range(CLASSES)]
    about = {"normalization": {"averageImage": mean}, "classes": {"name": names}}
    scipy.io.savemat(path, {"layers": cells, **({"meta": about} if meta else about)})
    return path


@pytest.mark.parametrize("meta", [False, True])
def test_a_mat_file_gives_the_networks_answers(
    small_caffe, caffe_numbers, caffe_answer, pixels, tmp_path, meta
):
    path = _mat(caffe_numbers, tmp_path / "imagenet-caffe-alex.mat", meta)
    report = conversion.convert(path, "small_caffe", tmp_path / "a.keras")
    model = alexnet_tf.load_model(tmp_path / "a.keras")
    np.testing.assert_allclose(model(pixels), caffe_answer, atol=1e-5)
    assert report.modelling == (
        f"the file's network has images of 227x227, the model images of {SIDE}x{SIDE}",
    )
    assert "reversed, from RGB to BGR" in report.conversions[0]
    assert knowledge.of(model)["class_names"] == [f"n{n:08d}" for n in range(CLASSES)]


def test_the_mean_image_of_a_mat_file_is_kept(small_caffe, caffe_numbers, pixels, tmp_path):
    mean = np.random.default_rng(2).uniform(90, 130, (SIDE, SIDE, 3)).astype(np.float32)
    path = _mat(caffe_numbers, tmp_path / "net.mat", True, mean)
    report = conversion.convert(path, "small_caffe", tmp_path / "a.keras")
    assert report.modelling == ()
    assert report.preprocessing == (
        "the file's network was trained on images warped to 256x256 and a mean per pixel; this "
        "package keeps their proportions",
    )
    x = (pixels - mean)[..., ::-1].transpose(0, 3, 1, 2)
    found = alexnet_tf.load_model(tmp_path / "a.keras")(pixels)
    np.testing.assert_allclose(found, _answer(caffe_numbers, x, True), atol=1e-5)


def test_a_damaged_mat_file_ends_no_process_but_its_own(small_caffe, caffe_numbers, tmp_path):
    path = _mat(caffe_numbers, tmp_path / "net.mat", True)
    content = path.read_bytes()
    scipy.io.savemat(tmp_path / "other.mat", {"x": np.ones(3)})
    damaged = bytearray(content)
    damaged[200:4000:7] = b"\xff" * len(damaged[200:4000:7])
    for number, changed in enumerate(
        (content[:5000], bytes(damaged), b"no file", (tmp_path / "other.mat").read_bytes())
    ):
        path.write_bytes(changed)
        with pytest.raises(ValueError, match="cannot be read as a network of MatConvNet") as error:
            matlab_files.read(path)
        assert "\n" not in str(error.value), number


# caffe-tensorflow ----------------------------------------------------------------------------


def _tensorflow_layout(numbers, maps, dense4=False):
    """Kernels (kh, kw, I, O), dense ones (I, O) over h, w, c, or as convolutions."""
    found = {}
    for name, (kernel, bias) in numbers.items():
        if kernel.ndim == 4:
            kernel = kernel.transpose(2, 3, 1, 0)
        else:
            side = int(np.sqrt(kernel.shape[1] // maps)) if name == "fc6" else 1
            kernel = kernel.reshape(len(kernel), -1, side, side).transpose(2, 3, 1, 0)
            kernel = kernel if dense4 else kernel.reshape(-1, kernel.shape[-1])
        found[name] = (np.ascontiguousarray(kernel), bias)
    return found


def _npy(content, path, protocol=2):
    """As NumPy of Python 2 saved an object: a header, then a pickle of protocol 2."""
    array = np.empty((), object)
    array[()] = content
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "|O", "fortran_order": False, "shape": ()}
        )
        pickle.dump(array, file, protocol=protocol)
    return path


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("newer", [False, True])
def test_a_dictionary_of_arrays_gives_the_networks_answers(
    small_caffe, caffe_numbers, caffe_answer, pixels, tmp_path, newer, protocol
):
    layout = _tensorflow_layout(caffe_numbers, MAPS["conv5"])
    parts = {
        name: {"weights": pair[0], "biases": pair[1]} if newer else list(pair)
        for name, pair in layout.items()
    }
    path = _npy(parts, tmp_path / "bvlc_alexnet.npy", protocol)
    model = alexnet_tf.build_model("small_caffe")
    report = weights.load_numpy(model, path)
    np.testing.assert_allclose(model(pixels), caffe_answer, atol=1e-5)
    assert any("does not say what its network does to pixels" in n for n in report.preprocessing)


class _Runs:
    def __reduce__(self):
        return (exec, ("raise SystemExit('the pickle ran')",))


def test_a_pickle_that_would_run_code_does_not(small_caffe, tmp_path):
    model = alexnet_tf.build_model("small_caffe")
    for content, words in [
        ({"conv1": _Runs()}, "asks for builtins.exec|asks for __builtin__.exec"),
        ({"conv1": [1, 2]}, "is no array of numbers"),
        ({"conv1": [np.ones(3)]}, "is no pair of weights and biases"),
        ([np.ones(3)], "holds no dictionary"),
        ({"conv1": [np.ones((2, 2, 2, 2)), np.ones(2)]}, "lacks the kernel of conv2"),
    ]:
        with pytest.raises(ValueError, match=words):
            weights.load(model, _npy(content, tmp_path / "a.npy"))
    np.save(tmp_path / "a.npy", np.ones(3))
    with pytest.raises(ValueError, match="expected a file such as bvlc_alexnet"):
        weights.load(model, tmp_path / "a.npy")


# TensorFlow 1 --------------------------------------------------------------------------------


def _checkpoint(variables, prefix):
    """As tf.compat.v1.train.Saver writes it."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        made = [tf.compat.v1.get_variable(n, initializer=v) for n, v in variables.items()]
        session.run(tf.compat.v1.global_variables_initializer())
        return tf.compat.v1.train.Saver(made).save(session, str(prefix), global_step=1000)


def test_slims_checkpoint_gives_the_networks_answers(small_slim, slim_numbers, pixels, tmp_path):
    layout = _tensorflow_layout(slim_numbers, MAPS["conv5"], dense4=True)
    variables = {"global_step": np.int64(1000)}
    for name, (kernel, bias) in layout.items():
        scope = f"alexnet_v2/{name}"
        variables |= {f"{scope}/weights": kernel, f"{scope}/biases": bias}
        variables |= {f"{scope}/weights/Momentum": kernel * 0, f"{scope}/biases/Momentum": bias * 0}
    path = _checkpoint(variables, tmp_path / "model.ckpt")
    assert path.endswith("model.ckpt-1000")
    x = (pixels - np.array(spec.SLIM.mean, np.float32)).transpose(0, 3, 1, 2)
    wanted = _answer(slim_numbers, x, caffe=False)
    for name in (path, f"{path}.index"):
        model = alexnet_tf.build_model("small_slim")
        report = weights.load_checkpoint(model, name)
        np.testing.assert_allclose(model(pixels), wanted, atol=1e-5)
    assert len(report.tensors) == 16 and report.convention == "slim"
    assert report.modelling == (
        f"the file's network has images of 224x224, the model images of {SIDE}x{SIDE}",
    )


@pytest.mark.parametrize("names", [("weights", "biases"), ("kernel", "bias"), ("W", "b")])
def test_a_plain_checkpoint_of_caffes_network(
    small_caffe, caffe_numbers, caffe_answer, pixels, tmp_path, names
):
    layout = _tensorflow_layout(caffe_numbers, MAPS["conv5"])
    variables = {
        f"{name}/{part}": value
        for name, pair in layout.items()
        for part, value in zip(names, pair, strict=True)
    }
    path = _checkpoint(variables, tmp_path / "finetuned.ckpt")
    model = alexnet_tf.build_model("small_caffe", weights=path)
    np.testing.assert_allclose(model(pixels), caffe_answer, atol=1e-5)


def test_other_checkpoints_are_one_sentence(small_slim, slim_numbers, tmp_path):
    model = alexnet_tf.build_model("small_slim")
    layout = _tensorflow_layout(slim_numbers, MAPS["conv5"])
    names = {f"{s}/{n}/weights": p[0] for s in ("a", "b") for n, p in layout.items()}
    path = _checkpoint(names, tmp_path / "two.ckpt")
    with pytest.raises(ValueError, match="two variables for the kernel of conv1"):
        weights.load(model, path)
    path = _checkpoint({"dense/kernel": np.ones((2, 2), np.float32)}, tmp_path / "one.ckpt")
    with pytest.raises(ValueError, match="holds dense/kernel: expected variables of an AlexNet"):
        weights.load(model, path)
    whole = {f"{n}/{part}": v for n, p in layout.items() for part, v in zip("Wb", p, strict=True)}
    lacking = _checkpoint(whole, tmp_path / "lacking.ckpt")
    with open(f"{lacking}.data-00000-of-00001", "r+b") as file:
        file.truncate(100)
    with pytest.raises(ValueError, match=r"cannot be read .*: the file is damaged"):
        weights.load(model, lacking)
    with open(f"{path}.index", "r+b") as file:
        file.truncate(40)
    with pytest.raises(ValueError, match="cannot be read as a checkpoint of TensorFlow"):
        weights.load(model, path)
    with pytest.raises(FileNotFoundError):
        weights.load(model, tmp_path / "none.ckpt-7")
