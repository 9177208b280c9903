"""Class weights: their sources, and training against Keras' sample weights."""

import dataclasses
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.data import identity
from alexnet_tf.data.augmentation import Augmentation
from alexnet_tf.data.records import open_dataset
from alexnet_tf.models import build_model
from alexnet_tf.training import class_weights, distribution, loop
from alexnet_tf.training.optimizers import PaperSGD
from alexnet_tf.training.step import ReplicaSteps


@pytest.fixture
def dataset(make_dataset):
    """Nine images of three classes: 6, 3 and none; they count as training images."""
    found = open_dataset(make_dataset(9, 32, classes=3, labels=[0, 0, 1, 0, 1, 0, 0, 1, 0])[0])
    return dataclasses.replace(
        found,
        shards={"train": found.shards["validation"]},
        counts={"train": 9},
        shard_counts={"train": found.shard_counts["validation"]},
    )


def test_balanced_classes_count_alike(dataset):
    counts = identity.class_counts(dataset)
    weights = class_weights.class_weights("balanced", dataset, counts)
    np.testing.assert_allclose(weights[:2], [9 / (2 * 6), 9 / (2 * 3)])
    assert (weights * counts).sum() == pytest.approx(9)
    assert class_weights.class_weights(None, dataset, counts) is None
    table = class_weights.table(dataset, counts, weights)
    assert "6  n00000000  weight 0.75" in table and "1 class(es) have no training images" in table
    alone = dataclasses.replace(dataset, synsets=("only",))
    assert "there is only one class" in class_weights.table(alone, np.array([9]), None)


def test_a_file_gives_weights_by_name(dataset, tmp_path):
    file = tmp_path / "weights.json"
    file.write_text(json.dumps({"n00000001": 4}))
    weights = class_weights.class_weights(str(file), dataset, None)
    np.testing.assert_array_equal(weights, [1, 4, 1])
    for content, said in (
        ("{", "is not JSON"),
        ("[1, 2]", "holds list"),
        ('{"cat": 1}', "names the class 'cat', which"),
        ('{"n00000000": -1}', "the weight -1: expected a number of 0 or more"),
        ('{"n00000000": true}', "the weight True"),
        ('{"n00000000": NaN}', "the weight nan"),
        ('{"n00000000": 0, "n00000001": 0, "n00000002": 0}', "every class the weight 0"),
    ):
        file.write_text(content)
        with pytest.raises(ValueError, match=said):
            class_weights.class_weights(str(file), dataset, None)
    with pytest.raises(FileNotFoundError, match=r"for --class_weight: expected 'balanced', or"):
        class_weights.class_weights(str(tmp_path / "none.json"), dataset, None)


def test_a_step_learns_what_keras_learns_with_sample_weights(tiny_network):
    weights, rng = np.array([0.25, 1.0, 3.0], np.float32), np.random.default_rng(0)
    images = rng.uniform(0, 255, (12, 24, 24, 3)).astype(np.float32)
    labels = rng.integers(0, 3, 12)
    ends, sums = [], []
    for own in (True, False, None):
        keras.utils.set_random_seed(1)
        model = build_model("tiny_columns", classes=3, initializer="he")
        for name in ("drop6", "drop7"):
            model.get_layer(name).rate = 0.0
        optimizer = PaperSGD(0.01)
        start = [np.asarray(v) for v in model.trainable_variables]
        if own is False:
            model.compile(optimizer, "sparse_categorical_crossentropy", jit_compile=False)
            model.train_on_batch(images, labels, sample_weight=weights[labels])
        else:
            optimizer.build(model.trainable_variables)
            steps = ReplicaSteps(
                tf.distribute.get_strategy(),
                model,
                optimizer,
                12,
                Augmentation(crop_size=24, mirror=False).apply,
                class_weights=weights if own else None,
            )
            batch = (tf.constant(images), tf.constant(labels), {})
            sums.append({name: float(x) for name, x in steps.step(batch, 0.0).items()})
        ends.append(
            [np.asarray(v) - s for v, s in zip(model.trainable_variables, start, strict=True)]
        )
    for mine, keras_own, unweighted in zip(*ends, strict=True):
        size = np.linalg.norm(keras_own)
        assert np.linalg.norm(mine - keras_own) < 1e-4 * size
        assert np.linalg.norm(mine - unweighted) > 0.01 * size
    assert sums[0] == pytest.approx(sums[1], rel=1e-6)  # what is reported is unweighted


@pytest.mark.parametrize("strategy", ["mirrored", "towers"])
def test_every_strategy_weights_alike(strategy, tiny_run, saved_weights, tmp_path):
    file = tmp_path / "weights.json"
    file.write_text(json.dumps({"astronaut": 5, "rocket": 0.1}))
    fields = {"learning_rate": 1e-5, "epochs": 1, "class_weight": str(file)}
    one = loop.train(tiny_run("one", **fields))
    two = loop.train(tiny_run("two", **fields), distribution.make_strategy(strategy))
    assert two["loss"] == pytest.approx(one["loss"], rel=1e-5)
    loop.train(tiny_run("start", **{**fields, "learning_rate": 1e-30}))
    loop.train(tiny_run("even", **{**fields, "class_weight": None}))
    start, first, second, even = map(saved_weights, ("start", "one", "two", "even"))
    for path in start:
        moved = np.linalg.norm(first[path] - start[path])
        assert np.linalg.norm(first[path] - second[path]) <= 1e-3 * moved, path
    assert any(np.linalg.norm(first[path] - even[path]) > 0 for path in start)


def test_other_weights_are_another_run(tiny_run, stop_at, tmp_path, capsys):
    file = tmp_path / "weights.json"
    file.write_text(json.dumps({"rocket": 2}))
    run = tiny_run(class_weight=str(file))
    with pytest.raises(loop.Interrupted):
        loop.train(run, callbacks=[stop_at(2)])
    said = capsys.readouterr().err
    assert "24  rocket  weight 2" in said and "training images of 6 class(es):" in said
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["class_weights"]["rocket"] == 2 and config["class_weights"]["coffee"] == 1
    moved = tmp_path / "moved.json"
    file.rename(moved)
    loop.train(tiny_run(class_weight=str(moved)))  # the same weights
    moved.write_text(json.dumps({"rocket": 3}))
    with pytest.raises(ValueError, match="class_weight was"):
        loop.train(tiny_run(class_weight=str(moved)))
