"""A tensor still in its file: its shape is known before any memory is allocated."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np

# Type name in a file -> NumPy's name without byte order; bfloat16 is the upper half of a float32.
# The first four are allowed for weights.
FLOATS = {"float16": "f2", "bfloat16": "u2", "float32": "f4", "float64": "f8"}
_OTHERS = {
    "bool": "u1",
    "uint8": "u1",
    "int8": "i1",
    "int16": "i2",
    "uint16": "u2",
    "int32": "i4",
    "uint32": "u4",
    "int64": "i8",
    "uint64": "u8",
}
CODES = {**FLOATS, **_OTHERS}


@dataclasses.dataclass(frozen=True)
class StoredTensor:
    """A tensor in a weights file.

    Attributes:
      shape: its shape in the file; nothing was allocated for it.
      dtype: the name of its type, "float32", "bfloat16" and so on, or the file's name of a type
        that weights do not use.
      read_bytes: (first byte, number of bytes) -> that part of the tensor's storage.
      strides: strides in elements, for views of their storage; None for row-major.
      offset: position of the first element in its storage, in elements.
      byte_order: "<" or ">".
      negative: whether the values are to be negated, for PyTorch's negative views.
    """

    shape: tuple[int, ...]
    dtype: str
    read_bytes: Callable[[int, int], bytes]
    strides: tuple[int, ...] | None = None
    offset: int = 0
    byte_order: str = "<"
    negative: bool = False

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def span(self) -> int:
        """The number of storage elements from the tensor's first to its last one."""
        if not self.size:
            return 0
        if self.strides is None:
            return self.size
        return 1 + sum((n - 1) * step for n, step in zip(self.shape, self.strides, strict=True))

    def read(self) -> np.ndarray:
        """Reads the values: bfloat16 as float32, others in their own type.

        Raises:
          ValueError: a type that NumPy does not support, or a damaged file.
        """
        if self.dtype not in CODES:
            raise ValueError(f"a tensor of {self.dtype} has no numbers of NumPy's")
        code = np.dtype(self.byte_order + CODES[self.dtype])
        content = self.read_bytes(self.offset * code.itemsize, self.span * code.itemsize)
        values = np.frombuffer(content, code)
        if values.size != self.span:
            raise ValueError("it is truncated")
        if self.dtype == "bfloat16":
            values = (values.astype(np.uint32) << 16).view(np.float32)
        if self.strides is None:
            values = values.reshape(self.shape)
        elif self.size:
            steps = [step * values.itemsize for step in self.strides]
            values = np.lib.stride_tricks.as_strided(values, self.shape, steps, writeable=False)
        else:
            values = np.zeros(self.shape, values.dtype)
        return -values if self.negative else values


def file_part(path, start: int, length: int) -> Callable[[int, int], bytes]:
    """`StoredTensor.read_bytes` for a storage of `length` bytes at byte `start` of a file."""

    def read(first: int, count: int) -> bytes:
        if first + count > length:
            raise ValueError("a tensor ends behind its storage")
        with open(path, "rb") as file:
            file.seek(start + first)
            return file.read(count)

    return read


def of_numbers(values: np.ndarray) -> StoredTensor:
    """A stored tensor for an array in memory."""
    names = {"f2": "float16", "f4": "float32", "f8": "float64"}
    code = values.dtype.str[1:]
    little = values.dtype.newbyteorder("<")

    def read(first: int, count: int) -> bytes:
        return (
            np.ascontiguousarray(values).astype(little, copy=False).tobytes()[first : first + count]
        )

    return StoredTensor(values.shape, names.get(code, str(values.dtype)), read)
