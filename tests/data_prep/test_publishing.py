"""Who may write an output, and how it gets its name: two converters, kills in the middle."""

import concurrent.futures
import hashlib
import os
import pathlib
import threading

import pytest
import tensorflow as tf

from alexnet_tf.data import records
from data_prep import convert, layouts, photos, plan, preparation, publishing, writer

SETTINGS = preparation.Settings(image_size=32, shards=3, source_name="photos")


def digests(folder):
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(pathlib.Path(folder).iterdir())
    }


@pytest.fixture(scope="module")
def whole(photo_folders, tmp_path_factory):
    output = str(tmp_path_factory.mktemp("publishing") / "whole")
    preparation.prepare(photo_folders, output, SETTINGS, workers=1)
    return digests(output)


def made(shards):
    """How `prepare` runs shards, noting which it makes."""

    def run(job, left, progress):
        for shard in left:
            shards.append(shard.file_name)
            yield writer.write_shard(job, shard, progress)

    return run


def test_the_loser_of_two_converters_removes_nothing(photo_folders, tmp_path, monkeypatch, whole):
    """The second one finds no work directory, and before it makes one the first one does."""
    output, makedirs = str(tmp_path / "out"), tf.io.gfile.makedirs
    underway, refused = threading.Event(), threading.Event()

    def slowly(job, shards, progress):
        underway.set()
        assert refused.wait(60)
        yield from made([])(job, shards, progress)

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        first = []

        def makes_way(path):
            if not first:
                first.append(None)  # the first converter's own calls pass
                first[0] = pool.submit(
                    preparation.prepare, photo_folders, output, SETTINGS, 1, slowly
                )
                assert underway.wait(60)
            makedirs(path)

        monkeypatch.setattr(tf.io.gfile, "makedirs", makes_way)
        try:
            with pytest.raises(BlockingIOError, match="Another conversion"):
                preparation.prepare(photo_folders, output, SETTINGS, 1)
        finally:
            refused.set()
        first[0].result(60)
    assert digests(output) == whole
    assert os.listdir(tmp_path) == ["out"]


def test_a_converter_that_comes_as_another_finishes_makes_nothing(
    photo_folders, tmp_path, monkeypatch, whole
):
    """It looked for the output before that was there, and gets the lock when it is."""
    output, find, shards = str(tmp_path / "out"), layouts.find, []

    def overtaken(*arguments):
        monkeypatch.setattr(layouts, "find", find)
        preparation.prepare(photo_folders, output, SETTINGS, 1)
        return find(*arguments)

    monkeypatch.setattr(layouts, "find", overtaken)
    preparation.prepare(photo_folders, output, SETTINGS, 1, made(shards))
    assert shards == [] and digests(output) == whole
    assert os.listdir(tmp_path) == ["out"]


def test_a_lock_on_a_directory_that_was_renamed_does_not_count(tmp_path, monkeypatch):
    """Between opening the lock file and locking it the other converter may finish."""
    import fcntl

    folder, locks = tmp_path / "out.partial", []

    def late(file, operation):
        if not locks:
            os.rename(folder, tmp_path / "out")
        locks.append(operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with publishing.exclusive(str(folder)):
        assert len(locks) == 2 and os.listdir(folder) == [publishing.LOCK]


@pytest.mark.parametrize("scheme", ["", "file://"])
@pytest.mark.parametrize("moved", [0, 1, 4, 7, 9])
def test_killed_while_it_is_published(photo_folders, tmp_path, monkeypatch, whole, scheme, moved):
    """Nothing that was converted is converted again, and the result is the same."""
    output, files, calls = f"{scheme}{tmp_path}/out", [], []
    originals = {"rename": tf.io.gfile.rename, "remove": tf.io.gfile.remove}
    replace = os.replace

    def dies_after(name, call):
        def count(*arguments, **options):
            if publishing_now:
                if len(calls) == moved:
                    raise KeyboardInterrupt
                calls.append(name)
            return call(*arguments, **options)

        return count

    publishing_now = []
    publish = publishing.publish

    def watched(*arguments):
        publishing_now.append(True)
        publish(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(publishing, "publish", watched)
        for name, call in originals.items():
            patch.setattr(tf.io.gfile, name, dies_after(name, call))
        patch.setattr(os, "replace", dies_after("replace", replace))
        with pytest.raises(KeyboardInterrupt):
            preparation.prepare(photo_folders, output, SETTINGS, 1)
    preparation.prepare(photo_folders, output, SETTINGS, 1, made(files))
    assert files == []
    assert digests(tmp_path / "out") == whole
    assert os.listdir(tmp_path) == ["out"]


def test_what_is_no_part_of_an_interrupted_output_is_left_alone(photo_folders, tmp_path, capsys):
    output = tmp_path / "out"
    output.mkdir()
    (output / "mine.txt").write_text("precious")
    assert convert.main([f"--source={photo_folders}", f"--output=file://{output}"]) == 1
    assert "no prepared data set" in capsys.readouterr().err
    assert os.listdir(output) == ["mine.txt"]


def test_two_calls_for_the_photographs_at_once(tmp_path, monkeypatch):
    """Each makes its images in a place of its own, and takes nothing away from the other."""
    output, make_plan = str(tmp_path / "records"), plan.make_plan
    underway, refused = threading.Event(), threading.Event()

    def waits(*arguments):
        made = make_plan(*arguments)
        underway.set()
        assert refused.wait(60)
        return made

    monkeypatch.setattr(plan, "make_plan", waits)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        first = pool.submit(photos.prepare_photos, output, 28, 14)
        assert underway.wait(60)
        try:
            with pytest.raises(BlockingIOError, match="Another conversion"):
                photos.prepare_photos(output, 28, 14)
        finally:
            refused.set()
        assert first.result(60) == output
    assert records.read_manifest(output)["counts"] == {"train": 28, "validation": 14}
    assert os.listdir(tmp_path) == ["records"]


@pytest.mark.parametrize("layout", ["folders", "mnist", "tars"])
def test_a_tfds_source_has_no_other_layout(tmp_path, capsys, layout):
    flags = ["--source=tfds:no_such_set", f"--output={tmp_path}/out", f"--layout={layout}"]
    assert convert.main(flags) == 1
    assert f"--layout={layout}" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []
