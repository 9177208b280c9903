"""Experiments: their variants, their data, and that a report says no more than was measured."""

import dataclasses
import json
import math
import os
import pathlib

import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import tensorflow as tf

from alexnet_tf import models
from alexnet_tf import reproduce as reproduce_command
from alexnet_tf.data import records
from alexnet_tf.experiments import (
    data,
    four_layers,
    lenet_to_alexnet,
    networks,
    published,
    registry,
    report,
    results,
    runner,
)
from alexnet_tf.models import catalog, spec
from alexnet_tf.training import loop


def _text(*path):
    return pathlib.Path(*path).read_text(encoding="utf-8")


def test_a_removed_layer_takes_its_weights_and_leaves_the_columns_meeting():
    whole = catalog.find_variant("alexnet_145")
    shorter = networks.without(whole, "conv3")
    catalog.add_variant(shorter)
    model = models.build_model(shorter.name)
    # conv3 had 3x3x256x384 weights and 384 biases; conv4 now reads all 256 maps, not 192 of a half.
    assert model.count_params() == 60_965_224 - (9 * 256 * 384 + 384) + 9 * (256 - 192) * 384
    assert model.get_layer("conv4").groups == 1 and model.get_layer("conv5").groups == 2
    # conv4 is one of two that keep to their half: nothing else changes without it.
    groups = [e.groups for e in networks.without(whole, "conv4").features if hasattr(e, "filters")]
    assert groups == [1, 2, 1, 2]
    names = [layer.name for layer in model.layers]
    assert "conv3" not in names and "relu3" not in names and "conv4" in names
    with pytest.raises(ValueError, match="no layer 'conv9' to remove: it has conv1"):
        networks.without(whole, "conv9")


@pytest.mark.parametrize("divisor", [4, 16])
def test_narrowed_networks_keep_their_groups_and_their_classes(divisor):
    for name in ("alexnet_145", "alexnet_145_half", "alexnet_145_no_cross"):
        whole = catalog.find_variant(name)
        narrow = networks.narrowed(whole, divisor)
        pairs = zip((*whole.features, *whole.top), (*narrow.features, *narrow.top), strict=True)
        for before, after in pairs:
            if isinstance(before, spec.Conv):
                assert after.groups == before.groups and after.filters % before.groups == 0
                assert abs(after.filters - before.filters / divisor) < 2 * before.groups
        assert narrow.top[-1].units is None
    assert networks.narrowed(whole, 1) is whole


def test_a_variant_of_ones_own_is_known_by_name_and_no_other_can_take_it():
    own = dataclasses.replace(catalog.find_variant("lenet5"), name="lenet5_of_a_test")
    catalog.add_variant(own)
    catalog.add_variant(own)
    assert catalog.find_variant(own.name) is own and own.name not in models.list_models()
    for taken in (own.name, "alexnet"):
        with pytest.raises(ValueError, match="another model"):
            catalog.add_variant(dataclasses.replace(own, name=taken, summary="another"))


def test_thumbnails_are_means_over_blocks_and_channels():
    images = np.random.default_rng(0).uniform(0, 255, (2, 96, 96, 3)).astype(np.float32)
    inputs = keras.Input((96, 96, 3))
    model = keras.Model(inputs, lenet_to_alexnet.GreyThumbnail().apply(inputs, None))
    wanted = images.astype(np.float64).reshape(2, 32, 3, 32, 3, 3).mean((2, 4, 5))
    np.testing.assert_allclose(model(images)[..., 0], wanted, rtol=1e-5)


def test_average_pools_hang_over_the_edge_as_cuda_convnets():
    maps = np.random.default_rng(0).normal(size=(1, 8, 8, 1)).astype(np.float32)
    inputs = keras.Input((8, 8, 1))
    model = keras.Model(inputs, four_layers.AveragePool("pool").apply(inputs, None))
    # Windows start at 0, 2, 4, 6; the last has two rows or columns, and is divided by what it has.
    wanted = [[maps[0, r : r + 3, c : c + 3, 0].mean() for c in (0, 2, 4, 6)] for r in (0, 2, 4, 6)]
    np.testing.assert_allclose(model(maps)[0, :, :, 0], wanted, atol=1e-6)


def test_epochs_to_25_percent_lie_between_two_looks():
    curve = {"epoch": [0.5, 1.0, 1.5], "training_error": [0.6, 0.35, 0.15]}
    assert four_layers.epochs_to_target(curve) == pytest.approx(1.25)
    assert four_layers.epochs_to_target({"epoch": [0.5], "training_error": [0.2]}) == 0.5
    never = {"epoch": [1.0, 2.0], "training_error": [0.4, 0.3]}
    assert math.isinf(four_layers.epochs_to_target(never))


@pytest.fixture
def prepared(make_dataset):
    path, images, labels = make_dataset(20, 64, shards=2)
    statistics = {"principal_components": np.eye(3), "principal_stddevs": np.array([3.0, 2, 1])}
    np.savez(os.path.join(path, "statistics.npz"), **statistics)
    return records.open_dataset(path), images, labels


def test_a_derived_data_set_holds_the_first_images_shrunk(prepared, tmp_path):
    dataset, images, labels = prepared
    # The fixture's only split, as both: what is held is the copying.
    both = {name: dataset.shards["validation"] for name in ("train", "validation")}
    counts = {"train": 20, "validation": 20}
    dataset = dataclasses.replace(dataset, shards=both, counts=counts)
    directory = data.derive(dataset, str(tmp_path / "small"), {"train": 12, "validation": 5}, 32)
    found = records.open_dataset(directory)
    assert found.counts == {"train": 12, "validation": 5}
    assert found.format == records.RecordFormat(32, 3, "raw")
    assert found.synsets == dataset.synsets
    held = [records.parse_example(one) for one in tf.data.TFRecordDataset(found.shards["train"])]
    shrunk = images[:12].astype(np.float64).reshape(12, 32, 2, 32, 2, 3).mean((2, 4))
    stored = np.stack([np.frombuffer(image.numpy(), np.uint8) for image, _ in held])
    assert np.abs(stored.reshape(12, 32, 32, 3) - shrunk).max() <= 0.5
    assert [int(label) for _, label in held] == labels[:12].tolist()
    mean = stored.reshape(12, 32, 32, 3).mean(0)
    np.testing.assert_allclose(found.statistics()["mean_image"], mean, atol=1e-4)
    before = os.stat(found.shards["train"][0]).st_mtime_ns
    data.derive(dataset, directory, {"train": 12}, 32)
    assert os.stat(found.shards["train"][0]).st_mtime_ns == before


ROWS = (
    results.ClaimRow(
        published.NO_NORM, "+0.3 / +0.1 points", "photographs (14 classes)", (0, 1), "s"
    ),
    results.ClaimRow(published.FIVE_NETWORKS, "40.0 % / 17.0 %", published.VALIDATION_2012, (0,)),
    results.not_run(published.SEVEN_NETWORKS, "needs pre-training"),
)


def test_imagenet_is_known_by_its_counts_and_year():
    def told(classes, train):
        form = records.RecordFormat()
        names = tuple(map(str, range(classes)))
        counts = {"train": train, "validation": 50_000}
        return results.describe_data(records.PreparedDataset("/d/mine", form, names, {}, counts))

    assert told(1000, 1_281_167) == published.VALIDATION_2012
    # The paper's table 1 is of the test set of 2010: another split, so another name.
    assert told(1000, 1_261_406) == "ILSVRC-2010 validation" != published.TEST_2010
    text = "mine (1000 classes, 1,281,166 training and 50,000 validation images of 256 pixels)"
    assert told(1000, 1_281_166) == text


def test_no_measured_value_stands_without_its_data():
    other, same, missing = (report.cells(row) for row in ROWS)
    assert other[3] == "+0.3 / +0.1 points on photographs (14 classes) (not the paper's data)"
    assert same[3] == "40.0 % / 17.0 % on ILSVRC-2012 validation"
    assert missing[3] == "not run" and missing[6] == "needs pre-training"
    assert other[1] == "1.4 / 1.2 points on ILSVRC-2012 validation"
    narrowed = report.cells(ROWS[1], narrowing=4)[3]
    assert narrowed == "40.0 % / 17.0 % on ILSVRC-2012 validation, networks narrowed 4 times"
    own = dataclasses.replace(ROWS[1], narrowed=False)
    assert report.cells(own, narrowing=4)[3] == same[3]


def test_reports_hold_every_row_and_the_images_themselves(tmp_path):
    from PIL import Image

    os.makedirs(tmp_path / "images")
    Image.new("RGB", (3, 3), (1, 2, 3)).save(tmp_path / "images" / "p.png")
    result = results.Result(ROWS, {"a": 1}, (("a <image>", "images/p.png"),))
    assert results.Result.from_json(result.to_json()) == result
    context = results.Context("d", "photos", str(tmp_path), results.SCALES["small"], (0,))
    command = {"ablations": "python -m alexnet_tf.reproduce ablations"}
    paths = report.write_report({"ablations": result}, command, context, {"processor": "x86"})
    markdown, page = (_text(path) for path in paths)
    for text in (markdown, page):
        assert command["ablations"] in text and "x86" in text and "not run" in text
        assert "on photographs (14 classes) (not the paper" in text
        assert "narrowed" in text
    assert "(images/p.png)" in markdown and markdown.count("\n| ") == 2 + len(ROWS)
    assert "data:image/png;base64," in page and "a &lt;image&gt;" in page
    heading = "Ablations: without LRN, overlap"
    assert f"## {heading}" in markdown and f">{heading}" in page
    # Fits a telephone: the width is the device's, and each cell knows its column.
    assert '<meta name="viewport" content="width=device-width' in page
    assert page.count('<td data-column="Published"') == len(ROWS)
    assert "prefers-color-scheme: dark" in page


def test_a_smoke_run_fills_no_measured_column():
    result = results.Result(ROWS).unmeasured(runner.SMOKE)
    for row in result.rows:
        assert (row.measured, row.data, row.spread, row.seeds) == (None, "", "", ())
        assert report.cells(row)[3] == "not run"


def test_every_experiment_names_a_module_that_runs():
    import importlib

    for experiment in registry.EXPERIMENTS.values():
        assert callable(importlib.import_module(experiment.module).run)


def test_a_finished_experiment_is_not_run_again(photo_records, tmp_path, monkeypatch, capsys):
    workdir = str(tmp_path / "work")
    arguments = [f"--data_dir={photo_records}", f"--workdir={workdir}", "--scale=smoke"]
    assert reproduce_command.main(["ten_crop", *arguments]) == 0
    kept = os.path.join(workdir, "findings", "ten_crop.json")
    numbers = json.loads(_text(kept))["finding"]["numbers"]
    assert len(numbers["gains"]) == 1
    monkeypatch.setattr(loop, "train", lambda *_, **__: pytest.fail("trained again"))
    assert reproduce_command.main(["ten_crop", *arguments]) == 0
    # table1 and fig3 are of the same network: they need no training either.
    assert reproduce_command.main(["fig3", *arguments]) == 0
    os.remove(kept)
    assert reproduce_command.main(["ten_crop", *arguments]) == 0
    again = json.loads(_text(kept))["finding"]["numbers"]
    assert again == numbers
    results = json.loads(_text(workdir, "results.json"))
    rows = [row for name in ("ten_crop", "fig3") for row in results[name]["finding"]["rows"]]
    assert len(rows) == 2 and all(row["measured"] is None for row in rows)
    capsys.readouterr()
    assert reproduce_command.main(["ten_crop", *arguments[:2], "--scale=small"]) == 1
    assert "was begun with" in capsys.readouterr().err


@pytest.mark.slow
def test_everything_runs_at_smoke_scale(photo_records, tmp_path):
    workdir = str(tmp_path / "work")
    arguments = ["all", f"--data_dir={photo_records}", f"--workdir={workdir}", "--scale=smoke"]
    assert reproduce_command.main(arguments) == 0
    results = json.loads(_text(workdir, "results.json"))
    of_other_data = {name for name, one in registry.EXPERIMENTS.items() if one.cifar10}
    assert set(results["skipped"]) == of_other_data
    assert reproduce_command.main(["fig1", *arguments[1:]]) == 0  # named, it runs on any data
    results = json.loads(_text(workdir, "results.json"))
    images = 0
    for name in registry.EXPERIMENTS.keys() - of_other_data | {"fig1"}:
        result = results[name]["finding"]
        assert result["rows"], name
        assert all(row["measured"] is None and row["note"] for row in result["rows"]), name
        assert f"reproduce {name} " in results[name]["command"]
        for _, image in result["images"]:
            assert os.path.getsize(os.path.join(workdir, image)) > 1000
        images += len(result["images"])
    ablations = results["ablations"]["finding"]["numbers"]
    assert len(ablations) == 6 and len(results["ablations"]["finding"]["rows"]) == 6
    assert len(results["table2"]["finding"]["numbers"]["single"]) == 2
    page = _text(workdir, "report.html")
    assert page.count("data:image/png;base64,") == 5 and page.count("<h2") == 12
    assert not os.path.exists(os.path.join(workdir, "networks", "alexnet_145", "checkpoints"))


def _a_step_of(name, scale, photo_records, tmp_path):
    """Runs an experiment with a scale's own recipe, on two images and narrow networks.

    Eight full networks in one process, with their momenta and checkpoints, take 10 GB.
    """
    few = {"train": 24, "validation": 4}
    path = data.derive(records.open_dataset(photo_records), str(tmp_path / "few"), few)
    one = data.derive(records.open_dataset(path), str(tmp_path / "one"), {"train": 2})
    short = {**results.SCALES[scale].recipe, "epochs": 1, "batch_size": 2}
    # Small rates: two images and rates for 128 may diverge within the few steps that are timed.
    short |= {"learning_rate": 1e-6}
    if scale == "full":
        short |= {"bias_rate_steps": ((0, 2e-6),)}
    quick = dataclasses.replace(
        results.SCALES[scale],
        narrowing=4,
        recipe=short,
        fig1_images=24,
        fig1_epochs=1,
        cifar10_recipe={"epochs": 1, "batch_size": 2, "rate_steps": ()},
        measures=False,
    )
    own = path if registry.EXPERIMENTS[name].cifar10 else one
    context = results.Context(own, "photographs", str(tmp_path / "work"), quick, (0,))
    import importlib

    assert importlib.import_module(registry.EXPERIMENTS[name].module).run(context).rows


@pytest.fixture(scope="module")
def shared_workdir(tmp_path_factory):
    """Experiments share networks."""
    return tmp_path_factory.mktemp("experiments")


@pytest.mark.parametrize("name", registry.EXPERIMENTS)
def test_every_experiment_takes_a_step_at_small_scale(name, photo_records, shared_workdir):
    _a_step_of(name, "small", photo_records, shared_workdir / "small")


@pytest.mark.slow
@pytest.mark.parametrize("name", registry.EXPERIMENTS)
def test_every_experiment_takes_a_step_at_full_scale(name, photo_records, shared_workdir):
    _a_step_of(name, "full", photo_records, shared_workdir / "full")


def test_bad_input_ends_with_one_sentence(tmp_path, make_dataset, capsys):
    only_validation, _, _ = make_dataset(4, 32)
    nothing, _, _ = make_dataset(0, 32)
    workdir = f"--workdir={tmp_path}/w"
    for flags, wanted, sentence in [
        ([], 2, "expected one of all, table1"),
        (["table9"], 2, "expected one of all, table1"),
        (["fig1", "--seeds=a"], 2, "expected numbers such as 0,1,2"),
        (["fig1", "--seeds=1,1"], 2, "different numbers"),
        (["fig1", "--scale=huge"], 2, "scale"),
        (["fig1", workdir, f"--data_dir={tmp_path}/none"], 1, "There is no directory"),
        (["fig1", workdir, f"--data_dir={only_validation}"], 1, "has no split 'train'"),
        (["fig1", workdir, f"--data_dir={nothing}"], 1, "has no split 'train'"),
    ]:
        code = reproduce_command.main(flags)
        err = capsys.readouterr().err.strip().splitlines()
        assert (code, sentence in err[-1]) == (wanted, True), (flags, code, err)
    with pytest.raises(ValueError, match="no experiment 'table9'"):
        runner.reproduce(["table9"], "d", str(tmp_path))
