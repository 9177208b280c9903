"""A source or an output that changed since: never a mixture, never "done" of what is not there."""

import hashlib
import os
import pathlib
import shutil

import pytest

from alexnet_tf.data import records
from data_prep import convert, preparation, writer

SETTINGS = preparation.Settings(image_size=32, shards=3, source_name="source")


def digests(folder):
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(pathlib.Path(folder).iterdir())
    }


def stopped_after(shards):
    """A run that is interrupted after a number of shards."""

    def run(job, left, progress):
        for shard in left[:shards]:
            yield writer.write_shard(job, shard)
        raise KeyboardInterrupt

    return run


def remade(made):
    def run(job, left, progress):
        for shard in left:
            made.append(shard.file_name)
            yield writer.write_shard(job, shard)

    return run


def carried_on(source, output, change):
    """What is there after an interruption, a change and the same command again; what it made."""
    with pytest.raises(KeyboardInterrupt):
        preparation.prepare(str(source), str(output), SETTINGS, run=stopped_after(4))
    change()
    made = []
    preparation.prepare(str(source), str(output), SETTINGS, run=remade(made))
    return digests(output), made


def replace(path, other):
    """Other content of the same size under the same name."""
    content = other.read_bytes()
    size = path.stat().st_size
    # Behind a JPEG's end there may be anything.
    assert len(content) <= size
    path.write_bytes(content + bytes(size - len(content)))


@pytest.fixture
def source(photo_folders, tmp_path):
    return pathlib.Path(shutil.copytree(photo_folders, tmp_path / "source"))


def test_an_image_replaced_by_one_of_its_size(source, tmp_path):
    images = sorted((source / "train").rglob("*.jpg"), key=lambda path: path.stat().st_size)
    found, made = carried_on(source, tmp_path / "out", lambda: replace(images[-1], images[0]))
    preparation.prepare(str(source), str(tmp_path / "fresh"), SETTINGS, workers=1)
    assert found == digests(tmp_path / "fresh")
    # Of the four finished shards only that of the image, and the one that was not begun.
    assert len(made) == 2


def test_an_image_of_another_size_and_one_that_is_new(source, tmp_path):
    images = sorted((source / "train").rglob("*.jpg"))

    def change():
        shutil.copy(images[0], images[-1])
        shutil.copy(images[1], images[1].with_name("new.jpg"))

    found, _ = carried_on(source, tmp_path / "out", change)
    preparation.prepare(str(source), str(tmp_path / "fresh"), SETTINGS, workers=1)
    assert found == digests(tmp_path / "fresh")


def test_a_source_that_did_not_change_is_not_converted_again(source, tmp_path):
    _, made = carried_on(source, tmp_path / "out", lambda: None)
    assert len(made) == 1


def idx(*numbers):
    return b"".join(number.to_bytes(4, "big") for number in numbers)


def write_mnist(folder, value):
    folder.mkdir(exist_ok=True)
    for prefix, count in (("train", 30), ("t10k", 10)):
        pixels = b"".join(bytes([value, n]) * 392 for n in range(count))
        content = idx(2051, count, 28, 28) + pixels
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(content)
        labels = bytes(n % 10 for n in range(count))
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(idx(2049, count) + labels)


def test_an_array_replaced_by_one_of_its_size(tmp_path):
    source = tmp_path / "mnist"
    write_mnist(source, 1)
    found, _ = carried_on(source, tmp_path / "out", lambda: write_mnist(source, 2))
    preparation.prepare(str(source), str(tmp_path / "fresh"), SETTINGS, workers=1)
    assert found == digests(tmp_path / "fresh")


def test_a_tfds_data_set_that_was_made_anew(source, tmp_path):
    """In another order, so that all counts and sizes are the same."""
    prepared = tmp_path / "prepared"

    def make(seed):
        shutil.rmtree(prepared, ignore_errors=True)
        settings = preparation.Settings(image_size=32, seed=seed)
        preparation.prepare(str(source), str(prepared), settings, workers=1)

    def change():
        make(seed=1)

    make(seed=0)
    found, _ = carried_on(f"tfds:{prepared}", tmp_path / "out", change)
    preparation.prepare(f"tfds:{prepared}", str(tmp_path / "fresh"), SETTINGS, workers=1)
    assert found == digests(tmp_path / "fresh")


def test_an_image_that_grows_while_it_is_converted(source, tmp_path, monkeypatch):
    victim, make_plan = sorted((source / "train").rglob("*.jpg"))[0], preparation.plan.make_plan

    def grow(*arguments):
        made = make_plan(*arguments)
        with open(victim, "ab") as file:
            file.write(b"more")
        return made

    monkeypatch.setattr(preparation.plan, "make_plan", grow)
    with pytest.raises(ValueError, match="let nothing change the source"):
        preparation.prepare(str(source), str(tmp_path / "out"), SETTINGS, workers=1)


@pytest.fixture
def finished(source, tmp_path):
    """The flags of a conversion that has been done."""
    flags = [f"--source={source}", f"--output={tmp_path}/out", "--image_size=32", "--workers=1"]
    assert convert.main(flags) == 0
    return flags


def failed(capsys, flags):
    assert convert.main(flags) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    return error


def test_already_prepared(finished, source, tmp_path, capsys):
    capsys.readouterr()
    before = digests(tmp_path / "out")
    for _ in range(2):
        assert convert.main(finished) == 0
        said = capsys.readouterr().out
        assert "is already prepared, nothing was done: 84 train, 42 validation" in said
        shutil.rmtree(source, ignore_errors=True)  # a source that is gone is not compared
    assert digests(tmp_path / "out") == before


@pytest.mark.parametrize("damage", ["removed", "cut"])
def test_a_finished_output_that_lacks_a_shard(finished, tmp_path, capsys, damage):
    [shard] = (tmp_path / "out").glob("imagenet-validation*")
    if damage == "removed":
        shard.unlink()
    else:
        os.truncate(shard, 100)
    error = failed(capsys, finished)
    assert f"1 of its 2 shards are missing or have another size, the first is {shard.name}" in error


@pytest.mark.parametrize("change", ["more", "fewer", "size"])
def test_a_source_that_changed_after_the_conversion(finished, source, tmp_path, capsys, change):
    image = sorted((source / "train").rglob("*.jpg"))[0]
    if change == "more":
        for number in range(110):
            folder = source / "train" / ("new_class" if number % 2 else image.parent.name)
            folder.mkdir(exist_ok=True)
            shutil.copy(image, folder / f"new_{number}.jpg")
    elif change == "fewer":
        image.unlink()
    else:
        shutil.copy(sorted((source / "train").rglob("*.jpg"))[-1], image)
    before = digests(tmp_path / "out")
    error = failed(capsys, finished)
    files = records.read_manifest(f"{tmp_path}/out")["source"]["files"]
    assert f"{tmp_path}/out was prepared when {source} held {files} files" in error
    assert "name another --output, or remove" in error
    assert digests(tmp_path / "out") == before


def test_an_older_manifest_says_nothing_of_its_source(finished, source, tmp_path, capsys):
    import json

    path = tmp_path / "out" / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["source"]
    path.write_text(json.dumps(manifest))
    shutil.copy(sorted((source / "train").rglob("*.jpg"))[-1], source / "train" / "x.jpg")
    capsys.readouterr()
    assert convert.main(finished) == 0
    assert "already prepared" in capsys.readouterr().out
