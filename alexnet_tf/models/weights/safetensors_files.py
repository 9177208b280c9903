"""Reads and writes `.safetensors` files: a length, a JSON header, and the tensors' bytes.

The format's reader for NumPy does not support bfloat16. A tensor is read only after its shape was
checked.

Source: huggingface/safetensors, README.md, "Format".
"""

import json
import math
import os
from collections.abc import Mapping

import numpy as np

from alexnet_tf.models.weights.stored import CODES, StoredTensor, file_part

_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
}
# Bytes. The format allows 100 MB; parsed, JSON of empty lists takes about twenty times its length.
_MAX_HEADER = 4 * 2**20


def read(path: str | os.PathLike) -> dict[str, StoredTensor]:
    """Name -> tensor.

    Raises:
      ValueError: the file is truncated, damaged or of another kind.
    """
    try:
        return _read(path)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"{path} cannot be read as safetensors ({error}): it is truncated or of another kind."
        ) from error


def _read(path):
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, _MAX_HEADER):
            raise ValueError(f"its header says {length} bytes")
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    start, end, tensors = 8 + length, 0, {}
    for name, about in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        (first, last), shape = about["data_offsets"], tuple(about["shape"])
        if not all(type(n) is int and n >= 0 for n in (first, last, *shape)):
            raise ValueError(f"the tensor {name} has no shape")
        # Contiguous, so no byte belongs to two tensors.
        if first != end or last < first or start + last > size:
            raise ValueError(f"the tensor {name} is not where the one before it ends")
        dtype = _DTYPES.get(about["dtype"], str(about["dtype"]))
        if dtype in CODES and math.prod(shape) * int(CODES[dtype][1]) != last - first:
            raise ValueError(f"the tensor {name} has fewer or more numbers than its shape says")
        tensors[name] = StoredTensor(shape, dtype, file_part(path, start + first, last - first))
        end = last
    if start + end != size:
        raise ValueError("bytes are left over at its end")
    return tensors


def write(
    path: str | os.PathLike, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]
) -> None:
    """Writes float32 tensors, in the order of their names.

    Args:
      path: the file; the caller makes the write atomic.
      tensors: name -> float32.
      metadata: name -> text, for the header.
    """
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    offset = 0
    for name in sorted(tensors):
        end = offset + 4 * tensors[name].size
        header[name] = {
            "dtype": "F32",
            "shape": list(tensors[name].shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # the tensors begin at a multiple of 8
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in sorted(tensors):
            file.write(np.ascontiguousarray(tensors[name], "<f4").data)
