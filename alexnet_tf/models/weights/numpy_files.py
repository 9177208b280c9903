"""Reads `bvlc_alexnet.npy`: a dictionary of arrays, pickled by NumPy, as in caffe-tensorflow.

{layer: [weights, biases]}, or {layer: {"weights": ..., "biases": ...}} in its newer versions, with
kernels (kh, kw, I / groups, O) and dense layers (I, O) whose inputs run over h, w, c. The pickle is
read by `pickles`, which runs no code.

Source: ethereon/caffe-tensorflow, kaffe/transformers.py (DataReshaper, ParameterNamer); numpy,
numpy/lib/format.py.
"""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from alexnet_tf import pickles
from alexnet_tf.models.weights.stored import StoredTensor, of_numbers

_PARTS = ("weights", "biases")


def read(path: str | os.PathLike) -> dict[str, StoredTensor]:
    """Reads "LAYER/weights" and "LAYER/biases" -> tensor, as in the file.

    Raises:
      ValueError: a damaged file, one of another kind, or one that tries to run code.
    """
    try:
        content = _unpickled(path)
    except pickles.ForbiddenName as error:
        raise ValueError(
            f"{path} holds more than a dictionary of arrays ({error}), and other objects are not "
            "unpickled because they can run code."
        ) from error
    except (ValueError, EOFError) as error:
        raise ValueError(
            f"{path} cannot be read as a dictionary of arrays ({error}): it is truncated, damaged "
            "or of another kind; expected a file such as bvlc_alexnet.npy."
        ) from error
    if not isinstance(content, Mapping) or not content:
        raise ValueError(f"{path} holds no dictionary of layers: expected {{layer: arrays}}.")
    found = {}
    for layer, parts in content.items():
        name = layer.decode("utf-8", "replace") if isinstance(layer, bytes) else str(layer)
        for part, value in _parts(parts, name, path).items():
            if not isinstance(value, pickles.PickledArray):
                raise ValueError(f"{part} of {name:.60} in {path} is no array of numbers.")
            found[f"{name}/{part}"] = of_numbers(np.asarray(value))
    return found


def _unpickled(path) -> Any:
    with open(path, "rb") as file:
        version = np.lib.format.read_magic(file)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }.get(version)
        if read_header is None:
            raise ValueError(f"version {version} of NumPy's format")
        shape, _, dtype = read_header(file)
        if not dtype.hasobject or shape != ():
            raise ValueError(f"an array of {dtype} of shape {shape}")
        names = {**pickles.containers(), **pickles.numpy_names(objects=True)}
        array = pickles.load(file, names)
    held = getattr(array, "objects", None)
    if not held or len(held) != 1:
        raise ValueError("its pickle holds no object array")
    return held[0]


def _parts(parts: Any, layer: str, path) -> dict[str, Any]:
    if isinstance(parts, list) and len(parts) == 2:
        return dict(zip(_PARTS, parts, strict=True))
    if isinstance(parts, Mapping) and set(parts) == set(_PARTS):
        return dict(parts)
    raise ValueError(
        f"{layer:.60} in {path} is no pair of weights and biases: expected a file such as "
        "bvlc_alexnet.npy."
    )
