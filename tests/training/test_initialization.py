"""Fine-tuning: a trained body, frozen, slow or at the full rate, under a new last layer."""

import dataclasses
import shutil

import keras
import numpy as np
import pytest

import alexnet_tf
from alexnet_tf import train
from alexnet_tf.data.records import open_dataset
from alexnet_tf.models import Dropout, build_model, logits_model, preprocessing_layer
from alexnet_tf.models.saved_run import TrainedModel, open_model
from alexnet_tf.training import initialization, loop
from alexnet_tf.training.recipes import RECIPES, Recipe

MEAN = np.array([99.0, 101.0, 103.0], np.float32)
FINETUNE = dataclasses.replace(
    RECIPES["finetune"], model="cifarnet", epochs=1, batch_size=16, dropout=0.0
)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A network of 4 classes with a mean of its own, as another run might have left it."""
    path = tmp_path_factory.mktemp("source") / "body.keras"
    first = preprocessing_layer("cifarnet", MEAN)
    build_model("cifarnet", classes=4, initializer="he", include_preprocessing=first).save(path)
    return str(path)


def _weights(path):
    return {weight.path: np.asarray(weight) for weight in alexnet_tf.load_model(path).weights}


def _moved(before, after):
    """Layers whose weights changed."""
    return {name.split("/")[0] for name in before if not np.array_equal(before[name], after[name])}


def test_a_frozen_body_keeps_its_bits_under_a_new_head(
    source, small_photo_records, tmp_path, capsys
):
    recipe = dataclasses.replace(FINETUNE, weights=source, body_learning_rate=0.0)
    loop.train(loop.Run(recipe, small_photo_records, str(tmp_path)))
    assert "new last layer 'fc10': 4 classes there, 6 here" in capsys.readouterr().err
    network = alexnet_tf.load_model(tmp_path / "model.keras")
    assert network.output_shape == (None, 6)
    # The body goes on seeing what it was trained on, not the new data set's mean.
    np.testing.assert_array_equal(network.get_layer("preprocessing").mean, MEAN)
    before, after = _weights(source), _weights(tmp_path / "model.keras")
    assert _moved(before, after) == {"fc10"}


@pytest.mark.slow
def test_a_slow_body_moves_a_tenth_as_far(source, small_photo_records, tmp_path):
    """One step from rest: the update is the rate times the same gradient."""
    step = dataclasses.replace(FINETUNE, weights=source, batch_size=144, weight_decay=0.0)
    step = dataclasses.replace(step, learning_rate=1e-3, schedule="constant")
    moves = []
    for rate in (1.0, 0.1):
        recipe = dataclasses.replace(step, body_learning_rate=rate)
        run = loop.Run(recipe, small_photo_records, str(tmp_path / str(rate)))
        assert loop.train(run)["steps"] == 1
        after, before = _weights(tmp_path / str(rate) / "model.keras"), _weights(source)
        moves.append({name: after[name] - before[name] for name in before if "fc10" not in name})
    for name, full in moves[0].items():
        assert np.linalg.norm(full) > 0
        # The difference of float32 weights is known to about 1e-7 of the weights.
        np.testing.assert_allclose(moves[1][name], 0.1 * full, atol=1e-7, err_msg=name)


def test_a_head_that_fits_is_kept(source, small_photo_records):
    recipe = dataclasses.replace(FINETUNE, weights=source)
    opened = initialization.open_source(recipe)
    network = build_model("cifarnet", classes=4)
    names = ("a", "b", "c", "d")
    assert "All weights" in initialization.take_weights(network, opened, names)
    for mine, theirs in zip(network.get_weights(), opened.model.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    # As many classes, but other ones: the old head knows nothing about them.
    others = dataclasses.replace(opened, class_names=("k", "l", "m", "n"))
    network = build_model("cifarnet", classes=4)
    assert "new last layer" in initialization.take_weights(network, others, names)
    head, old = (model.get_layer("fc10").get_weights()[0] for model in (network, opened.model))
    assert not np.array_equal(head, old)


@pytest.mark.parametrize("old", [("paper", 0.0), ("paper", 0.5), ("inverted", 0.5), ("keras", 0.3)])
@pytest.mark.parametrize("new", [("paper", 0.5), ("paper", 0.0), ("inverted", 0.2)])
def test_inference_equals_the_sources_for_any_dropout(old, new, tiny_network):
    """The paper's dropout multiplies by 1 - rate at test; the kernel behind makes up for it."""

    def network(scaling, rate, seed):
        keras.utils.set_random_seed(seed)
        model = build_model("tiny", classes=4, initializer="he")
        for layer in model.layers:
            if isinstance(layer, Dropout):
                layer.scaling, layer.rate = scaling, rate
        if scaling != "keras":
            return model

        def stock(layer):
            return keras.layers.Dropout(rate, name=layer.name)

        swap = {name: stock(model.get_layer(name)) for name in ("drop6", "drop7")}
        return keras.models.clone_model(
            model,
            clone_function=lambda layer: (
                swap.get(layer.name) or layer.__class__.from_config(layer.get_config())
            ),
        )

    source, mine = network(*old, seed=1), network(*new, seed=2)
    images = np.random.default_rng(0).uniform(0, 255, (4, 35, 35, 3)).astype(np.float32)
    opened = TrainedModel("source.keras", source, None, 35)
    said = initialization.take_weights(mine, opened, ("a", "b", "c", "d"))
    wanted = np.asarray(logits_model(source)(images))
    assert np.ptp(wanted, axis=0).min() > 0
    np.testing.assert_allclose(logits_model(mine)(images), wanted, rtol=1e-4, atol=1e-5)
    same = [1 - rate if scaling == "paper" else 1 for scaling, rate in (old, new)]
    assert ("fc7 by" in said) == (same[0] != same[1])


@pytest.mark.slow
def test_a_run_goes_on_without_its_source(source, small_photo_records, tmp_path):
    """What the source gave is in the checkpoint; only its shape and mean are read again."""
    copy = tmp_path / "copy.keras"
    shutil.copy(source, copy)
    recipe = dataclasses.replace(FINETUNE, weights=str(copy))
    run = loop.Run(recipe, small_photo_records, str(tmp_path / "run"))
    first = loop.train(run)
    assert loop.train(run)["loss"] == first["loss"]


def test_a_source_that_does_not_fit_is_refused(source, small_photo_records, tmp_path, capsys):
    dataset = open_dataset(small_photo_records)
    with pytest.raises(ValueError, match=r"network 'cifarnet'.*'conv1'.*use the --model"):
        initialization.take_weights(
            build_model("alexnet", input_shape=(67, 67, 3), classes=4), open_model(source), ("a",)
        )
    lenet = build_model("lenet5")
    with pytest.raises(ValueError, match=r"nothing of lenet5 is left to train.*'output'"):
        initialization.prepare_body(
            lenet, Recipe(model="lenet5", weights="x", body_learning_rate=0.0)
        )
    caffe = Recipe(model="caffenet", weights=source)
    with pytest.raises(ValueError, match=r"in rgb, but caffenet takes them .* in bgr"):
        initialization.network_mean(caffe, dataset, open_model(source))
    assert initialization.with_crop_size(caffe, dataset, open_model(source)).crop_size == 24
    assert train.main(["--recipe=finetune", f"--data_dir={small_photo_records}"]) == 2
    assert "--weights is missing" in capsys.readouterr().err
    assert train.main(["--recipe=lenet5", "--body_learning_rate=3", "--data_dir=x"]) == 2
    assert "expected 0 (frozen) to 1" in capsys.readouterr().err
    flags = [f"--data_dir={small_photo_records}", f"--workdir={tmp_path}", "--deterministic=false"]
    assert train.main(["--recipe=finetune", "--weights=no.keras", *flags]) == 1
    assert "There is no model no.keras" in capsys.readouterr().err
