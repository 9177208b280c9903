"""Two processes on localhost train as one, and resume after either is killed.

The network is tiny.py's: AlexNet's entries on few pixels, with dropout, mirrors and colour noise.
"""

import csv
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

from alexnet_tf import models  # noqa: F401 (registers the layers)

pytestmark = pytest.mark.slow

HERE = pathlib.Path(__file__).parent
# Small, so that ReLU and max-pool do not amplify the last bits of the sums.
RECIPE = (
    "--recipe=quickstart",
    "--model=tiny",
    "--crop_size=35",
    "--epochs=4",
    "--batch_size=8",
    "--dropout=0.5",
    "--learning_rate=0.001",
    "--checkpoint_every=3",
)


def _start(records, workdir, *flags, config=None):
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[1])}
    environment.pop("TF_CONFIG", None)
    if config:
        environment["TF_CONFIG"] = json.dumps(config)
    return subprocess.Popen(
        [
            sys.executable,
            HERE / "tiny.py",
            *RECIPE,
            f"--data_dir={records}",
            f"--workdir={workdir}",
            *flags,
        ],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def _start_two(records, workdir):
    """Chief and second worker, on ports that are free now."""
    sockets = [socket.create_server(("localhost", 0)) for _ in range(2)]
    hosts = [f"localhost:{s.getsockname()[1]}" for s in sockets]
    for s in sockets:
        s.close()
    return [
        _start(
            records,
            workdir,
            "--strategy=multi_worker",
            config={"cluster": {"worker": hosts}, "task": {"type": "worker", "index": index}},
        )
        for index in range(2)
    ]


def _end(process, seconds=120):
    """(exit code, last line of standard error) of a process that must end in time."""
    try:
        _, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    assert "Traceback" not in errors, errors[-3000:]
    return process.returncode, (errors.strip().splitlines() or [""])[-1]


def _newest(workdir):
    steps = [int(p.name[5:]) for p in (workdir / "checkpoints").glob("step-*")]
    return max(steps, default=0)


def _wait_for_checkpoint_after(step, workdir, process):
    ends = time.monotonic() + 120
    while _newest(workdir) <= step:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < ends, "no checkpoint within two minutes"
        time.sleep(0.01)


def _weights(workdir):
    model = keras.models.load_model(workdir / "model.keras")
    return {variable.path: np.asarray(variable) for variable in model.weights}


def _rows(workdir):
    with open(workdir / "metrics.csv", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def two(photo_records, tmp_path_factory):
    """A run of two workers that nothing disturbed."""
    workdir = tmp_path_factory.mktemp("two")
    assert [_end(process)[0] for process in _start_two(photo_records, workdir)] == [0, 0]
    return workdir


def test_two_workers_give_the_losses_and_weights_of_one(two, photo_records, tmp_path):
    alone = [
        _start(photo_records, tmp_path / "one"),
        _start(photo_records, tmp_path / "start", "--learning_rate=1e-30", "--epochs=1"),
    ]
    assert [_end(process)[0] for process in alone] == [0, 0]
    for one, other in zip(_rows(tmp_path / "one"), _rows(two), strict=True):
        for name in ("loss", "validation_loss"):
            assert float(other[name]) == pytest.approx(float(one[name]), rel=1e-5), name
        assert other["validation_top1_error"] == one["validation_top1_error"]
    start = _weights(tmp_path / "start")
    ends = _weights(tmp_path / "one"), _weights(two)
    for path in start:
        moved = [weights[path] - start[path] for weights in ends]
        apart = np.linalg.norm(moved[0] - moved[1]) / np.linalg.norm(moved[0])
        assert apart < 1e-3, f"the updates of {path} differ by {apart:.2%}"


def test_the_death_of_either_worker_ends_the_run_and_a_restart_goes_on(
    two, photo_records, tmp_path
):
    # SIGTERM for one stops both at the same step; SIGKILL takes one, and the other says so.
    for victim, number in ((1, signal.SIGTERM), (1, signal.SIGKILL), (0, signal.SIGKILL)):
        newest = _newest(tmp_path)
        processes = _start_two(photo_records, tmp_path)
        _wait_for_checkpoint_after(newest, tmp_path, processes[0])
        processes[victim].send_signal(number)
        ends = [_end(process, seconds=60) for process in processes]
        if number == signal.SIGTERM:
            assert [code for code, _ in ends] == [75, 75]
            assert all("goes on from there" in line for _, line in ends)
        else:
            assert ends[victim][0] == -signal.SIGKILL
            code, line = ends[1 - victim]
            assert code == 1
            assert line.startswith("error: A worker of the cluster is gone"), line
        assert _newest(tmp_path) < 48, "the run was over before it could be disturbed"
    assert [_end(process)[0] for process in _start_two(photo_records, tmp_path)] == [0, 0]
    expected, found = _weights(two), _weights(tmp_path)
    for path in expected:
        np.testing.assert_array_equal(found[path], expected[path], err_msg=path)
    assert [row["loss"] for row in _rows(tmp_path)] == [row["loss"] for row in _rows(two)]
    assert not list(tmp_path.rglob(".writing*"))


def test_a_run_goes_on_with_another_number_of_workers(photo_records, tmp_path):
    """One device, two replicas, two workers, one device: the results of one all the time."""
    workdir = tmp_path / "elastic"
    for strategy in ("none", "mirrored", "multi_worker"):
        newest = _newest(workdir)
        if strategy == "multi_worker":
            processes = _start_two(photo_records, workdir)
        else:
            processes = [_start(photo_records, workdir, f"--strategy={strategy}")]
        _wait_for_checkpoint_after(newest, workdir, processes[0])
        processes[0].send_signal(signal.SIGTERM)
        assert [_end(process)[0] for process in processes] == [75] * len(processes), strategy
    assert 0 < _newest(workdir) < 48
    alone = [
        _start(photo_records, workdir),
        _start(photo_records, tmp_path / "one"),
        _start(photo_records, tmp_path / "start", "--learning_rate=1e-30", "--epochs=1"),
    ]
    assert [_end(process)[0] for process in alone] == [0, 0, 0]
    for one, other in zip(_rows(tmp_path / "one"), _rows(workdir), strict=True):
        for name in ("loss", "validation_loss"):
            assert float(other[name]) == pytest.approx(float(one[name]), rel=1e-5), name
    start, one, elastic = (_weights(tmp_path / name) for name in ("start", "one", "elastic"))
    for path in start:
        moved, apart = one[path] - start[path], one[path] - elastic[path]
        assert np.linalg.norm(apart) < 1e-3 * np.linalg.norm(moved), path
