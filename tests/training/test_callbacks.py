"""The callbacks in `model.fit`: the weights of `train`, exact resume, logs."""

import csv
import dataclasses
import io
import pathlib
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from alexnet_tf.data.pipeline import Augmentation, Schedule, training_batches
from alexnet_tf.data.records import open_dataset
from alexnet_tf.training import callbacks, distribution, epoch_lines, loop, tensorboard
from alexnet_tf.training.initialization import make_network, training_mean
from alexnet_tf.training.optimizers import PaperSGD
from alexnet_tf.training.recipes import RECIPES, Recipe
from alexnet_tf.training.schedules import make_optimizer

BATCH, SEED = 100, 3
LENET = dataclasses.replace(
    RECIPES["lenet5"],
    model="lenet5_softmax",
    batch_size=BATCH,
    crop_size=28,
    border=0,
    epochs=2,
    schedule="steps",
    learning_rate=0.05,
    rate_steps=((1, 0.02),),
)
STEPS = 15  # 1,500 training digits


def _compiled(recipe, dataset, steps):
    mean = training_mean(recipe, dataset)
    model = make_network(recipe, dataset.classes, dataset.format.channels, mean, SEED)
    model.compile(
        make_optimizer(recipe, steps),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=False,
    )
    return model


def _fit(recipe, data, first_step=0, stop=None, model=None, with_callbacks=()):
    """model.fit from a step to another (None: the end of the run)."""
    dataset = open_dataset(data)
    steps = dataset.counts["train"] // recipe.batch_size
    model = model or _compiled(recipe, dataset, steps)
    augmentation = Augmentation(crop_size=recipe.crop_size, mirror=recipe.mirror)
    schedule = Schedule(recipe.batch_size, recipe.epochs, seed=SEED, first_step=first_step)
    stop = stop or recipe.epochs * steps
    begin = first_step // steps
    model.fit(
        training_batches(dataset, augmentation, schedule),
        initial_epoch=begin,
        epochs=begin + max(1, (stop - first_step) // steps),
        steps_per_epoch=min(steps, stop - first_step),
        callbacks=list(with_callbacks),
        verbose=0,
    )
    return model


def _events(directory):
    """tag -> list of (step, value): a number, a text, or images as arrays."""
    found = {}
    for file in sorted(pathlib.Path(directory).glob("events*")):
        for event in tf.compat.v1.train.summary_iterator(str(file)):
            if event.graph_def:
                found["graph"] = [(event.step, event.graph_def)]
            for value in event.summary.value:
                content = tf.make_ndarray(value.tensor)
                if value.metadata.plugin_data.plugin_name == "images":
                    # Width and height, then the encoded images.
                    content = [np.asarray(Image.open(io.BytesIO(png))) for png in content[2:]]
                elif value.metadata.plugin_data.plugin_name == "text":
                    content = content[0].decode()
                else:
                    content = float(content)
                found.setdefault(value.tag, []).append((event.step, content))
    return found


class _LastUpdate(keras.callbacks.Callback):
    """The weights before and after the last step of an epoch."""

    def on_train_batch_begin(self, batch, logs=None):
        if batch == STEPS - 1:
            self.before = {v.path: np.asarray(v) for v in self.model.trainable_variables}

    def on_train_batch_end(self, batch, logs=None):
        if batch == STEPS - 1:
            self.after = {v.path: np.asarray(v) for v in self.model.trainable_variables}


def test_fit_gives_what_the_command_line_gives(digit_records, tmp_path):
    """Model, optimiser, schedule and pipeline of the package, trained by Keras."""
    watch, dataset = _LastUpdate(), open_dataset(digit_records)
    images = next(
        iter(training_batches(dataset, Augmentation(28, mirror=False), Schedule(BATCH, 1, SEED)))
    )[0]
    logs = [
        callbacks.MetricsLog(tmp_path / "fit"),
        callbacks.TensorBoardLog(tmp_path / "fit" / "tensorboard", images=images),
        watch,
    ]
    model = _fit(LENET, digit_records, with_callbacks=logs)
    run = loop.Run(LENET, digit_records, str(tmp_path / "run"), seed=SEED)
    loop.train(run)
    ours = keras.models.load_model(tmp_path / "run" / "model.keras")
    start = make_network(LENET, 10, 1, training_mean(LENET, dataset), SEED)
    for begin, own, fitted in zip(start.weights, ours.weights, model.weights, strict=True):
        moved = np.asarray(own) - np.asarray(begin)
        apart = np.linalg.norm(np.asarray(fitted) - np.asarray(own))
        # The loss from a softmax instead of logits: another order of roundings, 30 steps long.
        assert apart < 0.02 * np.linalg.norm(moved), own.path
    rows = {}
    for name in ("fit", "run"):
        with open(tmp_path / name / "metrics.csv", encoding="utf-8") as file:
            rows[name] = list(csv.DictReader(file))
    for mine, theirs in zip(rows["fit"], rows["run"], strict=True):
        assert mine["step"] == theirs["step"]
        # Keras averages what it saw of the epoch, as the loop does.
        assert float(mine["top1_error"]) == pytest.approx(float(theirs["top1_error"]), abs=0.01)
        assert float(mine["loss"]) == pytest.approx(float(theirs["loss"]), rel=0.01)
    _check_fit_events(_events(tmp_path / "fit" / "tensorboard"), rows["fit"], watch, images)
    events = _events(tmp_path / "run" / "tensorboard")
    validation = _events(tmp_path / "run" / "tensorboard" / "validation")
    _check_run_events(events, validation, rows["run"], ours)


def _check_fit_events(events, rows, watch, images):
    assert [step for step, _ in events["loss"]] == [STEPS, 2 * STEPS]
    for (_, loss), row in zip(events["loss"], rows, strict=True):
        assert loss == pytest.approx(float(row["loss"]), rel=1e-5)
    for path, after in watch.after.items():
        if not path.endswith("bias"):
            update = np.linalg.norm(after - watch.before[path]) / np.linalg.norm(after)
            assert events[f"update_to_weight/{path}"][-1][1] == pytest.approx(update, rel=1e-3)
    (step, drawn), *others = events["input"]
    assert step == 0 and not others and len(drawn) == 8
    for image, pixels in zip(drawn, np.asarray(images), strict=False):
        np.testing.assert_allclose(image, pixels[..., 0], atol=1)


def _check_run_events(events, validation, rows, network):
    both = ("loss", "top1_error", "top5_error")
    assert set(validation) == set(both)  # under the same names, so that one chart has both curves
    for prefix, found, tags in (
        ("", events, (*both, "learning_rate", "images_per_second")),
        ("validation_", validation, both),
    ):
        for tag in tags:
            for (step, value), row in zip(found[tag], rows, strict=True):
                assert step == int(row["step"])
                assert value == pytest.approx(float(row[prefix + tag]), rel=1e-5), tag
    assert not {"epoch", "step", "seconds"} & set(events)
    # 30 steps: a mean over the first 20. The loss of all 30 is that of the epochs.
    ((step, loss),) = events["steps/loss"]
    epochs = [float(row["loss"]) for row in rows]
    assert step == 20 and epochs[1] < loss < epochs[0]
    assert {"steps/top1_error", "steps/learning_rate", "steps/images_per_second"} < set(events)
    ((_, table),) = events["network"]
    assert "c1 | Conv2D | 28 x 28 x 6 | 156" in table or "c1 |" in table
    ((_, graph),) = events["graph"]
    nodes = {node.op for node in tf.compat.v1.GraphDef.FromString(graph).node}
    assert nodes & {"PartitionedCall", "StatefulPartitionedCall", "Conv2D"}
    assert [value for _, value in events["learning_rate"]] == pytest.approx([0.05, 0.02])
    assert len(events["input"]) == 1 and len(events["input"][0][1]) == 8
    grid = events["first_kernels"][-1][1][0]
    kernel = network.get_layer("c1").get_weights()[0][..., 0, 4]  # of (5, 5, 1, 6), in one row
    assert grid.shape == (4 * 5, 4 * (6 * 6 - 1), 3)
    expected = 127.5 * (1 + kernel[2, 3] / np.abs(kernel).max())
    assert abs(int(grid[4 * 2, 4 * (4 * 6 + 3), 0]) - expected) < 1.5


@pytest.mark.slow
def test_fit_goes_on_to_the_same_bits(digit_records, tmp_path):
    straight = _fit(LENET, digit_records)
    first = callbacks.ExactResume(tmp_path)
    dataset = open_dataset(digit_records)
    model = _compiled(LENET, dataset, STEPS)
    assert first.restore(model) == 0
    _fit(LENET, digit_records, stop=STEPS, model=model, with_callbacks=[first])
    second = callbacks.ExactResume(tmp_path)
    model = _compiled(LENET, dataset, STEPS)
    assert second.restore(model) == STEPS
    _fit(LENET, digit_records, first_step=STEPS, model=model, with_callbacks=[second])
    for one, two in zip(straight.weights, model.weights, strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(two), err_msg=one.path)
    assert [row["epoch"] for row in second.progress.history] == [1, 2]
    with pytest.raises(ValueError, match=r"call its restore\(model\) before"):
        callbacks.ExactResume(tmp_path).on_train_begin()


@pytest.mark.slow
def test_fit_goes_on_inside_an_epoch_with_dropout(photo_records, tmp_path):
    recipe = Recipe(epochs=1, batch_size=24, crop_size=67, initializer="he", learning_rate=1e-3)
    straight = _fit(recipe, photo_records)
    dataset = open_dataset(photo_records)
    first = callbacks.ExactResume(tmp_path, every_steps=3)
    model = _compiled(recipe, dataset, 4)
    first.restore(model)
    _fit(recipe, photo_records, stop=3, model=model, with_callbacks=[first])
    model = _compiled(recipe, dataset, 4)
    second = callbacks.ExactResume(tmp_path, every_steps=3)
    assert second.restore(model) == 3
    _fit(recipe, photo_records, first_step=3, model=model, with_callbacks=[second])
    for one, two in zip(straight.weights, model.weights, strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(two), err_msg=one.path)
    assert int(model.get_layer("drop6").step) == 4


def test_exact_resume_counts_batches_not_updates(tmp_path):
    """Keras' own loss scaling skips the first updates, and counts them nowhere."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)], name="small")
    scaled = keras.optimizers.LossScaleOptimizer(PaperSGD(0.01), initial_scale=2.0**127)
    model.compile(scaled, "mse", jit_compile=False)
    resume = callbacks.ExactResume(tmp_path, every_steps=2)
    assert resume.restore(model) == 0
    x, y = np.full((40, 3), 1e3, np.float32), np.zeros((40, 2), np.float32)
    model.fit(x, y, batch_size=8, epochs=2, callbacks=[resume], verbose=0)
    assert int(scaled.inner_optimizer.iterations) < 10
    assert resume.progress.step == 10
    # Every second step and the ends of both epochs; the newest two are kept.
    assert sorted(path.name for path in tmp_path.glob("step-*")) == [
        "step-000000008",
        "step-000000010",
    ]


@pytest.mark.parametrize("strategy", ["none", "mirrored"])
def test_the_plateau_lowers_the_rate_in_fit(strategy, tmp_path):
    recipe = Recipe(schedule="plateau", learning_rate=0.01, patience=2)
    with distribution.make_strategy(strategy).scope():
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        model.compile(make_optimizer(recipe, 1), "mse", jit_compile=False)
    # Targets that are not numbers never improve the validation loss.
    x, y, never = np.zeros((4, 3)), np.zeros((4, 2)), np.full((4, 2), np.nan)
    plateau = callbacks.PlateauRate(recipe)
    logs = [plateau, callbacks.MetricsLog(tmp_path), callbacks.TensorBoardLog(tmp_path / "board")]
    model.fit(x, y, validation_data=(x, never), epochs=6, callbacks=logs, verbose=0)
    with open(tmp_path / "metrics.csv", encoding="utf-8") as file:
        rates = [float(row["learning_rate"]) for row in csv.DictReader(file)]
    assert rates == pytest.approx([0.01, 0.01, 0.001, 0.001, 1e-4, 1e-4])
    with pytest.raises(ValueError, match=r"monitors 'val_loss', but the epoch's logs have \['loss"):
        model.fit(x, y, callbacks=[callbacks.PlateauRate(recipe)], verbose=0)


def test_the_way_to_tensorboard_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)  # as where it is not installed
    monkeypatch.delitem(sys.modules, "tensorboard")
    monkeypatch.setattr(sys, "path", [])
    assert tensorboard.how_to_look("runs") == (
        "tensorboard --logdir=runs, after pip install 'alexnet-tf[tensorboard]'"
    )


def test_means_of_steps_do_not_depend_on_the_calls(tmp_path):
    values = np.arange(45 * 3, dtype=float).reshape(45, 3)
    for name, calls in (("one", [45]), ("several", [3, 17, 1, 24])):
        writer, means, last = tf.summary.create_file_writer(str(tmp_path / name)), None, 0
        means = tensorboard.StepMeans()
        for count in calls:
            with writer.as_default(step=0):
                means.add(last + count, values[last : last + count], learning_rate=0.1)
            last += count
        writer.close()
        found = _events(tmp_path / name)
        assert found["steps/loss"] == [(20, 28.5), (40, 88.5)]
        assert [step for step, _ in found["steps/learning_rate"]] == [20, 40]


def test_the_line_of_an_epoch_has_the_validation_error():
    row = {"epoch": 2.0, "loss": 1.2345, "top1_error": 0.4, "learning_rate": 0.01}
    row |= {"images_per_second": 1234.5, "validation_top1_error": 0.25}
    row |= {"validation_top5_error": 0.0625}
    assert epoch_lines.line(2, 4, row) == (
        "epoch 2/4: loss 1.234, training error 40.0%, validation error 25.0% (top-5 6.2%), "
        "rate 0.01, 1,234 images/s"
    )
    assert "validation" not in epoch_lines.line(2, 4, {**row, "validation_top1_error": None})
