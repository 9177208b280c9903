"""Bad input of the training command."""

import shutil

import pytest

from alexnet_tf import train
from alexnet_tf.training import class_weights


@pytest.mark.parametrize("text", ["", "0", "m", "0m", "-3", "2h", "1.5m"])
def test_other_intervals_are_refused(text, capsys):
    assert train.main([f"--checkpoint_every={text}"]) == 2
    assert "expected steps (500) or minutes (10m)" in capsys.readouterr().err


def test_a_missing_data_service_is_refused(photo_records, tmp_path, capsys):
    common = [f"--data_dir={photo_records}", f"--workdir={tmp_path}", "--nodeterministic"]
    network = ["--recipe=quickstart", "--model=cifarnet", "--batch_size=8", "--crop_size=24"]
    for address, message in (
        ("localhost:5000", "expected grpc://HOST:PORT"),
        ("grpc://localhost:1", "No tf.data service dispatcher answers at grpc://localhost:1"),
    ):
        assert train.main([*common, *network, f"--data_service={address}"]) == 1
        assert message in capsys.readouterr().err


def test_a_crop_much_smaller_than_the_image_is_refused(photo_records, tmp_path, capsys):
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
def test_a_truncated_shard_is_reported(counted, small_photo_records, tmp_path, capsys, monkeypatch):
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
