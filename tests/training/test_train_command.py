"""Flags of the training command that decide about a run's safety."""

import shutil

import pytest

from alexnet_tf import train
from alexnet_tf.training import class_weights
from alexnet_tf.training.loop import CheckpointEvery


@pytest.mark.parametrize(
    ("text", "expected"), [("500", (500, 0.0)), ("10m", (0, 600.0)), ("1m", (0, 60.0))]
)
def test_checkpoints_every_so_many_steps_or_minutes(text, expected):
    assert train._checkpoint_every(text) == expected


@pytest.mark.parametrize("text", ["", "0", "m", "0m", "-3", "2h", "1.5m"])
def test_other_intervals_are_refused(text, capsys):
    assert train.main([f"--checkpoint_every={text}"]) == 2
    assert "expected steps (500) or minutes (10m)" in capsys.readouterr().err


def test_when_a_checkpoint_is_due(monkeypatch):
    monkeypatch.setattr("time.monotonic", lambda: 1000.0)
    of_steps, of_time = CheckpointEvery(steps=5, seconds=0), CheckpointEvery(seconds=60.0)
    assert [step for step in range(1, 16) if of_steps.is_due(step, saved=0.0)] == [5, 10, 15]
    assert not of_time.is_due(5, saved=940.0)
    assert of_time.is_due(5, saved=939.9)


def test_a_data_service_that_nobody_runs_is_one_sentence(photo_records, tmp_path, capsys):
    common = [f"--data_dir={photo_records}", f"--workdir={tmp_path}", "--nodeterministic"]
    network = ["--recipe=quickstart", "--model=cifarnet", "--batch_size=8", "--crop_size=24"]
    for address, message in (
        ("localhost:5000", "expected grpc://HOST:PORT"),
        ("grpc://localhost:1", "No tf.data service dispatcher answers at grpc://localhost:1"),
    ):
        assert train.main([*common, *network, f"--data_service={address}"]) == 1
        assert message in capsys.readouterr().err


def test_a_crop_that_shows_next_to_nothing_is_refused(photo_records, tmp_path, capsys):
    flags = [f"--data_dir={photo_records}", f"--workdir={tmp_path}", "--nodeterministic"]
    for recipe, size, better in (("cifarnet", 24, 32), ("lenet5", 32, 32)):
        assert train.main([f"--recipe={recipe}", *flags]) == 1
        said = capsys.readouterr().err.splitlines()[-1]
        assert f"takes {size} pixels, and the images of {photo_records} have 256" in said
        assert f"--image_size={better} " in said and f"--crop_size={size}" in said
        assert not (tmp_path / "config.json").exists()


@pytest.mark.parametrize(
    "counted", [True, False]
)  # at the start, of few images; or when it is read
def test_a_shard_that_is_cut_off_is_one_sentence(
    counted, small_photo_records, tmp_path, capsys, monkeypatch
):
    if not counted:
        monkeypatch.setattr(class_weights, "_MOST_COUNTED", 0)
    data = tmp_path / "data"
    shutil.copytree(small_photo_records, data)
    shard = min(data.glob("*train*"))
    with open(shard, "rb+") as file:
        file.truncate(shard.stat().st_size - 1)
    given = ["--recipe=cifarnet", "--batch_size=8", "--epochs=1", "--nodeterministic"]
    assert train.main([*given, f"--data_dir={data}", f"--workdir={tmp_path / 'run'}"]) == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"s of {data}" in said and f"({shard} is cut off in the middle of a record)" in said
    assert f"run `python -m data_prep.verify --data_dir={data}`" in said
    assert not (tmp_path / "run" / "model.keras").exists()
