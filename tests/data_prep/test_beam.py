"""Beam and remote paths give what the local run gives, to the byte."""

import hashlib
import importlib.util
import pathlib

import pytest

from alexnet_tf.data import records
from data_prep import convert, preparation


def digests(folder):
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(pathlib.Path(folder).iterdir())
    }


def test_remote_paths_go_through_tf_io_gfile(photo_folders, tmp_path):
    """file:// is a scheme of tf.io.gfile, and is treated as every other one."""
    local, remote = tmp_path / "local", tmp_path / "remote"
    settings = preparation.Settings(image_size=64, shards=3, source_name="photos")
    preparation.prepare(photo_folders, str(local), settings, workers=1)
    preparation.prepare(f"file://{photo_folders}", f"file://{remote}", settings, workers=1)
    assert digests(remote) == digests(local)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["local", "remote"]
    assert records.open_dataset(str(remote)).counts == {"train": 84, "validation": 42}


@pytest.mark.skipif(importlib.util.find_spec("apache_beam") is not None, reason="Beam is there")
def test_beam_that_is_not_installed(photo_folders, tmp_path, capsys):
    flags = [f"--source={photo_folders}", f"--output={tmp_path}/out", "--runner=beam"]
    assert convert.main(flags) == 1
    assert "pip install 'alexnet-tf[beam]'" in capsys.readouterr().err


@pytest.mark.slow
def test_beam_gives_the_local_output(photo_folders, tmp_path, real):
    pytest.importorskip("apache_beam")
    local, beam = tmp_path / "local", tmp_path / "beam"
    preparation.prepare(photo_folders, str(local), preparation.Settings(shards=5), workers=1)
    done = real.run(
        *("data_prep.convert", f"--source={photo_folders}", f"--output={beam}", "--shards=5"),
        *("--runner=beam", "--", "--runner=DirectRunner", "--direct_num_workers=2"),
        "--direct_running_mode=multi_processing",
    )
    assert done.returncode == 0, done.stderr
    assert digests(beam) == digests(local)


@pytest.mark.slow
def test_beam_stops_at_a_bad_image_with_one_sentence(tmp_path, real):
    pytest.importorskip("apache_beam")
    real.write(tmp_path / "source" / "train" / "cat" / "cut.jpg", b"\xff\xd8\xff\xe0 cut off")
    done = real.run(
        *("data_prep.convert", f"--source={tmp_path}/source", f"--output={tmp_path}/out"),
        *("--runner=beam", "--", "--runner=DirectRunner"),
    )
    assert done.returncode == 1
    assert "train/cat/cut.jpg cannot be used" in real.last_line(done.stderr)
    assert not (tmp_path / "out").exists()
