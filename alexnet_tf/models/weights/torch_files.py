"""Reads PyTorch files (`.pth`, `.pt`, `.pth.tar`, written by `torch.save`) without PyTorch.

Two containers: since PyTorch 1.6 a zip archive, in which `data.pkl` holds the objects and `data/0`,
`data/1`, ... the storages of the tensors as they are in memory; before (and still, on demand)
three small pickles, the one with the objects, the list of the storages and their bytes, one after
the other. Objects are read by `pickles`, which runs no code; a tensor is read only after its shape
was checked.

Source: pytorch/pytorch, torch/serialization.py (`_save`, `_legacy_save`, `_legacy_load`) and
torch/_utils.py (`_rebuild_tensor_v2` and its relatives).
"""

import dataclasses
import os
import tarfile
import zipfile
from collections.abc import Callable
from typing import Any, Literal

from alexnet_tf import pickles
from alexnet_tf.models.weights.stored import CODES, StoredTensor, file_part

# The first two pickles of a file that is not a zip archive.
_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_STORAGES = {
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}
# Storage types that weights do not use: (name, bytes per element).
_FOREIGN_STORAGES = {
    "ComplexFloatStorage": ("complex64", 8),
    "ComplexDoubleStorage": ("complex128", 16),
    "QInt8Storage": ("qint8", 1),
    "QUInt8Storage": ("quint8", 1),
    "QInt32Storage": ("qint32", 4),
    "QUInt4x2Storage": ("quint4x2", 1),
    "QUInt2x4Storage": ("quint2x4", 1),
}
_WORDS = (
    *CODES,
    *("complex32", "complex64", "complex128", "qint8", "quint8", "qint32"),
    *("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu"),
    *("per_tensor_affine", "per_channel_affine", "per_channel_affine_float_qparams"),
    *("strided", "sparse_coo", "sparse_csr"),
)
_LARGEST = 2**63
_MAX_RANK = 32
# Keys under which training scripts store the state dictionary in a checkpoint.
_WRAPPERS = ("state_dict", "model_state_dict", "model")


@dataclasses.dataclass(frozen=True)
class UnreadableTensor:
    """A tensor that is not a plain array of numbers. kind: such as "sparse"."""

    kind: str


@dataclasses.dataclass(frozen=True)
class _StorageType:
    """A storage class. itemsize: bytes per element."""

    dtype: str
    itemsize: int


@dataclasses.dataclass(frozen=True)
class _Storage:
    """A persistent id's storage: a sequence of numbers in the file, or a part of one.

    key: the sequence's key. elements: length of this part. first: index of its first element.
    """

    key: str
    type: _StorageType
    elements: int
    first: int = 0


def state_dict(path: str | os.PathLike) -> dict[Any, StoredTensor | UnreadableTensor | Any]:
    """Reads the state dictionary in a file, alone or within a checkpoint.

    Raises:
      ValueError: the file is damaged, of another kind, or holds objects other than tensors,
        dictionaries, lists, numbers and text.
    """
    content = read(path)
    if isinstance(content, dict):
        for name in _WRAPPERS:
            inside = content.get(name)
            if isinstance(inside, dict) and any(map(_is_tensor, inside.values())):
                return inside
    if not isinstance(content, dict) or not content:
        raise ValueError(
            f"{path} holds {_kind(content)}: expected a state dictionary of names and tensors, "
            "torch.save(model.state_dict(), path)."
        )
    return content


def read(path: str | os.PathLike) -> Any:
    """Reads a file written by `torch.save`, with a `StoredTensor` for each tensor.

    Raises:
      ValueError: see `state_dict`.
    """
    try:
        with open(path, "rb") as file:
            zipped = file.read(4) == b"PK\x03\x04"
        return _read_zip(path) if zipped else _read_stream(path)
    except pickles.ForbiddenName as error:
        raise ValueError(
            f"{path} holds more than tensors, dictionaries and numbers ({error}), and other "
            "objects are not unpickled because they can run code: expected a state dictionary, "
            "torch.save(model.state_dict(), path)."
        ) from error
    # Raised for a damaged or encrypted archive, or a pickle of something else.
    except (ValueError, TypeError, KeyError, RuntimeError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path} cannot be read as a file of PyTorch ({error}): it is truncated, damaged or of "
            "another kind; expected a state dictionary saved by torch.save."
        ) from error


def _is_tensor(value) -> bool:
    return isinstance(value, StoredTensor | UnreadableTensor)


def _kind(value) -> str:
    return "a tensor" if _is_tensor(value) else f"a {type(value).__name__}"


def _read_zip(path):
    size = os.path.getsize(path)
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: info for info in archive.infolist()}
        pickled = [name for name in members if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(pickled) != 1:
            raise ValueError("its archive has no data.pkl")
        root = pickled[0].removesuffix("data.pkl")
        if any(name.startswith(f"{root}code/") for name in members):
            raise ValueError("it is a program of TorchScript")
        for info in members.values():
            # torch.save compresses nothing, so no member can be longer than the file.
            if info.compress_type != zipfile.ZIP_STORED or info.file_size > size:
                raise ValueError(f"its member {info.filename} is compressed or longer than itself")
        order = "little"
        if f"{root}byteorder" in members:
            order = archive.read(f"{root}byteorder").decode("ascii")
        objects = _Objects(order)
        with archive.open(pickled[0]) as stream:
            content = pickles.load(stream, objects.names(), objects.persistent)
    for key, (kind, elements) in objects.storages.items():
        member = members.get(f"{root}data/{key}")
        if member is None or member.file_size != elements * kind.itemsize:
            raise ValueError(f"the storage {key} is missing or of another length")
        objects.parts[key] = _member_part(path, member)
    return content


def _member_part(path, info) -> Callable[[int, int], bytes]:
    def read(first: int, count: int) -> bytes:
        with zipfile.ZipFile(path) as archive, archive.open(info) as file:
            if first:
                file.seek(first)
            return file.read(count)  # for a full member, zipfile verifies the checksum

    return read


def _read_stream(path):
    with open(path, "rb") as stream:
        try:
            magic = pickles.load(stream, {})
        except pickles.ForbiddenName:
            raise
        except ValueError as error:
            if tarfile.is_tarfile(path):
                raise ValueError("it is a tar archive, as PyTorch wrote them until 2017") from error
            raise
        if magic != _MAGIC or pickles.load(stream, {}) != _PROTOCOL:
            raise ValueError("it does not begin as PyTorch's files do")
        order = "little" if pickles.load(stream, {})["little_endian"] else "big"
        objects = _Objects(order)
        content = pickles.load(stream, objects.names(), objects.persistent)
        keys = pickles.load(stream, {})
        if type(keys) is not list or set(keys) != set(objects.storages):
            raise ValueError("the list of its storages is damaged")
        size = os.path.getsize(path)
        for key in keys:
            kind, elements = objects.storages[key]
            length = elements * kind.itemsize
            said = int.from_bytes(stream.read(8), objects.byte_order, signed=True)
            start = stream.tell()
            if said != elements or start + length > size:
                raise ValueError(f"the storage {key} is truncated or of another length")
            objects.parts[key] = file_part(path, start, length)
            stream.seek(start + length)
    return content


class _Objects:
    """The names allowed in the pickle of one file, and the storages that it references.

    Args:
      byte_order: "little" or "big", the order of the machine that wrote the file.
    """

    def __init__(self, byte_order):
        if byte_order not in ("little", "big"):
            raise ValueError(f"its byte order is {byte_order!r}")
        self.byte_order: Literal["little", "big"] = byte_order
        # key -> (type, number of elements), from the pickle.
        self.storages: dict[str, tuple[_StorageType, int]] = {}
        # key -> the bytes; filled once their position in the file is known.
        self.parts: dict[str, Callable[[int, int], bytes]] = {}

    def names(self) -> dict[str, Any]:
        """For `pickles.load`."""
        types = {
            **{
                name: _StorageType(dtype, int(CODES[dtype][1])) for name, dtype in _STORAGES.items()
            },
            **{name: _StorageType(*about) for name, about in _FOREIGN_STORAGES.items()},
        }
        return {
            **pickles.containers(),
            **pickles.numpy_names(),
            **{f"torch.{name}": value for name, value in types.items()},
            "torch.storage.UntypedStorage": _StorageType("uint8", 1),
            **{f"torch.{name}": name for name in _WORDS},
            "torch.Tensor": "Tensor",
            "torch.nn.parameter.Parameter": "Parameter",
            "torch.Size": lambda numbers: numbers,
            "torch.device": lambda *words: ":".join(map(str, words)),
            "torch.serialization._get_layout": lambda name: name,
            "torch._utils._rebuild_tensor": self.tensor,
            "torch._utils._rebuild_tensor_v2": self.tensor,
            "torch._utils._rebuild_tensor_v3": self.tensor_of_type,
            "torch._utils._rebuild_parameter": lambda tensor, *_: tensor,
            "torch._utils._rebuild_parameter_with_state": lambda tensor, *_: tensor,
            "torch._tensor._rebuild_from_type_v2": self.tensor_with_attributes,
            "torch._utils._rebuild_sparse_tensor": lambda *_: UnreadableTensor("sparse"),
            "torch._utils._rebuild_qtensor": lambda *_: UnreadableTensor("quantised"),
            "torch._utils._rebuild_nested_tensor": lambda *_: UnreadableTensor("nested"),
            "torch._utils._rebuild_meta_tensor_no_storage": lambda *_: UnreadableTensor("meta"),
        }

    def persistent(self, identity) -> _Storage:
        """Resolves ("storage", type, key, device, elements, optional part)."""
        word, kind, key, _, elements, *rest = identity
        if word != "storage" or type(kind) is not _StorageType or type(key) is not str:
            raise TypeError(f"a persistent id of {word!r}")
        if type(elements) is not int or not 0 <= elements < _LARGEST:
            raise ValueError("a storage of an impossible size")
        if self.storages.setdefault(key, (kind, elements)) != (kind, elements):
            raise ValueError(f"the storage {key} has two sizes")
        if not rest or rest[0] is None:
            return _Storage(key, kind, elements)
        _, first, length = rest[0]
        if min(first, length) < 0 or first + length > elements:
            raise ValueError(f"a part of the storage {key} ends behind it")
        return _Storage(key, kind, length, first)

    def tensor(self, storage, offset, shape, strides, grad=False, hooks=None, bits=None):
        """`_rebuild_tensor_v2`: a tensor of its storage's type."""
        return self.tensor_of_type(storage, offset, shape, strides, grad, hooks, None, bits)

    def tensor_of_type(self, storage, offset, shape, strides, grad, hooks, dtype, bits=None):
        """`_rebuild_tensor_v3`: the storage may be of bytes."""
        if type(storage) is not _Storage or not type(shape) is type(strides) is tuple:
            raise TypeError("a tensor without a storage or a shape")
        if len(shape) != len(strides) or len(shape) > _MAX_RANK:
            raise ValueError("a tensor of an impossible shape")
        if not all(type(n) is int and 0 <= n < _LARGEST for n in (offset, *shape, *strides)):
            raise ValueError("a tensor of an impossible shape")

        def read_bytes(first, count):
            return self.parts[storage.key](storage.first * storage.type.itemsize + first, count)

        tensor = StoredTensor(
            shape=shape,
            dtype=storage.type.dtype if dtype is None else dtype,
            read_bytes=read_bytes,
            strides=strides,
            offset=offset,
            byte_order="<" if self.byte_order == "little" else ">",
            negative=bool((bits or {}).get("neg")),
        )
        itemsize = int(CODES[tensor.dtype][1]) if tensor.dtype in CODES else 0
        if (offset + tensor.span) * itemsize > storage.elements * storage.type.itemsize:
            raise ValueError(f"a tensor of shape {tensor.shape} ends behind its storage")
        return tensor

    def tensor_with_attributes(self, function, kind, arguments, state):
        """`_rebuild_from_type_v2`: a tensor with additional attributes."""
        if kind not in ("Tensor", "Parameter") or function not in (
            self.tensor,
            self.tensor_of_type,
        ):
            raise ValueError("its pickle has a tensor of a class of its own")
        return function(*arguments)
