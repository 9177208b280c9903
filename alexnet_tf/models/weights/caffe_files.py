"""Reads Caffe's `.caffemodel` files: a serialised NetParameter with its layers' blobs.

Only the few fields that an AlexNet needs are declared for protobuf. A blob's numbers are declared
as bytes: the encoding of packed numbers and bytes is the same, and this avoids a Python object per
number.

Source: BVLC/caffe, src/caffe/proto/caffe.proto.
"""

import dataclasses
import functools
import math
import os
from collections.abc import Sequence
from typing import Any

from alexnet_tf.models.weights import graphs
from alexnet_tf.models.weights.stored import StoredTensor

_OPTIONAL, _REPEATED = 1, 3  # FieldDescriptorProto.Label
_MESSAGE, _BYTES, _STRING = 11, 12, 9  # FieldDescriptorProto.Type
_FLOAT, _INT32, _INT64, _UINT32 = 2, 5, 3, 13
# name -> (number, type, label); a text for the type is another message.
_MESSAGES: dict[str, dict[str, tuple[int, int | str, int]]] = {
    "Shape": {"dim": (1, _INT64, _REPEATED)},
    "Blob": {
        "num": (1, _INT32, _OPTIONAL),
        "channels": (2, _INT32, _OPTIONAL),
        "height": (3, _INT32, _OPTIONAL),
        "width": (4, _INT32, _OPTIONAL),
        "data": (5, _BYTES, _OPTIONAL),  # packed floats
        "shape": (7, "Shape", _OPTIONAL),
        "double_data": (8, _BYTES, _OPTIONAL),  # packed doubles
    },
    "Convolution": {
        "pad": (3, _UINT32, _REPEATED),
        "kernel_size": (4, _UINT32, _REPEATED),
        "group": (5, _UINT32, _OPTIONAL),
        "stride": (6, _UINT32, _REPEATED),
        "pad_h": (9, _UINT32, _OPTIONAL),
        "pad_w": (10, _UINT32, _OPTIONAL),
        "stride_h": (13, _UINT32, _OPTIONAL),
        "dilation": (18, _UINT32, _REPEATED),
    },
    "Norm": {
        "local_size": (1, _UINT32, _OPTIONAL),
        "alpha": (2, _FLOAT, _OPTIONAL),
        "beta": (3, _FLOAT, _OPTIONAL),
        "norm_region": (4, _INT32, _OPTIONAL),
        "k": (5, _FLOAT, _OPTIONAL),
    },
    "Pooling": {
        "pool": (1, _INT32, _OPTIONAL),
        "kernel_size": (2, _UINT32, _OPTIONAL),
        "stride": (3, _UINT32, _OPTIONAL),
        "pad": (4, _UINT32, _OPTIONAL),
    },
    "Transformation": {"crop_size": (3, _UINT32, _OPTIONAL)},
    "Layer": {
        "name": (1, _STRING, _OPTIONAL),
        "type": (2, _STRING, _OPTIONAL),
        "blobs": (7, "Blob", _REPEATED),
        "transform_param": (100, "Transformation", _OPTIONAL),
        "convolution_param": (106, "Convolution", _OPTIONAL),
        "lrn_param": (118, "Norm", _OPTIONAL),
        "pooling_param": (121, "Pooling", _OPTIONAL),
    },
    # V1LayerParameter, in files until 2015 such as the model zoo's; `layer` is from 2013.
    "OldLayer": {
        "layer": (1, _BYTES, _OPTIONAL),
        "name": (4, _STRING, _OPTIONAL),
        "type": (5, _INT32, _OPTIONAL),
        "blobs": (6, "Blob", _REPEATED),
        "convolution_param": (10, "Convolution", _OPTIONAL),
        "lrn_param": (18, "Norm", _OPTIONAL),
        "pooling_param": (19, "Pooling", _OPTIONAL),
        "transform_param": (36, "Transformation", _OPTIONAL),
    },
    "Net": {
        "name": (1, _STRING, _OPTIONAL),
        "layers": (2, "OldLayer", _REPEATED),
        "input_dim": (4, _INT32, _REPEATED),
        "layer": (100, "Layer", _REPEATED),
    },
}
_CONVOLUTION, _DENSE, _NORM, _POOL, _RELU = "Convolution", "InnerProduct", "LRN", "Pooling", "ReLU"
_OLD_TYPES = {4: _CONVOLUTION, 14: _DENSE, 15: _NORM, 17: _POOL, 18: _RELU}
# Layers that read data, compute a loss, are the identity at test, only reshape, or end the net.
_OLD_SILENT = (1, 5, 6, 8, 9, 12, 20, 21, 22, 24, 29, 32, 36)
_SILENT = (
    *("Accuracy", "Data", "Dropout", "DummyData", "Flatten", "HDF5Data", "ImageData", "Input"),
    *("MemoryData", "Silence", "Softmax", "SoftmaxWithLoss", "Split", "WindowData"),
)
_INPUT = 227  # pixels, if the file does not say


@dataclasses.dataclass(frozen=True)
class Layer:
    """A layer. blobs: (kernel, bias) if it has weights."""

    name: str
    type: str
    blobs: tuple[StoredTensor, ...]
    parameters: Any


@dataclasses.dataclass(frozen=True)
class Net:
    """A network in a file. steps: its operations, see `graphs`."""

    name: str
    layers: tuple[Layer, ...]
    steps: tuple[str, ...]

    def with_weights(self, kind: str) -> list[Layer]:
        """Its layers of a type, in order."""
        return [layer for layer in self.layers if layer.type == kind]


def read(path: str | os.PathLike) -> Net:
    """Reads a `.caffemodel`.

    Raises:
      ValueError: a damaged file, one of another kind, or a network with operations that AlexNets
        do not have.
    """
    from google.protobuf import message

    net = _message("Net")()
    with open(path, "rb") as file:
        content = file.read()
    try:
        net.ParseFromString(content)
    except message.DecodeError as error:
        raise ValueError(
            f"{path} cannot be read as a network of Caffe: it is truncated, damaged or of another "
            "kind; expected a .caffemodel."
        ) from error
    del content
    if any(layer.HasField("layer") for layer in net.layers):
        raise ValueError(
            f"{path} is in Caffe's format of 2013: bring it up to date with Caffe's "
            "upgrade_net_proto_binary."
        )
    layers = [_layer(layer, layer.type, path) for layer in net.layer]
    layers += [_old_layer(layer, path) for layer in net.layers]
    layers = [layer for layer in layers if layer.type not in _SILENT]
    if not layers:
        raise ValueError(f"{path} holds no layer: expected a .caffemodel of an AlexNet.")
    crop = [layer.transform_param.crop_size for layer in (*net.layer, *net.layers)]
    side = next(filter(None, [*crop, *net.input_dim[2:3]]), _INPUT)
    return Net(net.name, tuple(layers), tuple(_steps(layers, side, path)))


@functools.cache
def _message(name: str):
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(
        name="alexnet_tf_caffe.proto", package="alexnet_tf_caffe", syntax="proto2"
    )
    for title, fields in _MESSAGES.items():
        described = file.message_type.add(name=title)
        for field, (number, kind, label) in fields.items():
            one = described.field.add(name=field, number=number, label=label)
            if isinstance(kind, str):
                one.type, one.type_name = _MESSAGE, f".{file.package}.{kind}"
            else:
                one.type = kind
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{file.package}.{name}"))


def _layer(layer, kind: str, path) -> Layer:
    known = (_CONVOLUTION, _DENSE, _NORM, _POOL, _RELU, *_SILENT)
    if kind not in known:
        raise ValueError(
            f"The layer {layer.name:.60} of {path} is a {kind:.60}: expected an AlexNet, of "
            "Convolution, ReLU, LRN, Pooling and InnerProduct."
        )
    parameters = {
        _CONVOLUTION: "convolution_param",
        _NORM: "lrn_param",
        _POOL: "pooling_param",
    }.get(kind)
    blobs = tuple(_blob(blob, layer.name, path) for blob in layer.blobs)
    if kind in (_CONVOLUTION, _DENSE):
        if len(blobs) != 2:
            raise ValueError(
                f"The layer {layer.name:.60} of {path} has {len(blobs)} blob(s): expected its "
                "weights and its biases."
            )
        blobs = (_trimmed(blobs[0], 4 if kind == _CONVOLUTION else 2), _trimmed(blobs[1], 1))
    return Layer(layer.name, kind, blobs, getattr(layer, parameters) if parameters else None)


def _old_layer(layer, path) -> Layer:
    kind = _SILENT[0] if layer.type in _OLD_SILENT else _OLD_TYPES.get(layer.type, "")
    return _layer(layer, kind or f"layer of type {layer.type}", path)


def _blob(blob, name, path) -> StoredTensor:
    old = (blob.num, blob.channels, blob.height, blob.width)
    shape = tuple(blob.shape.dim) if blob.HasField("shape") else old
    dtype, content = ("float64", blob.double_data) if blob.double_data else ("float32", blob.data)
    if min(shape, default=0) < 0 or math.prod(shape) * (8 if dtype == "float64" else 4) != len(
        content
    ):
        raise ValueError(
            f"A blob of {name:.60} in {path} has the shape {shape} and {len(content)} bytes: the "
            "file is damaged."
        )
    return StoredTensor(shape, dtype, lambda first, count: content[first : first + count])


def _trimmed(tensor: StoredTensor, rank: int) -> StoredTensor:
    """Removes leading axes of length one of four-axis blobs: (1, 1, O, I) becomes (O, I)."""
    shape = tensor.shape
    while len(shape) > rank and shape[0] == 1:
        shape = shape[1:]
    return dataclasses.replace(tensor, shape=shape)


def _steps(layers: Sequence[Layer], side: int, path) -> list[str]:
    steps = [graphs.images_step((side, side))]
    for layer in layers:
        given = layer.parameters
        if layer.type == _CONVOLUTION:
            if any(n != 1 for n in given.dilation):
                raise ValueError(f"The layer {layer.name:.60} of {path} is dilated: no AlexNet is.")
            pad = next(iter(given.pad), given.pad_h)
            stride = next(iter(given.stride), given.stride_h or 1)
            kernel = layer.blobs[0].shape[2:]
            steps.append(graphs.conv_step(kernel, (stride,), (pad,) * 4, given.group or 1))
        elif layer.type == _RELU:
            steps.append("ReLU")
        elif layer.type == _NORM:
            size = given.local_size or 5
            alpha = given.alpha if given.HasField("alpha") else 1.0
            beta = given.beta if given.HasField("beta") else 0.75
            k = given.k if given.HasField("k") else 1.0
            if given.norm_region:
                steps.append(f"response normalisation within each map, over {size}x{size}")
            else:
                steps.append(graphs.norm_step(size, alpha / size, beta, k, 1))
        elif layer.type == _POOL:
            if given.pool or given.pad:
                steps.append(f"a pool that is no plain max-pool ({layer.name:.60})")
                continue
            size = (given.kernel_size,) * 2
            steps.append(graphs.pool_step(size, (given.stride or 1,)) + graphs.UP)
        elif layer.type == _DENSE:
            steps.append(graphs.dense_step(layer.blobs[0].shape[::-1]))
    return steps
