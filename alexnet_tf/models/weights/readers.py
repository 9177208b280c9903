"""Files of weights to named arrays. Nothing here knows about Keras."""

import contextlib
import dataclasses
import os
import pickle
import struct

import numpy as np

# torchvision's AlexNet numbers the modules of its two Sequentials; the others have no weights.
TORCHVISION_LAYERS = {
    "features.0": "conv1",
    "features.3": "conv2",
    "features.6": "conv3",
    "features.8": "conv4",
    "features.10": "conv5",
    "classifier.1": "fc6",
    "classifier.4": "fc7",
    "classifier.6": "fc8",
}


@dataclasses.dataclass(frozen=True)
class SourceTensor:
    """One tensor of a file. name: as the file calls it. layer, role: where it belongs."""

    name: str
    layer: str
    role: str  # "kernel" or "bias"
    value: np.ndarray


@dataclasses.dataclass(frozen=True)
class OnnxGraph:
    """The tensors of an ONNX graph, and the graph itself (an `onnx.GraphProto`)."""

    tensors: list[SourceTensor]
    proto: object


def read_torch(path) -> dict[str, np.ndarray]:
    """Name -> array from a state dictionary that `torch.save` wrote.

    Raises:
      FileNotFoundError, ValueError: see
      `alexnet_tf.models.weights.load_torch`.
    """
    _check_file(path)
    torch = _module("torch", "torch")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} is damaged or holds more than tensors, and other objects are not unpickled "
            "because they can run code: expected a state dictionary, "
            "torch.save(model.state_dict(), path)."
        ) from error
    # torch.load answers a truncated or foreign file with any of these.
    except (RuntimeError, EOFError, ValueError, KeyError, OSError, struct.error) as error:
        raise ValueError(
            f"{path} cannot be read as a file of PyTorch: it is truncated or of another kind; "
            "expected a state dictionary saved by torch.save."
        ) from error
    # Training scripts wrap the dictionary in a checkpoint.
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not content:
        raise ValueError(
            f"{path} holds a {type(content).__name__}: expected a state dictionary of names and "
            "tensors."
        )
    arrays = {}
    for name, value in content.items():
        if not isinstance(value, torch.Tensor):
            raise ValueError(
                f"{name} in {path} is a {type(value).__name__}: expected a tensor, in a state "
                "dictionary of tensors only."
            )
        # NumPy has no bfloat16; float32 holds every half-width number exactly.
        floating = value.is_floating_point()
        arrays[name.removeprefix("module.")] = (value.float() if floating else value).numpy()
    return arrays


def read_safetensors(path) -> dict[str, np.ndarray]:
    """Name -> array from a `.safetensors` file.

    Raises:
      FileNotFoundError, ValueError: see
        `alexnet_tf.models.weights.load_safetensors`.
    """
    _check_file(path)
    safetensors = _module("safetensors", "torch")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, TypeError, ValueError, OSError) as error:
        raise ValueError(
            f"{path} cannot be read as safetensors ({error}): it is truncated or of another kind."
        ) from error


def by_torchvision_layers(arrays: dict[str, np.ndarray], path) -> list[SourceTensor]:
    """Gives each tensor of torchvision's AlexNet its layer.

    Raises:
      ValueError: a tensor that this network does not have, or lacks.
    """
    roles = {"weight": "kernel", "bias": "bias"}
    names = {
        f"{module}.{suffix}": (layer, role)
        for module, layer in TORCHVISION_LAYERS.items()
        for suffix, role in roles.items()
    }
    for name in arrays:
        if name not in names:
            raise ValueError(
                f"{path} has an extra tensor {name} of shape {arrays[name].shape}: expected only "
                f"the {len(names)} tensors of torchvision's AlexNet, features.0.weight to "
                "classifier.6.bias."
            )
    for name in names:
        if name not in arrays:
            raise ValueError(
                f"{path} lacks the tensor {name}: expected the {len(names)} tensors of "
                "torchvision's AlexNet."
            )
    return [SourceTensor(n, *names[n], value) for n, value in arrays.items()]


def read_onnx(path) -> OnnxGraph:
    """The weights of a graph's convolutions and dense layers, in the graph's order.

    Raises:
      FileNotFoundError, ValueError: see `alexnet_tf.models.weights.load_onnx`.
    """
    _check_file(path)
    onnx = _module("onnx", "onnx")
    from google.protobuf.message import DecodeError

    try:
        graph = onnx.load(path).graph
    except (DecodeError, OSError, ValueError, onnx.checker.ValidationError) as error:
        raise ValueError(
            f"{path} cannot be read as ONNX: it is truncated or of another kind ({error})."
        ) from error
    if not graph.node:
        raise ValueError(f"{path} holds no ONNX graph: it is empty, truncated or of another kind.")
    stored = {tensor.name: tensor for tensor in graph.initializer}
    tensors, used = [], set()
    for layer, node in _onnx_layers(graph, path):
        for role, name in zip(("kernel", "bias"), node.input[1:3], strict=True):
            if name not in stored:
                raise ValueError(
                    f"{path} lacks the tensor {name} of the layer {layer}: expected its values in "
                    "the graph's initialisers."
                )
            with _naming(name, path):
                value = onnx.numpy_helper.to_array(stored[name])
            if role == "kernel" and node.op_type == "Gemm" and not _attribute(node, "transB", 0):
                value = value.T  # stored (I, O): to (O, I), as everywhere else
            tensors.append(SourceTensor(name, layer, role, value))
            used.add(name)
    for name, tensor in stored.items():
        # Shapes for Reshape and the like are whole numbers; every other tensor must have a place.
        if name not in used and tensor.data_type in (
            onnx.TensorProto.FLOAT,
            onnx.TensorProto.FLOAT16,
            onnx.TensorProto.DOUBLE,
        ):
            raise ValueError(
                f"{path} has an extra tensor {name} of shape {tuple(tensor.dims)}, which none of "
                "its convolutions and dense layers uses: expected an AlexNet."
            )
    return OnnxGraph(tensors, graph)


def _onnx_layers(graph, path):
    """(our layer name, node) for each Conv and Gemm: conv1, conv2, ..., then fc6, fc7, ..."""
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    dense = [node for node in graph.node if node.op_type == "Gemm"]
    if (len(convolutions), len(dense)) != (5, 3):
        raise ValueError(
            f"{path} has {len(convolutions)} convolutions and {len(dense)} dense layers (Gemm): "
            "expected the 5 and 3 of AlexNet."
        )
    for node in (*convolutions, *dense):
        if len(node.input) != 3:
            raise ValueError(
                f"The layer {node.name or node.output[0]} in {path} has no bias: expected "
                "AlexNet's layers, which all have one."
            )
        if node.op_type == "Gemm" and any(_attribute(node, n, 1) != 1 for n in ("alpha", "beta")):
            raise ValueError(
                f"The layer {node.name or node.output[0]} in {path} scales its product: expected a "
                "Gemm with alpha and beta of 1."
            )
    names = [f"conv{i}" for i in range(1, 6)] + [f"fc{i}" for i in range(6, 9)]
    return zip(names, (*convolutions, *dense), strict=True)


def _attribute(node, name, default):
    for attribute in node.attribute:
        if attribute.name == name:
            return attribute.f if attribute.type == attribute.FLOAT else attribute.i
    return default


@contextlib.contextmanager
def _naming(name, path):
    try:
        yield
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"The tensor {name} in {path} has fewer or more numbers than its shape says: the file "
            "is damaged."
        ) from error


def _check_file(path):
    if not os.path.isfile(path):
        raise FileNotFoundError(f"There is no file of weights {path}.")


def _module(name, extra):
    try:
        module = __import__(name)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"Reading this file needs the package {name}: pip install 'alexnet-tf[{extra}]'."
        ) from error
    return module
