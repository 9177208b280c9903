"""Checks untrusted `.keras` and `.weights.h5` files before Keras reads them.

Keras' safe mode refuses code in a file, but it was bypassed more than once (CVE-2025-8747,
CVE-2025-9906), and files could read other files of the machine (CVE-2026-1669) or exhaust its
memory (CVE-2026-0897). So, for every version of Keras:

- the archive holds what Keras writes and nothing else, uncompressed;
- every object that the configuration names is one of Keras' own that only computes, or a class that
  is registered in this process, as this package's layers are;
- the weights are plain numbers inside the file, together no longer than it;
- the network that the configuration describes has no more numbers than the file.
"""

import contextlib
import io
import json
import os
import zipfile
from collections.abc import Iterator

import h5py
import keras

_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"
_MEMBERS = {_CONFIG, _WEIGHTS, "metadata.json"}
_MAX_CONFIG = 16 * 2**20  # bytes; a mean image of 227 x 227 is 0.8 MB
_MAX_DEPTH = 100
# Counters and states of random numbers, which a network has besides its weights.
_SLACK = 100_000


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Layers of image networks; none reads files, runs code of its configuration or makes it up.
_LAYERS = _names("""
    Activation Add AlphaDropout Average AveragePooling2D AveragePooling3D BatchNormalization
    CenterCrop Concatenate Conv2D Conv2DTranspose Cropping2D Dense DepthwiseConv2D Dot Dropout
    ELU Flatten GaussianDropout GaussianNoise GlobalAveragePooling2D GlobalMaxPooling2D
    GroupNormalization Identity InputLayer LayerNormalization LeakyReLU MaxPooling2D
    MaxPooling3D Maximum Minimum Multiply Normalization PReLU Permute ReLU Rescaling Reshape
    Resizing SeparableConv2D Softmax SpatialDropout2D Subtract UnitNormalization UpSampling2D
    ZeroPadding2D
""")
# Operations between layers, which functional networks record; each is arithmetic on its inputs.
_OPERATIONS = _names(
    "Add Subtract Multiply Divide Maximum Minimum Mean Max Reshape Transpose Concatenate"
)
_MODELS = frozenset({"Functional", "Model", "Sequential"})
_ALLOWED = {
    "keras": _MODELS | {"DTypePolicy"},
    "keras.models": _MODELS,
    "keras.src.models.functional": _MODELS,
    "keras.src.models.sequential": _MODELS,
    "keras.layers": _LAYERS,
    "keras.src.ops.numpy": _OPERATIONS,
    "keras.dtype_policies": frozenset({"DTypePolicy"}),
    "keras.random": frozenset({"SeedGenerator"}),
}
# Modules of which each class is a formula.
_FORMULAS = {
    "keras.initializers": keras.initializers,
    "keras.regularizers": keras.regularizers,
    "keras.constraints": keras.constraints,
    "keras.optimizers": keras.optimizers,
    "keras.optimizers.schedules": keras.optimizers.schedules,
    "keras.losses": keras.losses,
    "keras.metrics": keras.metrics,
}
_FUNCTIONS = (keras.activations, keras.losses, keras.metrics)
_VALUES = frozenset({"__keras_tensor__", "__tensor__", "__numpy__", "__slice__", "__ellipsis__"})


def require_harmless(path: str | os.PathLike, compiled: bool = False) -> int:
    """Checks a `.keras` or `.weights.h5` file.

    Args:
      path: the file.
      compiled: whether its optimiser, loss and metrics will be created too.

    Returns:
      The number of elements of the file's weights.

    Raises:
      ValueError: another kind of file, or content that is refused, see above. OSError: it cannot
        be read.
    """
    size = os.path.getsize(path)
    try:
        if not os.fspath(path).endswith(".keras"):
            with open(path, "rb") as file:
                return _require_plain_numbers(file, size)
        with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
            members = _members(archive, size)
            _require_known_objects(archive.read(_CONFIG), compiled)
            weights = members[_WEIGHTS]
            with _Part(file, _start(file, weights), weights.file_size) as part:
                return _require_plain_numbers(part, weights.file_size)
    except (zipfile.BadZipFile, RecursionError, NotImplementedError, RuntimeError) as error:
        raise ValueError(str(error)) from error


def _members(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    members = {info.filename: info for info in archive.infolist()}
    strange = sorted(members.keys() - _MEMBERS)
    if strange or len(members) != len(archive.infolist()):
        raise ValueError(f"its archive has a member {strange[0] if strange else 'twice'!r}")
    for name in (_CONFIG, _WEIGHTS):
        if name not in members:
            raise ValueError(f"its archive has no {name}")
    # Keras compresses nothing, so what is inside cannot be longer than the file.
    if any(info.compress_type != zipfile.ZIP_STORED for info in members.values()):
        raise ValueError("its archive is compressed")
    if sum(info.file_size for info in members.values()) > size:
        raise ValueError("its archive says more than it holds")
    if members[_CONFIG].file_size > _MAX_CONFIG:
        raise ValueError(f"its {_CONFIG} is longer than {_MAX_CONFIG:,} bytes")
    return members


def _start(file, info: zipfile.ZipInfo) -> int:
    """Where a member's bytes begin: behind its own header of 30 bytes, its name and extras."""
    file.seek(info.header_offset)
    header = file.read(30)
    if header[:4] != b"PK\x03\x04":
        raise ValueError("its archive is damaged")
    return (
        info.header_offset
        + 30
        + int.from_bytes(header[26:28], "little")
        + int.from_bytes(header[28:30], "little")
    )


class _Part(io.RawIOBase):
    """A part of a file as a file, for h5py: zipfile's own is slow to go back in."""

    def __init__(self, file, start: int, length: int):
        self._file, self._start, self._length, self._at = file, start, length, 0

    def readable(self):
        return True

    def seekable(self):
        return True

    def seek(self, offset, whence=os.SEEK_SET):
        self._at = (
            offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._length}[whence]
        )
        return self._at

    def tell(self):
        return self._at

    def readinto(self, buffer):
        count = max(min(len(buffer), self._length - self._at), 0)
        self._file.seek(self._start + self._at)
        content = self._file.read(count)
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)


def _require_known_objects(content: bytes, compiled: bool) -> None:
    config = json.loads(content)
    if not isinstance(config, dict):
        raise ValueError(f"its {_CONFIG} is no object")
    if not compiled:
        config.pop("compile_config", None)  # as Keras does
    waiting = [(config, 0)]
    while waiting:
        value, depth = waiting.pop()
        if depth > _MAX_DEPTH:
            raise ValueError(f"its {_CONFIG} is nested deeper than {_MAX_DEPTH} levels")
        if isinstance(value, dict):
            if "class_name" in value:
                _require_known(value)
            waiting += [(inside, depth + 1) for inside in value.values()]
        elif isinstance(value, list):
            waiting += [(inside, depth + 1) for inside in value]


def _require_known(entry: dict) -> None:
    """Refuses an object that is neither arithmetic of Keras' nor registered here."""
    name, module = entry["class_name"], entry.get("module")
    found = keras.saving.get_registered_object
    # In the order in which Keras looks: what a name means to it decides.
    if isinstance(name, str) and name.startswith("__"):
        if name in _VALUES:
            return
    elif name == "function":
        wanted = entry.get("config")
        if isinstance(wanted, str) and (
            found(wanted)
            or (module == "builtins" and any(hasattr(place, wanted) for place in _FUNCTIONS))
        ):
            return
    elif isinstance(found(str(entry.get("registered_name") or name)), type):
        return
    elif isinstance(name, str) and isinstance(module, str):
        formula = getattr(_FORMULAS.get(module), name, None)
        if name in _ALLOWED.get(module, ()) or isinstance(formula, type):
            return
    raise ValueError(
        f"it has a {name} of {module or 'no module'} ({entry.get('registered_name')}), which is "
        "neither one of Keras' layers of image networks nor registered; import the module that "
        "registers it if it is yours"
    )


def _require_plain_numbers(file, size: int) -> int:
    """Walks through an HDF5 file of `size` bytes; the number of elements of its data sets."""
    elements = length = 0
    with h5py.File(file, "r") as root:
        waiting, seen = [root], set()
        while waiting:
            group = waiting.pop()
            where = h5py.h5o.get_info(group.id).addr
            if where in seen:
                continue
            seen.add(where)
            for name in group:
                if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                    raise ValueError(f"its weights have a link {name} to somewhere else")
                found = group.get(name)
                if isinstance(found, h5py.Group):
                    waiting.append(found)
                    continue
                _require_inside(name, found)
                elements += found.size
                length += found.size * found.dtype.itemsize
                if length > size:
                    raise ValueError(
                        "its weights say more numbers than the file holds, or are compressed"
                    )
    return elements


def _require_inside(name, found) -> None:
    """Refuses a data set that is no plain array in this very file."""
    if not isinstance(found, h5py.Dataset) or found.shape is None:
        raise ValueError(f"its weights have a {type(found).__name__} {name}")
    # Virtual and external data sets are numbers of other files.
    if found.is_virtual or found.external:
        raise ValueError(f"its weights {name} are in another file")
    plain = found.dtype.kind in "biuf"
    half = found.dtype.kind == "V" and found.dtype.itemsize == 2 and found.dtype.names is None
    if not plain and not half:  # HDF5 has no bfloat16: it is two bytes without a meaning
        raise ValueError(f"its weights {name} are {found.dtype}, and no numbers")


@contextlib.contextmanager
def no_more_variables_than(elements: int) -> Iterator[None]:
    """Within this context, refuses variables of more than `elements` numbers in total.

    Only with Keras' TensorFlow backend.

    Raises:
      ValueError: there would be more.
    """
    if keras.backend.backend() != "tensorflow":
        yield
        return
    import tensorflow as tf

    left = elements + _SLACK

    def create(next_creator, **keywords):
        nonlocal left
        value = keywords.get("initial_value")
        if callable(value):
            # In a graph the initialiser only says what it would make.
            with tf.Graph().as_default():
                shape = tf.convert_to_tensor(value()).shape
            left -= shape.num_elements() or 0
        if left < 0:
            raise ValueError(
                f"its {_CONFIG} describes a network of more numbers than the file's {elements:,}"
            )
        return next_creator(**keywords)

    with tf.variable_creator_scope(create):
        yield
