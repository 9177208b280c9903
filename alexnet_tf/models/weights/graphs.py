"""Describes the operations of networks, for comparison.

A network becomes a list of steps such as "conv 11x11, stride 4, pads 0 0 0 0, groups 1"; pads are
top, left, bottom, right. Two networks with equal lists and equal weights are the same function.
Dropout is the identity at test and is left out.
"""

import difflib
from collections.abc import Sequence

import keras

from alexnet_tf.models import layers
from alexnet_tf.models.weights.onnx_files import attribute

UP, DOWN = ", rounded up", ", rounded down"
_NO_PADDING = ((0, 0), (0, 0))
_NORM = "response normalisation"


def model_steps(model: keras.Model) -> list[str]:
    """The steps of a Keras model of the AlexNet family."""
    steps = [images_step(model.input_shape[1:3])]
    for layer in model.layers:
        if isinstance(layer, layers.GroupedConv2D):
            (top, bottom), (left, right) = layer.explicit_padding or _NO_PADDING
            pads = (top, left, bottom, right)
            steps.append(conv_step(layer.kernel_size, layer.strides, pads, layer.groups))
        elif isinstance(layer, layers.LocalResponseNormalization):
            # For "mean" the coefficient on the plain sum is alpha / size.
            divisor = layer.size if layer.alpha_convention == "mean" else 1
            steps.append(
                norm_step(layer.size, layer.alpha / divisor, layer.beta, layer.k, layer.groups)
            )
        elif isinstance(layer, layers.SpatialResponseNormalization):
            steps.append(f"spatial response normalisation over {layer.size}x{layer.size}")
        elif isinstance(layer, keras.layers.MaxPooling2D):
            step = pool_step(layer.pool_size, layer.strides)
            sizes = zip(layer.input.shape[1:3], layer.pool_size, layer.strides, strict=True)
            if any((n - size) % stride for n, size, stride in sizes):
                step += UP if isinstance(layer, layers.CeilMaxPooling2D) else DOWN
            steps.append(step)
        elif isinstance(layer, keras.layers.ReLU):
            steps.append("ReLU")
        elif isinstance(layer, keras.layers.Dense | layers.GroupedDense):
            steps.append(dense_step(layer.kernel.shape[-2:], getattr(layer, "groups", 1)))
    return steps


def torch_steps(dense: Sequence[tuple[int, ...]]) -> list[str]:
    """The steps of torchvision's AlexNet on images of 224.

    Args:
      dense: (inputs, outputs) of each of its dense layers.
    """
    convolutions = (
        conv_step((11, 11), (4, 4), (2, 2, 2, 2), 1),
        conv_step((5, 5), (1, 1), (2, 2, 2, 2), 1),
        *[conv_step((3, 3), (1, 1), (1, 1, 1, 1), 1)] * 3,
    )
    pool = pool_step((3, 3), (2, 2)) + DOWN
    steps = [images_step((224, 224))]
    for index, convolution in enumerate(convolutions):
        steps += [convolution, "ReLU", *([pool] if index in (0, 1, 4) else [])]
    return [*steps, *_dense_steps(dense)]


def caffe_steps(dense: Sequence[tuple[int, ...]]) -> list[str]:
    """The steps of Caffe's AlexNet on images of 227. dense: as for `torch_steps`."""
    same = {kernel: (kernel // 2,) * 4 for kernel in (3, 5)}
    norm = norm_step(5, 1e-4 / 5, 0.75, 1.0, 1)
    pool = pool_step((3, 3), (2, 2)) + UP
    steps = [images_step((227, 227)), conv_step((11, 11), (4,), (0,) * 4, 1), "ReLU", norm, pool]
    steps += [conv_step((5, 5), (1,), same[5], 2), "ReLU", norm, pool]
    for groups in (1, 2, 2):
        steps += [conv_step((3, 3), (1,), same[3], groups), "ReLU"]
    return [*steps, pool, *_dense_steps(dense)]


def slim_steps(dense: Sequence[tuple[int, ...]]) -> list[str]:
    """The steps of TF-Slim's alexnet_v2 on images of 224. dense: as for `torch_steps`."""
    pool = pool_step((3, 3), (2, 2)) + DOWN
    steps = [images_step((224, 224)), conv_step((11, 11), (4,), (0,) * 4, 1), "ReLU", pool]
    steps += [conv_step((5, 5), (1,), (2,) * 4, 1), "ReLU", pool]
    steps += [conv_step((3, 3), (1,), (1,) * 4, 1), "ReLU"] * 3
    return [*steps, pool, *_dense_steps(dense)]


def _dense_steps(dense: Sequence[tuple[int, ...]]) -> list[str]:
    steps = [step for shape in dense for step in (dense_step(shape), "ReLU")]
    return steps[:-1]


def graph_steps(graph, path) -> list[str]:
    """The steps of an `onnx.GraphProto`.

    Raises:
      ValueError: an operation that no AlexNet has.
    """
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    images = next((i for i in graph.input if i.name not in shapes), None)
    if images is None:
        raise ValueError(f"The graph in {path} has no input: expected an AlexNet, of images.")
    steps = [images_step([d.dim_value for d in images.type.tensor_type.shape.dim][2:])]
    for node in graph.node:
        if node.op_type == "Conv":
            shape = shapes.get(node.input[1], (0, 0, 0, 0))
            kernel = attribute(node, "kernel_shape", shape[2:])
            strides = attribute(node, "strides", (1, 1))
            pads = attribute(node, "pads", (0, 0, 0, 0))
            steps.append(conv_step(kernel, strides, pads, attribute(node, "group", 1)))
        elif node.op_type == "LRN":
            size = _required(node, "size", path)
            alpha, beta = attribute(node, "alpha", 1e-4), attribute(node, "beta", 0.75)
            # ONNX divides alpha by the size.
            steps.append(norm_step(size, alpha / size, beta, attribute(node, "bias", 1.0), 1))
        elif node.op_type == "MaxPool":
            pads = attribute(node, "pads", (0, 0, 0, 0))
            kernel = _required(node, "kernel_shape", path)
            step = pool_step(kernel, attribute(node, "strides", (1, 1)))
            # Older versions of the format express rounding up by a pad at the end.
            up = attribute(node, "ceil_mode", 0) or (pads[:2] == (0, 0) and any(pads[2:]))
            steps.append(step + (UP if up else DOWN))
        elif node.op_type == "Relu":
            steps.append("ReLU")
        elif node.op_type == "Gemm":
            shape = shapes.get(node.input[1], (0, 0))
            steps.append(dense_step(shape[::-1] if attribute(node, "transB", 0) else shape))
        elif node.op_type not in _SILENT and not _is_identity(node):
            raise ValueError(
                f"The graph in {path} has an operation {node.op_type}: expected an AlexNet, of "
                "Conv, Relu, LRN, MaxPool and Gemm."
            )
    return steps


def is_norm(step: str) -> bool:
    """Whether a step is a response normalisation."""
    return step.startswith(_NORM)


def _required(node, name, path):
    value = attribute(node, name)
    if not value:
        raise ValueError(f"A {node.op_type} in {path} has no {name}: the file is damaged.")
    return value


def _is_identity(node) -> bool:
    """Whether a node averages 1x1 windows: torchvision's adaptive pool on 6x6 maps."""
    sizes = (*attribute(node, "kernel_shape", (0,)), *attribute(node, "strides", (1, 1)))
    pads = attribute(node, "pads", (0, 0, 0, 0))
    return node.op_type == "AveragePool" and set(sizes) == {1} and not any(pads)


# Operations that are the identity at test time, only reshape, or end the network.
_SILENT = ("Dropout", "Reshape", "Flatten", "Softmax", "Constant", "ConstantOfShape", "Identity")


def differences(source: Sequence[str], model: Sequence[str]) -> list[str]:
    """Where two lists of steps differ, one sentence per place."""
    source, model = list(source), list(model)
    if source[:1] == [images_step((0, 0))]:
        source[0] = model[0]  # a graph for images of any size
    if len(source) == len(model):
        # Where the model's pools fit exactly, the source's rounding does not matter.
        exact = [a.startswith(b + ", rounded") for a, b in zip(source, model, strict=True)]
        source = [b if e else a for a, b, e in zip(source, model, exact, strict=True)]
    found = []
    matcher = difflib.SequenceMatcher(a=source, b=model, autojunk=False)
    for kind, a0, a1, b0, b1 in matcher.get_opcodes():
        if kind != "equal":
            theirs = "; ".join(source[a0:a1]) or "nothing"
            ours = "; ".join(model[b0:b1]) or "nothing"
            found.append(f"the file's network has {theirs}, the model {ours}")
    return found


def conv_step(kernel, strides, pads, groups) -> str:
    """A convolution; pads are top, left, bottom, right."""
    return f"conv {_by(kernel)}, stride {strides[0]}, pads {_list(pads)}, groups {groups}"


def pool_step(size, strides) -> str:
    """A max pool; a suffix `UP` or `DOWN` says how the number of windows is rounded."""
    return f"max-pool {_by(size)}, stride {strides[0]}"


def images_step(size) -> str:
    """The network's input."""
    return f"images of {_by(size)}"


def norm_step(size, coefficient, beta, k, groups) -> str:
    """A response normalisation; coefficient is on the plain sum of squares."""
    # Six digits: ONNX stores its constants as float32.
    constants = f"coefficient {coefficient:.6g}, beta {beta:.6g}, k {k:.6g}"
    return f"{_NORM} over {size} channels, {constants}, groups {groups}"


def dense_step(shape, groups=1) -> str:
    """A fully connected layer of (inputs, outputs)."""
    return f"dense {shape[0]} to {shape[1]}" + (f" in {groups} columns" if groups > 1 else "")


def _by(size) -> str:
    return "x".join(str(n) for n in size)


def _list(numbers) -> str:
    return " ".join(str(n) for n in numbers)
