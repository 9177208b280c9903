"""The claims of CIFAR-10: the choice of rates, curves that go on after a kill, which data fits."""

import dataclasses
import json
import math
import os
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from alexnet_tf.data import image_cache, records
from alexnet_tf.experiments import (
    ablations,
    comparison,
    fig1,
    four_layers,
    networks,
    published,
    registry,
    report,
    results,
    runner,
)
from alexnet_tf.experiments.four_layers import Condition
from alexnet_tf.training import loop, recipes
from alexnet_tf.training.errors import Diverged

INFINITE = math.inf
ROOT = pathlib.Path(__file__).parents[2]


def _chosen(epochs, start):
    """What `bracket` makes of a table of epochs, and the rates in the order in which it asked."""
    rates = (1.0, 2.0, 3.0, 4.0, 5.0)
    asked = []

    def epochs_at(rate):
        best = min((epochs[rates.index(one)] for one in asked), default=INFINITE)
        asked.append(rate)
        found = epochs[rates.index(rate)]
        return found if found <= best else INFINITE

    return fig1.bracket(rates, start, epochs_at), asked


@pytest.mark.parametrize(
    "epochs, start, rate, asked, bracketed",
    [
        ([9, 5, 3, 4, 8], 2, 3.0, [3, 4, 2], True),
        ([9, 5, 3, 4, 8], 0, 3.0, [1, 2, 3, 4], True),
        ([9, 5, 3, 4, 8], 4, 3.0, [5, 4, 3, 2], True),
        ([2, 5, 7, 8, 9], 2, 1.0, [3, 4, 2, 1], False),  # nothing below the lowest
        ([9, 8, 7, 6, 5], 2, 5.0, [3, 4, 5], False),
        ([6, 4, INFINITE, INFINITE, INFINITE], 3, 2.0, [4, 3, 2, 1], True),
        ([INFINITE, INFINITE, INFINITE, 5, 6], 1, 4.0, [2, 1, 3, 4, 5], True),
        ([INFINITE] * 5, 2, 3.0, [3, 2, 1, 4, 5], False),
    ],
)
def test_the_best_rate_has_a_worse_one_on_either_side(epochs, start, rate, asked, bracketed):
    choice, order = _chosen(epochs, start)
    assert (choice.rate, choice.bracketed) == (rate, bracketed)
    assert order == asked
    kept = choice.to_json()
    assert json.loads(json.dumps(kept, allow_nan=False))["rate"] == rate


def test_medians_and_their_ratio_are_told_with_the_range_over_seeds():
    epochs = {"relu": [2.0, 4.0, 3.0], "tanh": [6.0, 9.0, 30.0]}
    text, spread = fig1.compared(epochs, 40)
    assert text == "3.00 times: ReLU 3.00 epochs, tanh 9.00 (medians)"
    assert spread == "epochs over 3 seeds: ReLU 2.00 to 4.00, tanh 6.00 to 30.00"
    assert fig1.compared({"relu": [2.0], "tanh": [3.0]}, 40)[1] == "one seed"
    missed = fig1.compared({"relu": [2.0], "tanh": [INFINITE]}, 40)
    assert missed == ("tanh did not get to 25 % in 40 epochs", "")


def _context(data_dir, workdir, **changes):
    scale = dataclasses.replace(results.SCALES["small"], **changes)
    return results.Context(str(data_dir), "photographs", str(workdir), scale, (0,))


@pytest.fixture(scope="module")
def thumbnails(photo_records, tmp_path_factory):
    """The photographs at 32 pixels."""
    work = tmp_path_factory.mktemp("thumbnails")
    return fig1.prepared(_context(photo_records, work))[0]


_KILLED = """
import os, signal, sys
from alexnet_tf.data import records
from alexnet_tf.experiments import four_layers
import test_cifar10

look = four_layers._TrainingError.on_train_batch_end

def killed(self, step, logs=None):
    look(self, step, logs)
    if step == 15:
        os.kill(os.getpid(), signal.SIGKILL)

four_layers._TrainingError.on_train_batch_end = killed
test_cifar10.short_curve(records.open_dataset(sys.argv[1]), sys.argv[2])
"""


def short_curve(dataset, workdir):
    """Four epochs of six steps, with a look after each step."""
    context = _context(dataset.path, workdir, fig1_epochs=4)
    return four_layers.curve(context, dataset, Condition("relu", batch_size=16), 1e-3, seed=0)


def test_a_curve_goes_on_after_a_kill_and_keeps_its_looks(thumbnails, tmp_path, capfd):
    killed = tmp_path / "killed"
    # Killed in the third epoch, after checkpoints of two.
    command = [sys.executable, "-c", _KILLED, thumbnails.path, str(killed)]
    places = os.pathsep.join([str(ROOT), os.path.dirname(__file__)])
    environment = {**os.environ, "PYTHONPATH": places}
    assert subprocess.run(command, env=environment).returncode == -signal.SIGKILL
    assert not list((killed / "steps").glob("*seed0.json"))
    looks = next((killed / "steps").glob("*.looks.json"))
    assert "15" in json.loads(looks.read_text(encoding="utf-8"))
    capfd.readouterr()
    curve = short_curve(thumbnails, killed)
    said = capfd.readouterr().err
    assert "epoch 3/4" in said and "epoch 2/4" not in said  # from the second epoch's end on
    assert not looks.exists()
    whole = short_curve(thumbnails, tmp_path / "never")
    assert curve["epoch"] == whole["epoch"] and len(whole["epoch"]) == 24
    # The test's process has two logical devices, the other had one: sums may end in other bits.
    np.testing.assert_allclose(curve["training_error"], whole["training_error"], atol=0.03)


def test_a_rate_with_which_nothing_is_learned_is_given_up(thumbnails, tmp_path):
    context = _context(thumbnails.path, tmp_path, fig1_epochs=9)
    condition = Condition("tanh", batch_size=16)
    curve = four_layers.curve(context, thumbnails, condition, 1e-12, seed=0)
    assert curve["epoch"][-1] == 3 and math.isinf(four_layers.epochs_to_target(curve))


def test_a_rate_that_takes_twice_as_long_as_another_is_given_up(thumbnails, tmp_path):
    context = _context(thumbnails.path, tmp_path, fig1_epochs=9)
    fast = {"epoch": [1.0, 2.0, 8.0], "training_error": [0.6, 0.5, 0.2]}
    condition = Condition("relu", batch_size=16)
    curve = four_layers.curve(context, thumbnails, condition, 1e-6, seed=0, rival=fast)
    assert curve["epoch"][-1] == 3 and min(curve["training_error"]) > 0.55
    soon = {"epoch": [0.5], "training_error": [0.2]}
    curve = four_layers.curve(context, thumbnails, condition, 1e-7, seed=0, rival=soon)
    assert curve["epoch"][-1] == 0.5


def test_cifar10_is_known_by_its_counts_size_and_names():
    names = tuple(
        ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    )
    counts = {"train": 50_000, "validation": 10_000}
    form = records.RecordFormat(32, 3, "raw")
    dataset = records.PreparedDataset("/d/mine", form, names, {}, counts)
    assert results.describe_data(dataset) == published.CIFAR10
    for changes in (
        {"counts": {"train": 49_999, "validation": 10_000}},
        {"synsets": (*names[:9], "lorry")},
        {"format": records.RecordFormat(64, 3, "raw")},
    ):
        other = dataclasses.replace(dataset, **changes)
        assert not results.is_cifar10(other)
        assert results.describe_data(other).startswith("mine (10 classes")


def test_all_leaves_out_what_is_of_other_data(photo_records, thumbnails, tmp_path, capsys):
    """Photographs are not CIFAR-10, and AlexNet takes no crop of 32 pixels."""
    of_cifar10 = [name for name, one in registry.EXPERIMENTS.items() if one.cifar10]
    assert of_cifar10 == ["fig1", "fig1_conditions", "cifar10"]
    arguments = (str(tmp_path / "work"), "smoke", (0,), True)
    assert runner.reproduce(of_cifar10, photo_records, *arguments) == {}
    said = capsys.readouterr().out
    content = json.loads((tmp_path / "work" / "results.json").read_text(encoding="utf-8"))
    for name in of_cifar10:
        assert f"{name}: skipped: its claim is of CIFAR-10" in said
        assert "tfds:cifar10" in content["skipped"][name]
    page = (tmp_path / "work" / "report.md").read_text(encoding="utf-8")
    assert "## Not run on this data" in page and "- fig1: not run: its claim is of" in page
    others = ("table1", "table2", "two_gpus", "fig3", "fig4", "lenet_to_alexnet")
    small = (str(tmp_path / "small"), "smoke", (0,), True)
    assert runner.reproduce(others, thumbnails.path, *small) == {}
    assert "take crops of 224 pixels" in capsys.readouterr().out


def test_figure_1_on_all_training_images_is_on_the_whole_data_set(thumbnails, tmp_path):
    """Its error is that of training images: fewer validation images are no other data."""
    train, validation = (thumbnails.counts[name] for name in ("train", "validation"))
    assert validation > train // 50
    context = _context(thumbnails.path, tmp_path, fig1_images=train)
    there, told = fig1.prepared(context)
    assert there.counts["validation"] == train // 50
    assert f"{train} training and {validation} validation images" in told
    fewer = _context(thumbnails.path, tmp_path / "fewer", fig1_images=train - 1)
    assert f"{train - 1} training and {train // 50} validation images" in fig1.prepared(fewer)[1]


def _shape(variant):
    """What a variant computes, but for names and initial values."""
    unimportant = {"name": "", "init": None}
    return tuple(
        (type(entry), *({**dataclasses.asdict(entry), **unimportant}).items())
        for entry in variant.features
    )


def test_every_ablation_accepts_the_crops_of_enlarged_images():
    compared = [ablations.whole(), *(variant for variant, _ in ablations.changed())]
    assert len(compared) == 7
    # Without conv3 and without conv4 were one network: they differ in what they read, no more.
    assert len(set(map(_shape, compared))) == len(compared)
    assert max(variant.smallest_input() for variant in compared) == networks.CROP


def test_an_ablation_that_diverges_does_not_stop_the_others(thumbnails, tmp_path, monkeypatch):
    train = loop.train

    def diverging(run, **options):
        if "no_norm" in run.recipe.model:
            raise Diverged("The loss is nan after step 7: the run diverged.")
        return train(run, **options)

    monkeypatch.setattr(loop, "train", diverging)
    claims = {"alexnet_145_no_norm": published.NO_NORM, "alexnet_145_half": published.ONE_COLUMN}
    monkeypatch.setattr(ablations, "_VARIANTS", claims)
    monkeypatch.setattr(ablations, "_REMOVED", {})
    without, half = ablations.run(_context(thumbnails.path, tmp_path)).rows
    assert without.measured is None and "The loss is nan after step 7" in without.note
    assert half.measured is not None


def test_small_images_are_enlarged_for_the_ablations(photo_records, thumbnails, tmp_path):
    context = _context(thumbnails.path, tmp_path)
    enlarged = networks.at_network_size(context)
    dataset = records.open_dataset(enlarged.data_dir)
    assert dataset.format.image_size == networks.ENLARGED
    assert enlarged.scale.recipe["crop_size"] == networks.CROP and "80 pixels" in enlarged.data
    small = dataclasses.replace(context, scale=results.SCALES["small"])
    assert networks.at_network_size(small).scale.recipe["epochs"] == 5
    large = _context(photo_records, tmp_path)
    assert networks.at_network_size(large) is large


def test_a_difference_within_noise_is_called_so():
    from scipy import stats

    values = [0.01, 0.02, -0.005]
    low, high = comparison.interval(values)
    wanted = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    np.testing.assert_allclose((low, high), wanted, rtol=1e-3)
    assert comparison.verdict(values).endswith("within noise")
    assert comparison.verdict([0.01, 0.011, 0.012]).endswith("points")
    assert comparison.verdict([0.01]) == ""


def test_the_network_without_normalisation_has_its_own_decays():
    with_norm, without = recipes.CIFARNET, recipes.CIFARNET_NO_NORM
    assert recipes.get_recipe("cifarnet_no_norm") is without
    changed = {
        field.name
        for field in dataclasses.fields(with_norm)
        if getattr(with_norm, field.name) != getattr(without, field.name)
    }
    assert changed == {"model", "layer_weight_decay"}
    assert dict(without.layer_weight_decay)["fc10"] == 0.004


def test_the_cifar10_rows_say_how_much_was_run(tmp_path, thumbnails):
    from alexnet_tf.experiments import cifar10

    context = _context(thumbnails.path, tmp_path)
    short = {**results.SCALES["smoke"].cifar10_recipe, "batch_size": 48}
    context = dataclasses.replace(
        context, scale=dataclasses.replace(context.scale, cifar10_recipe=short)
    )
    found = cifar10.run(context)
    assert [row.claim.value for row in found.rows] == ["13 %", "11 %"]
    for row in found.rows:
        assert "with one view" in row.measured and "nine" in row.measured
        assert row.note.startswith("1 epochs of the published 520; ")
        assert report.cells(row)[3].endswith("(not the paper's data)")
    assert set(found.numbers["cifarnet"]["errors"]) == {"1_views", "9_views", "10_views"}


def test_small_data_sets_stay_in_memory_until_another_takes_their_place(monkeypatch):
    monkeypatch.setattr(image_cache, "_kept", type(image_cache._kept)())
    shape = (4, 4, 3)
    monkeypatch.setattr(image_cache, "MOST", 100 * 48)
    assert image_cache.fits(100, shape) and not image_cache.fits(101, shape)
    first = image_cache.kept("first", 60, shape)
    assert image_cache.kept("first", 60, shape) is first
    image_cache.kept("second", 30, shape)
    assert image_cache.kept("first", 60, shape) is first
    image_cache.kept("third", 40, shape)  # the second was not used for longer
    assert list(image_cache._kept) == ["first", "third"]
    image_cache.kept("fourth", 100, shape)
    assert list(image_cache._kept) == ["fourth"]


def test_a_file_that_changes_is_read_again(tmp_path):
    file = tmp_path / "shard"
    file.write_bytes(b"a")
    before = image_cache.name_of((str(file),))
    assert image_cache.name_of((str(file),)) == before
    file.write_bytes(b"ab")
    assert image_cache.name_of((str(file),)) != before
