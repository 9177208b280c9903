"""The files of a finished run."""

import csv
import json
import shutil

import keras
import pytest

from alexnet_tf.data import identity, records
from alexnet_tf.models import saved_run
from alexnet_tf.training import loop


def test_a_run_leaves_its_results_config_and_network(tiny_run, small_photo_records, tmp_path):
    results = loop.train(tiny_run(schedule="steps", rate_steps=((1, 1e-4),)))
    workdir = tmp_path / "run"
    with open(workdir / "metrics.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [3, 6]
    assert [float(row["learning_rate"]) for row in rows] == pytest.approx([1e-3, 1e-4])
    config = json.loads((workdir / "config.json").read_text())
    assert config["recipe"]["crop_size"] == 24 and config["seed"] == 1
    assert len(config["class_names"]) == 6 and config["versions"]["keras"] == keras.__version__
    assert json.loads((workdir / "results.json").read_text()) == results
    assert results["steps"] == 6
    assert results["validation_top1_error"] == pytest.approx(
        float(rows[-1]["validation_top1_error"])
    )
    assert not list(workdir.rglob(".writing*"))

    shutil.copy(workdir / "model.keras", tmp_path / "alone.keras")  # without config.json
    network = saved_run.open_model(str(tmp_path / "alone.keras"))
    dataset = records.open_dataset(small_photo_records)
    assert network.class_names == dataset.synsets and network.image_size == 32
    assert network.known["apply_exif"] is False and network.known["crop_size"] == 24
    assert network.known["lineage"]["data"] == identity.fingerprint(dataset)
    assert network.known["lineage"]["recipe"]["model"] == "tiny_columns"
    assert config["knowledge"] == network.known
