"""What is no regular file, and names that are no text: named, counted, and never waited for."""

import os
import pathlib
import socket

import pytest

from alexnet_tf import files
from alexnet_tf.data import records
from data_prep import convert, preparation, verify


@pytest.fixture
def source(tmp_path, real):
    """Two classes of three images each, for training and for validation."""
    for split, height in (("train", 60), ("val", 64)):
        for name in ("cat", "coffee"):
            for number in range(3):
                photograph = "chelsea" if name == "cat" else "coffee"
                pixels = real.photograph(photograph, height, 70 + number)
                real.write(tmp_path / "source" / split / name / f"{number}.jpg", real.jpeg(pixels))
    return tmp_path / "source"


@pytest.fixture
def in_folder(monkeypatch):
    """A function: binds a socket at a path, whose length the system bounds, from its folder."""

    def bind(path):
        monkeypatch.chdir(path.parent)
        with socket.socket(socket.AF_UNIX) as opened:
            opened.bind(path.name)
        monkeypatch.undo()

    return bind


def failed(capsys, *flags):
    assert convert.main([*map(str, flags), "--workers=1"]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    return error


ODD = {
    "z.jpg": "a FIFO",
    "no_ending": "a FIFO",
    "socket.jpg": "a socket",
    "dangling.jpg": "a link that leads nowhere",
    "loop.jpg": "a link that leads nowhere",
}


def make_odd(folder, name, bind):
    kind = ODD[name]
    if kind == "a FIFO":
        os.mkfifo(folder / name)
    elif kind == "a socket":
        bind(folder / name)
    else:
        (folder / name).symlink_to(name if name == "loop.jpg" else "nothing.jpg")


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("below", ["train/cat", "train", "."])
def test_what_is_no_regular_file_counts_as_a_bad_image(
    source, tmp_path, capsys, in_folder, name, below
):
    make_odd(source / below, name, in_folder)
    flags = (f"--source={source}", f"--output={tmp_path}/out")
    error = failed(capsys, *flags)
    assert name in error and ODD[name] in error and "--max_bad" in error
    assert not (tmp_path / "out").exists()
    assert convert.main([*flags, "--workers=1", "--max_bad=1"]) == 0
    manifest = records.read_manifest(f"{tmp_path}/out")
    assert manifest["rejects"] == [[os.path.normpath(f"{below}/{name}"), ODD[name]]]
    assert manifest["counts"] == {"train": 6, "validation": 6}


def test_a_file_that_becomes_a_fifo_while_it_is_converted(source, tmp_path, monkeypatch):
    victim, make_plan = source / "train" / "cat" / "1.jpg", preparation.plan.make_plan

    def replace(*arguments):
        made = make_plan(*arguments)
        victim.unlink()
        os.mkfifo(victim)
        return made

    monkeypatch.setattr(preparation.plan, "make_plan", replace)
    with pytest.raises(OSError, match="no regular file"):
        preparation.prepare(str(source), f"{tmp_path}/out", workers=1)


@pytest.mark.parametrize("name", ["z.jpg", "socket.jpg", "dangling.jpg", "loop.jpg"])
def test_only_regular_files_are_opened(tmp_path, in_folder, name):
    make_odd(tmp_path, name, in_folder)
    for opens in (files.open_regular, files.open_binary):
        with pytest.raises(OSError) as caught:
            opens(str(tmp_path / name))
        assert caught.value.filename == str(tmp_path / name)


def test_regular_files_behind_links_are_opened(tmp_path):
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    with files.open_regular(pathlib.Path(tmp_path / "link")) as file:
        assert file.read() == b"content" and file.seek(3) == 3 and file.read() == b"tent"
    with pytest.raises(OSError, match="no regular file"):
        files.open_regular(tmp_path)


def no_utf8(name):
    return os.fsdecode(name.encode() + b"_\xff")


@pytest.mark.parametrize("name", [no_utf8("p") + ".jpg", "two\nlines.jpg", "é\u2028.jpg", " .jpg"])
def test_file_names_travel_as_they_are(source, tmp_path, capsys, name):
    import tensorflow_datasets as tfds

    os.rename(source / "train" / "cat" / "1.jpg", source / "train" / "cat" / name)
    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    preparation.prepare(str(source), first, preparation.Settings(image_size=32), workers=1)
    preparation.prepare(f"tfds:{first}", second, preparation.Settings(image_size=32), workers=1)
    for output in (first, second):
        builder = tfds.builder_from_directory(output)
        stored = {row["file_name"] for row in tfds.as_numpy(builder.as_dataset(split="train"))}
        assert os.fsencode(name) in stored and len(stored) == 4
        assert verify.main([f"--data_dir={output}", "--workers=1"]) == 0


def test_a_bad_image_is_named_whatever_its_name(source, tmp_path, capsys):
    name = no_utf8("p") + ".jpg"
    (source / "train" / "cat" / name).write_bytes(b"\xff\xd8\xff")
    flags = (f"--source={source}", f"--output={tmp_path}/out")
    assert r"train/cat/p_\udcff.jpg cannot be used" in failed(capsys, *flags)
    assert convert.main([*flags, "--workers=1", "--max_bad=1"]) == 0
    [[file, _]] = records.read_manifest(f"{tmp_path}/out")["rejects"]
    assert file == f"train/cat/{name}"


@pytest.mark.parametrize(
    "name",
    [no_utf8("p"), "cof\nfee", "cof\rfee", "cof\u2028fee", "cof\x0cfee", " coffee", "coffee "],
)
def test_a_class_name_that_a_list_of_names_cannot_hold_is_refused(source, tmp_path, capsys, name):
    """TFDS stores the classes as lines of a text, and takes spaces off their ends."""
    for split in ("train", "val"):
        os.rename(source / split / "coffee", source / split / name)
    error = failed(capsys, f"--source={source}", f"--output={tmp_path}/out")
    assert f"the first is {name!r}" in error and "rename the folder" in error
    assert os.listdir(tmp_path) == ["source"]


def test_an_output_whose_name_is_no_utf8(source, tmp_path, capsys):
    error = failed(capsys, f"--source={source}", f"--output={tmp_path}/{no_utf8('out')}")
    assert r"out_\udcff" in error and "another --output" in error
    assert os.listdir(tmp_path) == ["source"]


def test_a_source_whose_name_is_no_utf8(source, tmp_path):
    renamed = source.rename(tmp_path / no_utf8("source"))
    manifest = preparation.prepare(str(renamed), f"{tmp_path}/out", workers=1)
    assert manifest["counts"] == {"train": 6, "validation": 6}
