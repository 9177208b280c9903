"""A workdir is locked, local and writable."""

import json
import os
import shutil
import subprocess
import sys

import keras
import pytest

from alexnet_tf import train
from alexnet_tf.training import loop, workdir


def test_a_second_training_is_refused_at_once(tiny_run, tmp_path):
    run = tiny_run()
    with (
        workdir.held(run.workdir),
        pytest.raises(BlockingIOError, match=r"Another training is running in .*process \d+ on"),
    ):
        loop.train(run)
    assert not (tmp_path / "run" / "checkpoints").exists()
    loop.train(tiny_run(epochs=1))


def test_the_lock_of_a_killed_process_is_free(tmp_path):
    code = (
        "import os, sys; from alexnet_tf.training import workdir\n"
        "with workdir.held(sys.argv[1]): os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True)
    assert done.returncode == -9, done.stderr
    with workdir.held(str(tmp_path)):
        assert f"process {os.getpid()} on" in (tmp_path / ".lock").read_text()


@pytest.mark.parametrize("place", ["gs://bucket/run", "file:///tmp/run", "s3://b"])
def test_a_remote_workdir_is_refused(place, tiny_run, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert train.main([f"--workdir={place}", "--recipe=quickstart"]) == 2
    assert "expected a path of this machine" in capsys.readouterr().err
    with pytest.raises(ValueError, match="expected a directory of this machine"):
        workdir.require_local(place)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", ["a file", "a file/run"])
def test_an_impossible_workdir_is_not_called_a_full_disk(place, tiny_run, tmp_path):
    (tmp_path / "a file").write_text("in the way")
    with pytest.raises(OSError, match=r"cannot be kept in .*name a writable --workdir"):
        loop.train(tiny_run(place))


class _Remove(keras.callbacks.Callback):
    """Removes the workdir in the middle of the run."""

    def __init__(self, path):
        super().__init__()
        self.path = path

    def on_train_batch_end(self, step, logs=None):
        if step == 4:
            shutil.rmtree(self.path)


def test_a_workdir_that_is_removed_has_all_results_at_the_end(tiny_run, tmp_path):
    run = tiny_run()
    loop.train(run, callbacks=[_Remove(run.workdir)])
    for name in ("config.json", "metrics.csv", "results.json", "model.keras"):
        assert (tmp_path / "run" / name).exists(), name
    assert json.loads((tmp_path / "run" / "config.json").read_text())["seed"] == 1
