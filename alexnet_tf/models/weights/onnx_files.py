"""Reads the weights of convolutions and dense layers of ONNX graphs, in the graph's order."""

import importlib
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from alexnet_tf.models.weights.stored import CODES, StoredTensor, file_part

CONVOLUTIONS, DENSE = 5, 3
# Fields of onnx.proto: a model's graph, a graph's initialisers, an initialiser's values.
_GRAPH, _INITIALIZER, _VALUES = 7, 5, (4, 5, 7, 9, 10)
# An exported AlexNet has about 10 kB besides its values; layer annotations can be longer.
_MAX_STRUCTURE = 4 * 2**20
# Number in TensorProto.DataType -> (our name, the field of values that are not raw bytes).
_TYPES = {
    1: ("float32", "float_data"),
    10: ("float16", "int32_data"),
    11: ("float64", "double_data"),
    16: ("bfloat16", "int32_data"),
}


def read(path: str) -> tuple[Any, list[tuple[str, dict[str, tuple[str, StoredTensor]]]]]:
    """Reads the graph, and (our layer, {"kernel" or "bias": (name in the file, tensor)}) per layer.

    Values may be in a separate file beside the graph, as `torch.onnx.export` writes them.

    Args:
      path: path of the graph; a file of values must be in the same directory.

    Returns:
      The `onnx.GraphProto`, and the layers conv1, conv2, ..., then fc6, fc7, ...

    Raises:
      ValueError: a damaged file, or not an AlexNet.
    """
    graph = _graph(path)
    stored = {tensor.name: tensor for tensor in graph.initializer}
    layers, used = [], set()
    for layer, node in _layers(graph, path):
        parts = {}
        for role, name in zip(("kernel", "bias"), node.input[1:3], strict=True):
            if name not in stored:
                raise ValueError(
                    f"{path} lacks the tensor {name} of the layer {layer}: expected its values in "
                    "the graph's initialisers."
                )
            tensor = _stored(stored[name], path)
            if role == "kernel" and node.op_type == "Gemm" and not attribute(node, "transB", 0):
                # (I, O) in the file; (O, I) is used everywhere else.
                steps = tuple(int(np.prod(tensor.shape[i + 1 :])) for i in range(len(tensor.shape)))
                tensor = StoredTensor(
                    tensor.shape[::-1], tensor.dtype, tensor.read_bytes, strides=steps[::-1]
                )
            parts[role] = (name, tensor)
            used.add(name)
        layers.append((layer, parts))
    for name, tensor in stored.items():
        # Shapes for Reshape and similar are integers; every other tensor must belong to a layer.
        if name not in used and tensor.data_type in _TYPES:
            raise ValueError(
                f"{path} has an extra tensor {name} of shape {tuple(tensor.dims)}, which none of "
                "its convolutions and dense layers uses: expected an AlexNet."
            )
    return graph, layers


def attribute(node, name: str, default: Any = None) -> Any:
    """A node's attribute: a number, or a tuple of integers."""
    for found in node.attribute:
        if found.name == name:
            if found.type == found.INTS:
                return tuple(found.ints)
            return found.f if found.type == found.FLOAT else found.i
    return default


def _graph(path):
    try:
        onnx = importlib.import_module("onnx")
    except ModuleNotFoundError as error:
        raise ValueError(
            "Reading this file needs the package onnx: pip install 'alexnet-tf[onnx]'."
        ) from error
    from google.protobuf.message import DecodeError

    with open(path, "rb") as file:
        content = file.read()
    try:
        _require_mostly_values(memoryview(content))
        # Does not load external values: the graph could name any file on this machine.
        graph = onnx.load_model_from_string(content).graph
    except (DecodeError, ValueError) as error:
        raise ValueError(
            f"{path} cannot be read as ONNX: it is truncated or of another kind ({error})."
        ) from error
    if not graph.node:
        raise ValueError(f"{path} holds no ONNX graph: it is empty, truncated or of another kind.")
    return graph


def _require_mostly_values(content: memoryview) -> None:
    """Refuses a graph with more content besides its values than an AlexNet needs.

    Parsed, an empty node of two bytes takes 150: a file of 100 MB could require 8 GB.
    """
    left = _MAX_STRUCTURE
    for number, part in _fields(content):
        for inner, inside in _fields(part) if number == _GRAPH else [(0, part)]:
            for field, value in _fields(inside) if inner == _INITIALIZER else [(0, inside)]:
                left -= 2 + (0 if inner == _INITIALIZER and field in _VALUES else len(value))
                if left < 0:
                    raise ValueError(f"it describes more than {_MAX_STRUCTURE:,} bytes of layers")


def _fields(content: memoryview) -> Iterator[tuple[int, memoryview]]:
    """(number, bytes) of each field of a message in the wire format of protocol buffers."""
    at = 0
    while at < len(content):
        tag, at = _varint(content, at)
        kind, start = tag & 7, at
        if kind == 0:
            _, at = _varint(content, at)
        elif kind == 2:
            length, start = _varint(content, at)
            at = start + length
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            raise ValueError("a field of it is of no kind")
        if at > len(content):
            raise ValueError("a field of it is longer than the file")
        yield tag >> 3, content[start:at]


def _varint(content: memoryview, at: int) -> tuple[int, int]:
    """Decodes a variable-length integer; returns it and the position after it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(content):
            break
        byte = content[at]
        value, at = value | (byte & 127) << shift, at + 1
        if byte < 128:
            return value, at
    raise ValueError("a number of it has no end")


def _layers(graph, path):
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    dense = [node for node in graph.node if node.op_type == "Gemm"]
    if (len(convolutions), len(dense)) != (CONVOLUTIONS, DENSE):
        raise ValueError(
            f"{path} has {len(convolutions)} convolutions and {len(dense)} dense layers (Gemm): "
            f"expected the {CONVOLUTIONS} and {DENSE} of AlexNet."
        )
    for node in (*convolutions, *dense):
        if len(node.input) != 3:
            raise ValueError(
                f"The layer {_name(node)} in {path} has no bias: expected AlexNet's layers, which "
                "all have one."
            )
        if node.op_type == "Gemm" and any(attribute(node, n, 1) != 1 for n in ("alpha", "beta")):
            raise ValueError(
                f"The layer {_name(node)} in {path} scales its product: expected a Gemm with alpha "
                "and beta of 1."
            )
    names = [f"conv{i}" for i in range(1, 6)] + [f"fc{i}" for i in range(6, 9)]
    return zip(names, (*convolutions, *dense), strict=True)


def _name(node) -> str:
    return node.name or (node.output[0] if node.output else node.op_type)


def _stored(tensor, path) -> StoredTensor:
    shape = tuple(tensor.dims)
    if tensor.data_type not in _TYPES or min(shape, default=0) < 0:
        return StoredTensor(shape, f"type {tensor.data_type}", lambda first, count: b"")
    dtype, field = _TYPES[tensor.data_type]
    itemsize = int(CODES[dtype][1])
    result = StoredTensor(shape, dtype, lambda first, count: content[first : first + count])
    if tensor.data_location == tensor.EXTERNAL:
        return _external(tensor, result, path)
    if tensor.HasField("raw_data"):
        content = tensor.raw_data
    else:
        content = np.asarray(getattr(tensor, field)).astype("<" + CODES[dtype]).tobytes()
    if len(content) != result.size * itemsize:
        raise ValueError(
            f"The tensor {tensor.name} in {path} has fewer or more numbers than its shape says: "
            "the file is damaged."
        )
    return result


def _external(tensor, result: StoredTensor, path) -> StoredTensor:
    """The tensor with values in a file beside the graph."""
    told = {entry.key: entry.value for entry in tensor.external_data}
    location = told.get("location", "")
    beside = os.path.join(os.path.dirname(os.path.abspath(path)), location)
    if os.path.basename(location) != location or location in ("", ".", ".."):
        raise ValueError(
            f"The tensor {tensor.name} in {path} is said to be in {location!r}: expected a file "
            "beside the graph."
        )
    if os.path.islink(beside) or not os.path.isfile(beside):
        raise ValueError(
            f"The tensor {tensor.name} in {path} is in the file {location} beside it, which is not "
            "there: put the two into one directory."
        )
    itemsize = int(CODES[result.dtype][1])
    size = os.path.getsize(beside)
    try:
        start = int(told.get("offset", 0))
        length = int(told.get("length", size - start))
    except ValueError:
        start = length = -1
    if min(start, length) < 0 or start + length > size or length != result.size * itemsize:
        raise ValueError(
            f"The tensor {tensor.name} in {path} has fewer or more numbers in {location} than its "
            "shape says: the files are damaged, or not of one export."
        )
    return StoredTensor(result.shape, result.dtype, file_part(beside, start, length))
