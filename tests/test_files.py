"""A file is whole or not there, whatever happens while it is written."""

import errno
import hashlib
import json
import os
import pathlib
import subprocess
import sys

import pytest

from alexnet_tf import files


def test_a_file_appears_when_it_is_finished(tmp_path):
    path = tmp_path / "new" / "deeper" / "table.npy"
    with files.replacing(path) as aside:
        assert os.path.splitext(aside)[1] == ".npy"  # by which np.save and Keras know what to do
        # Inside one directory, so on one disk: a renaming, not a copy.
        assert os.path.dirname(os.path.dirname(aside)) == str(path.parent)
        with open(aside, "wb") as file:
            file.write(b"half")
            assert not path.exists()
            file.write(b" and half")
    assert path.read_bytes() == b"half and half"
    assert os.listdir(path.parent) == ["table.npy"]


def test_what_was_there_stays_when_the_writing_fails(tmp_path):
    path = tmp_path / "results.json"
    files.write_json(path, {"top1_error": 0.25})
    before = path.read_bytes()
    with pytest.raises(OSError, match="disk"), files.replacing(path) as aside:
        with open(aside, "wb") as file:
            file.write(b"half")
        raise OSError("the disk is full")
    with pytest.raises(TypeError):
        files.write_json(path, {"top1_error": object()})
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["results.json"]


def test_two_writers_do_not_share_a_name_aside(tmp_path):
    path = tmp_path / "one.txt"
    with files.replacing(path) as first, files.replacing(path) as second:
        assert first != second
        for aside, text in ((first, "first"), (second, "second")):
            with open(aside, "w", encoding="utf-8") as file:
                file.write(text)
    assert path.read_text() == "first" and os.listdir(tmp_path) == ["one.txt"]


KILLED = """
import sys
from alexnet_tf import files

with files.replacing(sys.argv[1]) as aside:
    with open(aside, "wb") as file:
        file.write(bytes(1000))
    print("writing", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def writer(tmp_path):
    """A process that is in the middle of writing model.keras."""
    arguments = [sys.executable, "-c", KILLED, str(tmp_path / "model.keras")]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"writing\n"
        yield process
        process.kill()


def _aside(directory):
    return [name for name in os.listdir(directory) if name.startswith(".writing-")]


def test_what_a_killed_process_left_is_removed_by_the_next(writer, tmp_path):
    writer.kill()
    writer.wait()
    assert len(_aside(tmp_path)) == 1
    files.write_text(tmp_path / "other.csv", "a")
    assert os.listdir(tmp_path) == ["other.csv"]


def test_what_another_process_is_writing_is_left_alone(writer, tmp_path):
    before = _aside(tmp_path)
    files.write_text(tmp_path / "other.csv", "a")
    assert len(before) == 1 and _aside(tmp_path) == before
    writer.communicate(b"")
    assert writer.returncode == 0
    assert sorted(os.listdir(tmp_path)) == ["model.keras", "other.csv"]


def test_leftovers_of_earlier_versions_go_and_other_names_stay(tmp_path):
    file = tmp_path / f".writing-{'0' * 32}-model.keras"
    folder = tmp_path / f".writing-{'a' * 32}"
    others = [tmp_path / ".writing-000000200", tmp_path / ".writing-letters-home.txt"]
    outside = tmp_path / "outside"
    for path in (file, *others, outside):
        path.write_text("x")
    (folder / "variables").mkdir(parents=True)
    link = tmp_path / f".writing-{'b' * 32}"
    link.symlink_to(outside)
    files.write_text(tmp_path / "new.txt", "a")
    assert not file.exists() and not folder.exists()
    assert all(path.exists() for path in (*others, outside))


def test_a_full_disk_names_the_file(tmp_path):
    path = tmp_path / "model.keras"
    full = pytest.raises(OSError, match=r"No space left.*model\.keras")
    with full as error, files.replacing(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert error.value.errno == errno.ENOSPC and os.listdir(tmp_path) == []


def test_texts_and_json_come_back_as_they_were(tmp_path):
    files.write_text(tmp_path / "t.csv", "a,b\n1,é\n")
    assert (tmp_path / "t.csv").read_bytes() == "a,b\n1,é\n".encode()
    files.write_json(tmp_path / "j.json", {"a": [1, None]})
    assert json.loads((tmp_path / "j.json").read_text()) == {"a": [1, None]}
    assert (tmp_path / "j.json").read_text().endswith("}\n")


@pytest.mark.parametrize("prefix", ["", "file://"])
def test_a_staged_file_appears_when_it_is_finished(tmp_path, prefix):
    """file:// is a scheme of tf.io.gfile, and is treated as every other one."""
    path = f"{prefix}{tmp_path}/shard"
    for content in (b"first", b"second"):  # the second replaces the first
        with files.staged(path) as aside, files.create_binary(aside) as file:
            assert aside.startswith(path) and aside.endswith(files.STAGED_SUFFIX)
            file.write(content)
    with pytest.raises(RuntimeError), files.staged(path) as aside:
        with files.create_binary(aside) as file:
            file.write(b"half")
        raise RuntimeError
    assert os.listdir(tmp_path) == ["shard"]
    with files.open_binary(path) as file:
        assert file.read() == b"second"
    assert files.fingerprint(path) == (6, hashlib.sha256(b"second").hexdigest())


def test_two_writers_of_a_shared_staged_file_do_not_share_a_name(tmp_path):
    path = str(tmp_path / "shard")
    with files.staged(path) as first, files.staged(path) as second:
        assert first != second
        for aside in (first, second):
            pathlib.Path(aside).write_text("same")
    left = tmp_path / f"index{files.STAGED_SUFFIX}"
    left.write_text("of a killed process")
    with files.staged(str(tmp_path / "index"), shared=False) as aside:
        assert aside == str(left)
        pathlib.Path(aside).write_text("whole")
    assert sorted(os.listdir(tmp_path)) == ["index", "shard"]


def test_no_tensorflow_for_local_files():
    code = (
        "import sys, tempfile; from alexnet_tf import files; folder = tempfile.mkdtemp(); "
        "files.write_json(folder + '/a', 1); files.fingerprint(folder + '/a'); "
        "sys.exit('tensorflow' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
