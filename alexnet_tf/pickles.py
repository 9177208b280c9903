"""A restricted reader of untrusted pickles: containers, numbers, text and named types only.

A pickle is a program. Python's unpickler imports and calls whatever the program names; this one
imports nothing and calls only functions that its caller passes in. It reads the binary protocols
(2 and later) with memory bounded by the length of the file.
"""

import pickletools
from collections.abc import Callable, Mapping
from typing import IO, Any

import numpy as np

# A checkpoint of ResNet-152 with its optimiser has about 100,000. An empty dictionary is an opcode
# of one byte but takes 64 bytes of memory, so the file's length alone is not a sufficient bound.
MAX_OPCODES = 1_000_000

_PLAIN = {
    "BINBYTES",
    "BINBYTES8",
    "BINFLOAT",
    "BININT",
    "BININT1",
    "BININT2",
    "BINSTRING",
    "BINUNICODE",
    "BINUNICODE8",
    "BYTEARRAY8",
    "LONG1",
    "LONG4",
    "SHORT_BINBYTES",
    "SHORT_BINSTRING",
    "SHORT_BINUNICODE",
}
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_DAMAGE = (
    *(IndexError, KeyError, TypeError, AttributeError),
    *(OverflowError, MemoryError, RecursionError),
)
_KEYS = (str, int, float, bool, bytes, type(None))


class ForbiddenName(ValueError):
    """The pickle names a class or function that its format does not need.

    Attributes:
      name: "module.name", as in the file.
    """

    def __init__(self, name: str):
        super().__init__(f"it asks for {name}")
        self.name = name


def load(
    stream: IO[bytes],
    names: Mapping[str, Any],
    persistent: Callable[[Any], Any] | None = None,
) -> Any:
    """Reads one pickle and leaves the stream after it.

    Args:
      stream: a binary stream at the pickle's first byte.
      names: "module.name" -> its meaning: a function, called with the pickle's arguments, or a
        value. Other names are forbidden. `containers` and `numpy_names` return such mappings.
      persistent: resolves persistent ids, for formats that have them.

    Returns:
      The pickled object. Attributes set on a dictionary are dropped.

    Raises:
      ForbiddenName: see there. ValueError: not a pickle, a damaged one, or one that is too long.
    """
    try:
        return _run(stream, names, persistent)
    except ForbiddenName:
        raise
    except ValueError as error:
        raise ValueError(f"{error!s:.300}") from error  # it may quote the pickle's content
    # A damaged program pops from an empty stack, calls with wrong arguments, and so on.
    except _DAMAGE as error:
        raise ValueError(
            f"its pickle is damaged ({type(error).__name__}: {error!s:.300})"
        ) from error


def _run(stream, names, persistent):
    functions = {id(value) for value in names.values() if callable(value)}
    stack: list[Any] = []
    outer: list[list[Any]] = []  # the stacks below each mark
    memo: dict[int, Any] = {}

    def name(module, attribute):
        if not type(module) is type(attribute) is str:
            raise TypeError("a name that is no text")
        found = f"{module}.{attribute}"
        if found not in names:
            raise ForbiddenName(f"{found:.100}")
        return names[found]

    def call(function, arguments):
        if id(function) not in functions or type(arguments) is not tuple:
            raise ValueError("its pickle calls something that is no function of its format")
        return function(*arguments)

    def since_mark():
        nonlocal stack
        items, stack = stack, outer.pop()
        return items

    argument: Any
    for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
        if count >= MAX_OPCODES:
            raise ValueError(f"its pickle has more than {MAX_OPCODES:,} instructions")
        code = opcode.name
        if code in _PLAIN:
            stack.append(argument)
        elif code in _CONSTANTS:
            stack.append(_CONSTANTS[code])
        elif code == "EMPTY_DICT":
            stack.append({})
        elif code == "EMPTY_LIST":
            stack.append([])
        elif code == "MARK":
            outer.append(stack)
            stack = []
        elif code in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if code == "MEMOIZE" else argument] = stack[-1]
        elif code in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif code == "TUPLE":
            items = since_mark()
            stack.append(tuple(items))
        elif code in ("TUPLE1", "TUPLE2", "TUPLE3"):
            length = int(code[-1])
            if len(stack) < length:
                raise IndexError("a tuple is longer than the stack")
            stack[-length:] = [tuple(stack[-length:])]
        elif code == "APPEND":
            item = stack.pop()
            _list(stack[-1]).append(item)
        elif code == "APPENDS":
            items = since_mark()
            _list(stack[-1]).extend(items)
        elif code == "SETITEM":
            value, key = stack.pop(), stack.pop()
            _put(stack[-1], key, value)
        elif code == "SETITEMS":
            items = since_mark()
            for key, value in zip(items[::2], items[1::2], strict=True):
                _put(stack[-1], key, value)
        elif code == "GLOBAL":
            stack.append(name(*argument.split(" ", 1)))
        elif code == "STACK_GLOBAL":
            attribute, module = stack.pop(), stack.pop()
            stack.append(name(module, attribute))
        elif code in ("REDUCE", "NEWOBJ"):
            arguments, function = stack.pop(), stack.pop()
            stack.append(call(function, arguments))
        elif code == "BUILD":
            state, target = stack.pop(), stack[-1]
            if isinstance(target, PickledArray | _DType):
                target.set_state(state)
            elif not isinstance(target, dict):
                raise ValueError("its pickle sets attributes of something that has none")
        elif code == "BINPERSID" and persistent is not None:
            stack.append(persistent(stack.pop()))
        elif code == "STOP":
            return stack.pop()
        elif code not in ("PROTO", "FRAME", "POP"):
            raise ValueError(f"its pickle has the instruction {code}, which no such file needs")
        elif code == "POP":
            stack.pop()
    raise ValueError("its pickle has no end")


def _list(value) -> list:
    if type(value) is not list:
        raise TypeError("something is appended to what is no list")
    return value


def _put(target, key, value) -> None:
    # Hashing nested tuples as keys would recurse in C without limit.
    if not isinstance(target, dict) or not isinstance(key, _KEYS):
        raise TypeError(f"a {type(key).__name__} as the key of a {type(target).__name__}")
    target[key] = value


def _dictionary(items=()) -> dict:
    if isinstance(items, dict):
        return items
    found: dict = {}
    for key, value in items:
        _put(found, key, value)
    # Python 2 passes a list of pairs. Repeated references would take its length each time.
    if isinstance(items, list):
        items.clear()
    return found


def containers() -> dict[str, Any]:
    """Names of Python's types, for `load`: dictionaries, which all become plain ones.

    An `argparse.Namespace`, which training scripts put into checkpoints, becomes an empty one.
    """
    return {
        "collections.OrderedDict": _dictionary,
        "collections.Counter": _dictionary,
        "argparse.Namespace": _dictionary,
        # Protocol 2 encodes only empty bytes in this way.
        "__builtin__.bytes": lambda: b"",
        "builtins.bytes": lambda: b"",
    }


class PickledArray:
    """An array of numbers in a pickle; `numpy.asarray` converts it.

    Attributes:
      objects: the elements of an array of objects, for formats that have them; else None.
    """

    def __init__(self, *_):
        self.value = np.zeros(0)
        self.objects: list[Any] | None = None

    def set_state(self, state) -> None:
        """Fills it from (version, shape, dtype, Fortran order, bytes or list of objects)."""
        _, shape, dtype, fortran, content = state
        if not isinstance(dtype, _DType) or not all(type(n) is int and n >= 0 for n in shape):
            raise TypeError("an array without a shape or a type")
        if dtype.value.hasobject:
            self.objects = _list(content)
            return
        values = np.frombuffer(_bytes(content), dtype.value)
        if values.size != _product(shape):
            raise ValueError(f"an array of shape {shape} in its pickle has {values.size} numbers")
        self.value = values.reshape(shape, order="F" if fortran else "C")

    def __array__(self, dtype=None, copy=None):
        return self.value if dtype is None else self.value.astype(dtype)


class _DType:
    """`numpy.dtype` of numbers, or of objects for formats that have them, which stay a list."""

    objects = False

    def __init__(self, text, *_):
        self.value = np.dtype(text) if type(text) is str else np.dtype("O")
        allowed = "biufcO" if self.objects else "biufc"
        if self.value.kind not in allowed or self.value.shape:
            raise ValueError(f"its pickle has an array of {text!r}: expected numbers")

    def set_state(self, state) -> None:
        if state[1] in (">", "<"):
            self.value = self.value.newbyteorder(state[1])


class _AnyDType(_DType):
    objects = True


def numpy_names(objects: bool = False) -> dict[str, Any]:
    """Names of NumPy's numbers and arrays, for one `load`. Arrays become `PickledArray`s.

    Args:
      objects: whether arrays of objects are allowed, as in a `.npy` file of a dictionary.
    """
    encoded: dict[int, tuple[str, bytes]] = {}

    def encode(text, encoding):
        # Protocol 2's encoding of bytes. Decoded once per text: repeated references to the same
        # one would otherwise take its length each time.
        if type(text) is not str or encoding != "latin1":
            raise ValueError(f"its pickle encodes text as {encoding!r}, which no array needs")
        return encoded.setdefault(id(text), (text, text.encode("latin-1")))[1]

    def scalar(dtype, content):
        (value,) = np.frombuffer(_bytes(content), dtype.value)
        return value.item()

    def frombuffer(content, dtype, shape, order):  # protocol 5's encoding of an array
        array = PickledArray()
        array.set_state((1, shape, dtype, order == "F", content))
        return array

    names: dict[str, Any] = {
        "numpy.ndarray": "ndarray",
        "numpy.dtype": _AnyDType if objects else _DType,
        "_codecs.encode": encode,
    }
    for core in ("numpy.core", "numpy._core"):  # before and since NumPy 2
        names[f"{core}.multiarray._reconstruct"] = PickledArray
        names[f"{core}.multiarray.scalar"] = scalar
        names[f"{core}.numeric._frombuffer"] = frombuffer
    return names


def _bytes(content) -> bytes:
    # Python 2 wrote bytes as its strings, which pickletools reads as Latin-1.
    return content.encode("latin-1") if type(content) is str else content


def _product(shape) -> int:
    product = 1
    for n in shape:
        product *= n
    return product
