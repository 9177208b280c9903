"""A file is whole or not there, whatever happens while it is written."""

import json
import os

import pytest

from alexnet_tf import atomic


def test_a_file_appears_when_it_is_finished(tmp_path):
    path = tmp_path / "new" / "deeper" / "table.npy"
    with atomic.replacing(path) as aside:
        assert os.path.splitext(aside)[1] == ".npy"  # by which np.save and Keras know what to do
        assert os.path.dirname(aside) == str(path.parent)  # one disk: a renaming, not a copy
        with open(aside, "wb") as file:
            file.write(b"half")
            assert not path.exists()
            file.write(b" and half")
    assert path.read_bytes() == b"half and half"
    assert os.listdir(path.parent) == ["table.npy"]


def test_what_was_there_stays_when_the_writing_fails(tmp_path):
    path = tmp_path / "results.json"
    atomic.write_json(path, {"top1_error": 0.25})
    before = path.read_bytes()
    with pytest.raises(OSError, match="disk"), atomic.replacing(path) as aside:
        with open(aside, "wb") as file:
            file.write(b"half")
        raise OSError("the disk is full")
    with pytest.raises(TypeError):
        atomic.write_json(path, {"top1_error": object()})
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["results.json"]


def test_two_writers_do_not_share_a_name_aside(tmp_path):
    path = tmp_path / "one.txt"
    with atomic.replacing(path) as first, atomic.replacing(path) as second:
        assert first != second
        for aside, text in ((first, "first"), (second, "second")):
            with open(aside, "w", encoding="utf-8") as file:
                file.write(text)
    assert path.read_text() == "first" and os.listdir(tmp_path) == ["one.txt"]


def test_texts_and_json_come_back_as_they_were(tmp_path):
    atomic.write_text(tmp_path / "t.csv", "a,b\n1,é\n")
    assert (tmp_path / "t.csv").read_bytes() == "a,b\n1,é\n".encode()
    atomic.write_json(tmp_path / "j.json", {"a": [1, None]})
    assert json.loads((tmp_path / "j.json").read_text()) == {"a": [1, None]}
    assert (tmp_path / "j.json").read_text().endswith("}\n")
