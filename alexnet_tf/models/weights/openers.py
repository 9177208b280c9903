"""Opens files of other programs as a `Source`, recognised by name.

PyTorch, safetensors and ONNX are in `sources`; this module has the older formats: Caffe,
MatConvNet, caffe-tensorflow's dictionary of arrays and TensorFlow 1 checkpoints.
"""

import dataclasses
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from alexnet_tf.models.weights import (
    caffe_files,
    checkpoints,
    graphs,
    matlab_files,
    numpy_files,
    sources,
)
from alexnet_tf.models.weights.sources import Source, SourceTensor
from alexnet_tf.models.weights.stored import StoredTensor, of_numbers

SUFFIXES = (
    *(".onnx", ".pth", ".pt", ".pth.tar", ".safetensors"),
    *(".caffemodel", ".mat", ".npy", "a checkpoint as model.ckpt-1000"),
)
_CONVOLUTIONS = tuple(f"conv{n}" for n in range(1, 6))
_DENSE = ("fc6", "fc7", "fc8")
_NOT_SAID = (
    "the file does not say what its network does to pixels: taken to be {what}; if it was trained "
    "otherwise, its answers are wrong"
)


def open_source(path: str | os.PathLike) -> Source:
    """Opens a file of another program, recognised by its name.

    Args:
      path: `.onnx`, `.safetensors`, one of PyTorch's (`.pth`, `.pt`, `.pth.tar`, `.tar`),
        `.caffemodel`, MatConvNet's `.mat`, a dictionary of arrays `.npy`, or a checkpoint of
        TensorFlow 1 (`model.ckpt-1000`, with or without .index).

    Raises:
      ValueError: another suffix, a damaged file, or not an AlexNet.
    """
    path = os.fspath(path)
    if path.endswith(".onnx"):
        return sources.open_onnx(path)
    if path.endswith(".safetensors"):
        return sources.open_safetensors(path)
    if path.endswith((".pth", ".pt", ".tar")):
        return sources.open_torch(path)
    if path.endswith(".caffemodel"):
        return open_caffe(path)
    if path.endswith(".mat"):
        return open_matconvnet(path)
    if path.endswith(".npy"):
        return open_numpy(path)
    if checkpoints.is_checkpoint(path):
        return open_checkpoint(path)
    raise ValueError(
        f"{path} has no known suffix: expected {', '.join(SUFFIXES)}, .keras or .weights.h5."
    )


def open_caffe(path: str) -> Source:
    """Opens a `.caffemodel`: its convolutions and dense layers in order, whatever their names."""
    net = caffe_files.read(path)
    tensors = []
    for names, kind in ((_CONVOLUTIONS, "Convolution"), (_DENSE, "InnerProduct")):
        layers = net.with_weights(kind)
        _require_count(len(layers), names, path)
        for ours, layer in zip(names, layers, strict=True):
            for role, blob in zip(("kernel", "bias"), layer.blobs, strict=True):
                tensors.append(SourceTensor(f"{layer.name}/{role}", ours, role, blob))
    return Source(path, tuple(tensors), "caffe", net.steps)


def open_matconvnet(path: str) -> Source:
    """Opens MatConvNet's `.mat` file, whose dense layers are convolutions over the whole map."""
    net = matlab_files.read(path)
    names = (*_CONVOLUTIONS, *_DENSE)
    _require_count(len(net.arrays), names, path)
    tensors = []
    titles = [layer.get("name", "") for layer in net.layers if layer["type"] == "conv"]
    for ours, title, (filters, biases) in zip(names, titles, net.arrays, strict=True):
        name = title or ours
        kernel = of_numbers(filters)
        kernel = _dense_of_maps(kernel) if ours in _DENSE else _convolution(kernel)
        tensors.append(SourceTensor(f"{name}/filters", ours, "kernel", kernel))
        tensors.append(SourceTensor(f"{name}/biases", ours, "bias", of_numbers(biases)))
    return Source(
        path,
        tuple(tensors),
        "matconvnet",
        tuple(_mat_steps(net)),
        mean=net.average,
        class_names=net.classes or None,
    )


def open_numpy(path: str) -> Source:
    """Opens a dictionary of arrays like bvlc_alexnet.npy: Caffe's network, TensorFlow's layout."""
    content = numpy_files.read(path)
    parts = {"weights": "kernel", "biases": "bias"}
    found = {}
    for name, stored in content.items():
        layer, _, part = name.rpartition("/")
        found[layer, parts[part]] = (name, stored)
    tensors = _of_tensorflow(found, path)
    dense = _dense_shapes(tensors)
    note = _NOT_SAID.format(what="BGR minus a mean, as Caffe's AlexNet")
    return Source(path, tensors, "caffe", tuple(graphs.caffe_steps(dense)), notes=(note,))


def open_checkpoint(path: str) -> Source:
    """Opens a TensorFlow 1 checkpoint: two groups as in Caffe, or TF-Slim's single tower."""
    tensors = _of_tensorflow(checkpoints.read(path), path)
    shapes = {(t.layer, t.role): t.stored.shape for t in tensors}
    grouped = shapes["conv2", "kernel"][1] * 2 == shapes["conv1", "kernel"][0]
    convention = "caffe" if grouped else "slim"
    dense = _dense_shapes(tensors)
    steps = graphs.caffe_steps(dense) if grouped else graphs.slim_steps(dense)
    what = "BGR minus a mean, as Caffe's AlexNet" if grouped else "RGB minus a mean"
    note = _NOT_SAID.format(what=what)
    return Source(path, tensors, convention, tuple(steps), notes=(note,))


def _require_count(count: int, names: Sequence[str], path: str) -> None:
    if count != len(names):
        raise ValueError(
            f"{path} has {count} layers where an AlexNet has {len(names)}, {names[0]} to "
            f"{names[-1]}: expected an AlexNet."
        )


def _of_tensorflow(
    found: Mapping[tuple[str, str], tuple[str, StoredTensor]], path: str
) -> tuple[SourceTensor, ...]:
    """Kernels (kh, kw, I, O) and (I, O), the first dense one over h, w, c, in PyTorch's layout."""
    wanted = [(layer, role) for layer in (*_CONVOLUTIONS, *_DENSE) for role in ("kernel", "bias")]
    for layer, role in wanted:
        if (layer, role) not in found:
            raise ValueError(f"{path} lacks the {role} of {layer}: expected an AlexNet.")
    for place, (name, stored) in found.items():
        if place not in wanted:
            raise ValueError(
                f"{path} has an extra tensor {name:.60} of shape {stored.shape}: expected only "
                f"{_CONVOLUTIONS[0]} to {_DENSE[-1]} of an AlexNet."
            )
    maps = found["conv5", "kernel"][1].shape[-1:]
    tensors = []
    for layer, role in wanted:
        name, stored = found[layer, role]
        rank = len(stored.shape)
        if role == "kernel":
            if rank not in (2, 4) or (layer in _CONVOLUTIONS and rank != 4):
                raise ValueError(f"{name} in {path} has shape {stored.shape}: no kernel has.")
            if layer in _CONVOLUTIONS:
                stored = _convolution(stored)
            elif rank == 4:
                stored = _dense_of_maps(stored)
            else:
                stored = _dense(stored, maps[0] if layer == "fc6" and maps else 1, name, path)
        tensors.append(SourceTensor(name, layer, role, stored))
    return tuple(tensors)


def _convolution(stored: StoredTensor) -> StoredTensor:
    """(kh, kw, I, O) as (O, I, kh, kw)."""
    h, w, i, o = stored.shape
    return _arranged(stored, (o, i, h, w), lambda values: values.transpose(3, 2, 0, 1))


def _dense_of_maps(stored: StoredTensor) -> StoredTensor:
    """A convolution over a whole map, (h, w, c, O), as (O, c h w)."""
    h, w, c, o = stored.shape
    return _arranged(
        stored, (o, c * h * w), lambda values: values.transpose(3, 2, 0, 1).reshape(o, -1)
    )


def _dense(stored: StoredTensor, maps: int, name: str, path: str) -> StoredTensor:
    """(h w c, O) as (O, c h w), where c is the number of maps."""
    inputs, outputs = stored.shape
    side = math.isqrt(inputs // maps) if maps else 0
    if maps > 1 and side * side * maps == inputs:
        return _arranged(
            stored,
            (outputs, inputs),
            lambda values: (
                values.reshape(side, side, maps, outputs).transpose(3, 2, 0, 1).reshape(outputs, -1)
            ),
        )
    if maps > 1:
        raise ValueError(
            f"{name} in {path} has {inputs} inputs, which are no square of {maps} maps: expected "
            "an AlexNet."
        )
    return _arranged(stored, (outputs, inputs), lambda values: values.T)


def _arranged(
    stored: StoredTensor, shape: tuple[int, ...], arrange: Callable[[np.ndarray], np.ndarray]
) -> StoredTensor:
    """The tensor in another axis order, permuted when it is read."""

    def read(first: int, count: int) -> bytes:
        values = arrange(stored.read())
        return np.ascontiguousarray(values).tobytes()[first : first + count]

    dtype = "float32" if stored.dtype == "bfloat16" else stored.dtype
    return dataclasses.replace(StoredTensor(shape, dtype, read), byte_order=stored.byte_order)


def _dense_shapes(tensors: Iterable[SourceTensor]) -> list[tuple[int, ...]]:
    """(inputs, outputs) of the dense layers."""
    return [
        tensor.stored.shape[::-1]
        for tensor in tensors
        if tensor.layer in _DENSE and tensor.role == "kernel"
    ]


def _mat_steps(net: matlab_files.MatNet) -> list[str]:
    side = net.average.shape[0] if net.average is not None and net.average.ndim == 3 else 227
    steps = [graphs.images_step((side, side))]
    arrays = iter(net.arrays)
    channels, convolutions = 3, 0
    for layer in net.layers:
        kind = layer["type"]
        if kind == "conv":
            h, w, i, o = next(arrays)[0].shape
            convolutions += 1
            if convolutions > len(_CONVOLUTIONS):
                steps.append(graphs.dense_step((h * w * i, o)))
            else:
                top, bottom, left, right = _four(layer.get("pad"))
                stride = int((layer.get("stride") or [1])[0])
                groups = channels // i if i else 1
                steps.append(
                    graphs.conv_step((h, w), (stride,), (top, left, bottom, right), groups)
                )
            channels = o
        elif kind == "relu":
            steps.append("ReLU")
        elif kind in ("normalize", "lrn"):
            size, k, coefficient, beta = (layer.get("param") or [5, 1, 0, 0])[:4]
            steps.append(graphs.norm_step(int(size), coefficient, beta, k, 1))
        elif kind == "pool":
            size = [int(n) for n in (layer.get("pool") or [0])]
            pads = _four(layer.get("pad"))
            step = graphs.pool_step((size[0], size[-1]), (int((layer.get("stride") or [1])[0]),))
            # This format expresses rounding up by a pad at the end.
            steps.append(step + (graphs.UP if pads[1] or pads[3] else graphs.DOWN))
        elif kind not in ("softmax", "softmaxloss", "dropout", "loss"):
            steps.append(f"a layer of type {kind:.40}")
    return steps


def _four(numbers: Sequence[float] | None) -> tuple[int, int, int, int]:
    """MatConvNet's pads as top, bottom, left, right."""
    given = [int(n) for n in numbers or (0,)]
    if len(given) == 1:
        given *= 4
    elif len(given) == 2:
        given = [given[0], given[0], given[1], given[1]]
    return tuple((given + [0] * 4)[:4])  # type: ignore[return-value]
