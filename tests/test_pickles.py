"""The restricted unpickler beside Python's own, and on programs that are made to do harm."""

import argparse
import collections
import contextlib
import io
import pickle
import tracemalloc

import numpy as np
import pytest

from alexnet_tf import pickles


def load(content, **names):
    known = {**pickles.containers(), **pickles.numpy_names(), **names}
    return pickles.load(io.BytesIO(content), known)


PLAIN = {
    "numbers": [0, 1, -1, 255, 65536, 2**31, -(2**31) - 1, 2**100, -(2**100), 1.5, float("inf")],
    "text": ["", "a", "ü" * 300, b"", b"\x00\xff" * 200],
    "constants": [None, True, False, ()],
    "nested": {"a": [1, {"b": (1, (2, 3), [4])}], 5: {}, 2.5: [], None: "x", b"k": 1, True: 0},
    "long": list(range(3000)),
    "ordered": collections.OrderedDict([("x", 1), ("y", [2])]),
    "counter": collections.Counter("abca"),
}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_containers_numbers_and_text_are_what_python_reads(protocol):
    again = load(pickle.dumps(PLAIN, protocol))
    assert again == PLAIN
    assert list(again["ordered"]) == ["x", "y"]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("dtype", ["f4", ">f8", "i8", "u1", "?", "c16"])
def test_arrays_and_numbers_of_numpy(protocol, dtype):
    values = np.arange(24).reshape(2, 3, 4).astype(dtype)
    given = {
        "c": values,
        "fortran": np.asfortranarray(values),
        "empty": values[:0],
        "one": values[1, 1, 1],
    }
    again = load(pickle.dumps(given, protocol))
    for name in ("c", "fortran", "empty"):
        found = np.asarray(again[name])
        np.testing.assert_array_equal(found, given[name])
        assert found.shape == given[name].shape and found.dtype == given[name].dtype
    assert again["one"] == given["one"]


def test_what_python_2_wrote():
    """Strings of bytes, and OrderedDict from a list of pairs."""
    assert load(b"\x80\x02}q\x00U\x01aq\x01K\x05s.") == {"a": 5}
    content = b"\x80\x02ccollections\nOrderedDict\n](](U\x01aK\x01ee\x85R."
    assert load(content) == {"a": 1}


def test_one_object_named_twice_stays_one():
    shared = [1]
    again = load(pickle.dumps({"a": shared, "b": shared}))
    assert again["a"] is again["b"]
    circle = []
    circle.append(circle)
    again = load(pickle.dumps(circle))
    assert again[0] is again


def test_attributes_of_a_checkpoints_arguments_are_left_out():
    assert load(pickle.dumps({"args": argparse.Namespace(lr=0.1), "epoch": 3})) == {
        "args": {},
        "epoch": 3,
    }


class Runs:
    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (print, ("run!",)),
        (eval, ("print('run!')",)),
        (__import__, ("os",)),
        (getattr, ({}, "clear")),
        (open, ("/tmp/x", "w")),
        (np.load, ("x.npy",)),
    ],
)
def test_nothing_is_imported_or_called(function, arguments, protocol, capsys):
    content = pickle.dumps({"x": Runs(function, *arguments)}, protocol)
    with pytest.raises(pickles.ForbiddenName, match=function.__name__):
        load(content)
    assert "run!" not in capsys.readouterr().out


def test_only_functions_of_the_format_are_called():
    """A value that the format names, and one that came out of a call, are no functions."""
    kept = load(b"\x80\x02cformat\nvalue\n.", **{"format.value": "float32"})
    assert kept == "float32"
    with pytest.raises(ValueError, match="no function of its format"):
        load(b"\x80\x02cformat\nvalue\n)R.", **{"format.value": "float32"})
    with pytest.raises(ValueError, match="no function of its format"):
        load(b"\x80\x02cformat\nmake\n)R)R.", **{"format.make": lambda: print})
    with pytest.raises(ValueError, match="attributes of something"):
        load(b"\x80\x02cformat\nmake\n)R}b.", **{"format.make": lambda: "text"})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "exhausted|no end"),
        (b"\x80\x02", "exhausted"),
        (b"\x80\x02.", "damaged"),
        (b"\x80\x02\x85.", "damaged"),
        (b"\x80\x02h\x07.", "damaged"),
        (b"\x80\x02}]K\x01s.", "damaged"),  # a list as a key
        (b"\x80\x02K\x01K\x02a.", "damaged"),  # appended to a number
        (b"\x80\x02}(K\x01u.", "damaged|argument 2"),
        (b"\x80\x02K\x05Q.", "instruction BINPERSID"),
        (b"\x80\x02\x82\x01.", "instruction EXT1"),
        (b"(S'a'\ni__main__\nX\n.", "instruction"),
        (b"\x80\x02\xff.", "opcode"),
        (b"\x80\x02X\xff\xff\xff\x7fab.", "expected"),  # 2 GB of text
        (b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7fab.", "expected"),  # 2**63 bytes
        (b"\x80\x02\x8b\xff\xff\xff\x7f.", "expected|not enough"),  # a number of 2 GB
    ],
)
def test_a_damaged_program_is_a_sentence(content, words):
    with pytest.raises(ValueError, match=words):
        load(content)


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02c" + b"x" * 100_000 + b"\ny\n.",
        b"\x80\x04X\xa0\x86\x01\x00" + b"x" * 100_000 + b"\x8c\x01y\x93.",
        b"\x80\x04" + b"]" * 100_000 + b"a" * 99_999 + b"\x8c\x01y\x93.",  # a list as a module
        b"\x80\x02cnumpy\ndtype\nX\xa0\x86\x01\x00" + b"x" * 100_000 + b"\x85R.",
        b"\x80\x02cnumpy\ndtype\n" + b"]" * 100_000 + b"a" * 99_999 + b"\x85R.",
    ],
)
def test_a_refusal_is_short(content):
    """Whatever the program says in the place that is quoted."""
    with pytest.raises(ValueError) as error:
        load(content)
    assert 10 < len(str(error.value)) < 400


def test_nested_tuples_are_no_keys():
    """Python hashes them by a recursion without a limit, which ends the process."""
    depth = 500_000
    content = b"\x80\x02})" + b"\x85" * depth + b"K\x01s."
    with pytest.raises(ValueError, match="a tuple as the key"):
        load(content)


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02" + b"}" * 2_000_000 + b".",
        b"\x80\x02K\x01r\xff\xff\xff\x7f.",  # a memo of two thousand million places
        # One text of 100 kB made to bytes 5,000 times, which would be 500 MB.
        b"\x80\x02](c_codecs\nencode\nq\x00X\xa0\x86\x01\x00" + b"x" * 100_000
        + b"q\x01X\x06\x00\x00\x00latin1q\x02\x86R" + b"h\x00h\x01h\x02\x86R" * 5_000 + b"e.",
        # A list of 3,000 pairs made to a dictionary 3,000 times.
        b"\x80\x02](ccollections\nOrderedDict\nq\x00](" + b"](K\x01K\x02e" * 3_000 + b"eq\x01\x85R"
        + b"h\x00h\x01\x85R" * 3_000 + b"e.",
    ],
)  # fmt: skip
def test_a_small_program_does_not_take_much_memory(content):
    tracemalloc.start()
    try:
        load(content)
    except ValueError as error:
        assert "more than 1,000,000 instructions" in str(error)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 150e6


@pytest.mark.parametrize("seed", range(3))
def test_whatever_is_flipped_is_read_or_refused(seed):
    rng = np.random.default_rng(seed)
    whole = pickle.dumps({**PLAIN, "array": np.arange(6.0)}, 2 + seed)
    for _ in range(400):
        content = bytearray(whole)
        for place in rng.integers(len(content), size=3):
            content[place] = rng.integers(256)
        with contextlib.suppress(ValueError):
            load(bytes(content))
