"""Runs killed at any moment, or on a full disk, end with the same bits.

Each is a process of the training command on tiny.py's network, with dropout, mirrors, colour noise
and deterministic operations (the default).
"""

import csv
import hashlib
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

from alexnet_tf import models  # noqa: F401 (registers the layers)

pytestmark = pytest.mark.slow

HERE = pathlib.Path(__file__).parent
EPOCHS, STEPS = 10, 120
RECIPE = (
    "--recipe=quickstart",
    "--model=tiny",
    "--crop_size=35",
    f"--epochs={EPOCHS}",
    "--batch_size=8",
    "--dropout=0.5",
    "--checkpoint_every=2",
)
KILLS = 20


class Trainer:
    """Starts runs from a process that has imported TensorFlow already."""

    def __init__(self, records):
        self.records = records
        self.process = subprocess.Popen(
            [sys.executable, HERE / "tiny.py", "FORKS"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(HERE.parents[1])},
        )

    def start(self, workdir, *flags) -> int:
        """The process id of a new run."""
        log = f"{workdir}.log"
        pathlib.Path(log).unlink(missing_ok=True)
        arguments = [*RECIPE, f"--data_dir={self.records}", f"--workdir={workdir}", *flags]
        self.process.stdin.write(json.dumps([log, *arguments]) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def wait(self) -> int:
        """The exit code of the run."""
        return int(self.process.stdout.readline())

    def run(self, workdir, *flags):
        """(exit code, last line of the output)."""
        self.start(workdir, *flags)
        code = self.wait()
        text = pathlib.Path(f"{workdir}.log").read_text()
        assert "Traceback" not in text, text[-3000:]
        return code, text.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def trainer(photo_records):
    trainer = Trainer(photo_records)
    yield trainer
    trainer.process.stdin.close()
    trainer.process.wait(timeout=60)


@pytest.fixture(scope="module")
def straight(trainer, tmp_path_factory):
    """A run that nothing disturbed."""
    workdir = tmp_path_factory.mktemp("straight") / "run"
    assert trainer.run(workdir)[0] == 0
    return workdir


def _digest(workdir):
    model = keras.models.load_model(workdir / "model.keras")
    content = b"".join(np.asarray(variable).tobytes() for variable in model.weights)
    return hashlib.sha256(content).hexdigest()


def _history(workdir):
    with open(workdir / "metrics.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [{key: row[key] for key in row if "second" not in key} for row in rows]


def _checkpoints(workdir):
    found = (workdir / "checkpoints").glob("step-*")
    return sorted(int(path.name.removeprefix("step-")) for path in found)


def _is_writing(workdir):
    return any((workdir / "checkpoints").glob(".writing-*"))


def _wait_until(condition, process_id):
    ends = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < ends, "it did not happen within a minute"
        assert pathlib.Path(f"/proc/{process_id}").exists(), "the run ended before it was killed"
        time.sleep(0.0005)


def test_twenty_kills_at_random_end_in_the_same_bits(trainer, straight, tmp_path):
    """At steps uniform over the run: ten at any moment, six inside a checkpoint's write, and four
    at any moment of the start, in which the state is restored."""
    draw = random.Random(20120930)
    steps = sorted(draw.uniform(0, STEPS - 6) for _ in range(KILLS))
    kinds = ["any"] * 10 + ["write"] * 6 + ["start"] * 4
    draw.shuffle(kinds)
    workdir = tmp_path / "run"
    half_written = 0
    for step, kind in zip(steps, kinds, strict=True):
        child = trainer.start(workdir)
        if kind == "start":
            time.sleep(draw.uniform(0, 2))
        else:
            _wait_until(lambda step=step: max(_checkpoints(workdir), default=0) >= step, child)
            time.sleep(draw.uniform(0, 0.2))
            if kind == "write":
                _wait_until(lambda: _is_writing(workdir), child)
                time.sleep(draw.uniform(0, 0.003))
        os.kill(child, signal.SIGKILL)
        assert trainer.wait() == -signal.SIGKILL
        half_written += _is_writing(workdir)
        assert not (workdir / "model.keras").exists()
    assert half_written >= 3, "too few kills hit a checkpoint's write to say anything about it"
    assert trainer.run(workdir)[0] == 0
    assert _digest(workdir) == _digest(straight)
    assert _history(workdir) == _history(straight)
    best = [run / "checkpoints" / "best" for run in (workdir, straight)]
    assert best[0].read_text() == best[1].read_text()
    assert int(best[0].read_text()) in _checkpoints(workdir)
    assert not list(workdir.rglob(".writing*"))


def test_another_seed_ends_in_other_bits(trainer, straight, tmp_path):
    """Or the comparison above would say nothing."""
    assert trainer.run(tmp_path / "run", "--seed=1")[0] == 0
    assert _digest(tmp_path / "run") != _digest(straight)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one megabyte."""
    directory = tmp_path / "disk"
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(directory)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs rights that this user does not have")
    yield directory
    subprocess.run(["umount", "--lazy", str(directory)], check=True)


def test_a_full_disk_leaves_the_old_checkpoint(trainer, straight, small_disk, tmp_path):
    workdir, log = small_disk / "run", tmp_path / "log"
    child = trainer.start(workdir)
    _wait_until(lambda: _checkpoints(workdir), child)
    os.kill(child, signal.SIGTERM)
    assert trainer.wait() == 75
    before = _checkpoints(workdir)
    free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
    (small_disk / "ballast").write_bytes(bytes(free - 40_000))
    code, line = trainer.run(workdir)
    assert code == 1
    assert line.startswith("error: ") and "ree some space and run the same command" in line, line
    assert _checkpoints(workdir)[-1] >= before[-1], log
    (small_disk / "ballast").unlink()
    assert trainer.run(workdir)[0] == 0
    assert _digest(workdir) == _digest(straight)


def test_profiles_a_few_steps(trainer, tmp_path):
    assert trainer.run(tmp_path / "run", "--epochs=1", "--profile=3")[0] == 0
    assert list((tmp_path / "run" / "tensorboard" / "plugins" / "profile").rglob("*.xplane.pb"))
