"""Training with a validation split, without one, and with one that has no labels."""

import dataclasses
import math

import keras
import pytest

from alexnet_tf import evaluation
from alexnet_tf.data import evaluation_data, identity, image_cache
from alexnet_tf.data.records import PreparedDataset, open_dataset
from alexnet_tf.training import distribution, initialization, loop, validation
from alexnet_tf.training.recipes import get_recipe


@pytest.fixture
def without_validation(small_photo_records, monkeypatch):
    """The windows of photographs, as if nothing had been held out."""

    def training_only(path, first_label=None):
        found = open_dataset(path, first_label)
        kept = {name: {"train": getattr(found, name)["train"]} for name in ("shards", "counts")}
        return dataclasses.replace(found, **kept)

    monkeypatch.setattr(initialization, "open_dataset", training_only)
    return small_photo_records


def test_a_plateau_without_validation_watches_the_training_error(
    without_validation, tiny_run, capsys
):
    run = tiny_run(schedule="plateau", patience=1, learning_rate=1e-9)
    results = loop.train(run)
    said = capsys.readouterr().err
    assert f"{without_validation} has no validation split, so the plateau schedule watches" in said
    assert "--validation_share" in said and "source_145" in said
    assert results["validation_top1_error"] is None and 0 <= results["top1_error"] <= 1
    assert loop.train(run) == results  # and again, at its end


def test_the_plateau_lowers_the_rate_on_training_errors(without_validation, tiny_run):
    """At a rate of nearly nothing the error of the whole epoch changes by chance only."""
    results = loop.train(
        tiny_run(schedule="plateau", patience=1, learning_rate=1e-12, epochs=4, colour_noise="none")
    )
    assert results["learning_rate"] < 1e-12


def test_a_split_without_labels_is_no_validation(
    make_dataset, small_photo_records, tiny_run, capsys, monkeypatch
):
    unlabelled = open_dataset(make_dataset(4, 32, classes=6, labels=[-1] * 4)[0])
    assert not identity.has_labels(unlabelled, "validation")
    assert identity.has_labels(open_dataset(small_photo_records), "validation")
    dataset = open_dataset(small_photo_records)
    shards = {**dataset.shards, "validation": unlabelled.shards["validation"]}
    counts = {**dataset.counts, "validation": 4}

    def opened(path, first_label=None) -> PreparedDataset:
        return dataclasses.replace(dataset, shards=shards, counts=counts)

    monkeypatch.setattr(initialization, "open_dataset", opened)
    assert loop.train(tiny_run(epochs=1))["validation_loss"] is None
    assert "the validation split of" in capsys.readouterr().err


def test_a_stop_at_the_end_of_an_epoch_without_validation(without_validation, tiny_run, stop_at):
    """With one step per epoch, each step ends one."""
    run = tiny_run(batch_size=144, epochs=3)
    with pytest.raises(loop.Interrupted, match="Stopped at step 1 as asked, and saved it"):
        loop.train(run, callbacks=[stop_at(1)])
    assert loop.train(run)["steps"] == 3


def test_the_pipeline_of_validation_is_built_once(small_photo_records, tiny_run, monkeypatch):
    """And its last epoch finds what evaluation of the saved network finds."""
    built, build = [], evaluation_data.evaluation_batches

    def counted(*arguments):
        built.append(arguments[1])
        return build(*arguments)

    monkeypatch.setattr(evaluation_data, "evaluation_batches", counted)
    run = tiny_run(epochs=3)
    results = loop.train(run)
    assert built == ["validation"]
    view = evaluation.EvaluationSettings("validation", crops=1, batch_size=16)
    found = evaluation.evaluate([run.workdir], small_photo_records, view)
    assert results["validation_top1_error"] == found["top1_error"]
    assert results["validation_loss"] == pytest.approx(found["loss"], rel=1e-5)


@pytest.mark.parametrize(
    "recipe, images", [("cifarnet", 1024), ("lenet5", 1024), ("paper", 128), ("torchvision", 256)]
)
def test_small_images_are_validated_many_at_a_time(recipe, images):
    assert validation.images_per_step(get_recipe(recipe)) == images


@pytest.mark.parametrize("image_size, bytes_of_a_value", [(None, 1), (40, 4)])
def test_what_stays_in_memory_is_bounded_in_bytes(
    small_photo_records, monkeypatch, image_size, bytes_of_a_value
):
    """Images that are cut out are uint8, resized ones float32."""
    asked = []
    fits = image_cache.fits
    monkeypatch.setattr(
        image_cache, "fits", lambda *size: asked.append(math.prod(size[1])) or fits(*size)
    )
    dataset = open_dataset(small_photo_records)
    assert dataset.format.image_size != image_size
    network = keras.Sequential([keras.Input((24, 24, 3)), keras.layers.Flatten()])
    view = evaluation.EvaluationSettings(batch_size=16, image_size=image_size)
    strategy = distribution.make_strategy("none")
    evaluation.distributed_batches(network, dataset, view, strategy, again=True)
    assert asked == [24 * 24 * 3 * bytes_of_a_value]
