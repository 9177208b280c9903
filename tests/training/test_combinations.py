"""Recipes, schedules, precisions, strategies, starts, with and without validation: all pairs.

Networks and data are tiny; recipes keep their numbers, in fewer epochs.
"""

import csv
import dataclasses
import itertools
import shutil

import keras
import numpy as np
import pytest

from alexnet_tf.experiments import networks
from alexnet_tf.models import build_model, catalog
from alexnet_tf.training import distribution, loop
from alexnet_tf.training.recipes import RECIPES

EPOCHS, STEPS, BATCH = 2, 3, 48  # 144 training images
SEED = 3
KINDS = {
    "recipe": tuple(RECIPES),
    "schedule": ("constant", "steps", "cosine", "plateau"),
    "validation": (True, False),
    "strategy": ("none", "mirrored", "towers"),
    "precision": ("float32", "mixed_bfloat16", "mixed_float16"),
    "start": ("fresh", "resumed", "finetuned"),
}
# Networks of their own, which have no columns; all others get one that towers can cut.
CIFARNETS = ("cifarnet", "cifarnet_no_norm")
OWN_NETWORK = {"lenet5", *CIFARNETS}


def _possible(row: dict) -> bool:
    if row.get("strategy") != "towers":
        return True
    # Refused in a sentence, which other tests hold.
    return row.get("recipe") not in OWN_NETWORK and row.get("precision") != "mixed_float16"


def _selection() -> list[dict]:
    """Rows in which every possible pair of values occurs; greedy, always the same."""
    rows = [
        row
        for values in itertools.product(*KINDS.values())
        if _possible(row := dict(zip(KINDS, values, strict=True)))
    ]
    pairs = {id(row): set(itertools.combinations(row.items(), 2)) for row in rows}
    missing, chosen = set().union(*pairs.values()), []
    while missing:
        best = max(rows, key=lambda row: len(pairs[id(row)] & missing))
        missing -= pairs[id(best)]
        chosen.append(best)
    return chosen


SELECTION = _selection()


@pytest.fixture(scope="module", autouse=True)
def tiny_networks(tiny):
    cifarnets = [
        dataclasses.replace(networks.narrowed(catalog.find_variant(name), 16), name=f"tiny_{name}")
        for name in CIFARNETS
    ]
    before = dict(catalog._VARIANTS)
    for variant in (tiny.columns(), *cifarnets):
        catalog.add_variant(variant)
    yield
    catalog._VARIANTS.clear()
    catalog._VARIANTS.update(before)


@pytest.fixture(scope="module")
def data(small_photo_folders, tmp_path_factory):
    """(channels, with validation) -> directory of 144 training images."""
    from data_prep import convert

    found = {}
    base = tmp_path_factory.mktemp("combinations")
    shutil.copytree(small_photo_folders / "train", base / "only" / "train")
    for channels, size in ((3, 32), (1, 28)):
        for validation, source in ((True, small_photo_folders), (False, base / "only")):
            output = base / f"records-{channels}-{validation}"
            flags = [f"--source={source}", f"--output={output}", "--workers=1", "--encoding=raw"]
            flags += [f"--image_size={size}", f"--channels={channels}"]
            assert not convert.main(flags)
            found[channels, validation] = str(output)
    return found


def _recipe(row: dict, source: str | None):
    published = RECIPES[row["recipe"]]
    own = {"lenet5": "lenet5_softmax", **{name: f"tiny_{name}" for name in CIFARNETS}}
    model = own.get(row["recipe"], "tiny_columns")
    rate = published.learning_rate / 10
    changes = {
        "model": model,
        "epochs": EPOCHS,
        "batch_size": BATCH,
        "learning_rate": rate,
        "schedule": row["schedule"],
        "precision": row["precision"],
        "rate_steps": ((1, rate / 10),),
        "crop_group": min(published.crop_group, 4),
        "warmup_epochs": 0.0 if row["schedule"] == "plateau" else published.warmup_epochs / 10,
        "patience": 1,
        "weights": source,
        "body_learning_rate": published.body_learning_rate if source else 1.0,
    }
    if published.bias_rate_steps:
        by_steps = row["schedule"] == "steps"
        changes["bias_rate_steps"] = ((0, 2 * rate),) if by_steps else ()
        changes["conv1_rate_steps"] = ((1, 0.0),) if by_steps else ()
    return dataclasses.replace(published, **changes)


def _wanted_rates(recipe) -> list[float]:
    """Of the last step of each epoch."""
    rates = []
    for epoch in range(EPOCHS):
        step = (epoch + 1) * STEPS - 1
        warmup = round(recipe.warmup_epochs * STEPS)
        risen = min(1.0, step / warmup) if warmup else 1.0
        rate = recipe.learning_rate
        if recipe.schedule == "steps" and epoch >= 1:
            rate /= 10
        elif recipe.schedule == "cosine" and step >= warmup:
            rate *= 0.5 * (1 + np.cos(np.pi * (step - warmup) / (EPOCHS * STEPS - warmup)))
        # With a patience of 1 the first epoch cannot be a plateau: anything is below infinity.
        rates.append(rate * risen)
    return rates


class _Before(keras.callbacks.Callback):
    """What the network says of some images before the first step."""

    def __init__(self, images):
        super().__init__()
        self.images, self.said = images, None

    def on_train_begin(self, logs=None):
        if self.said is None:
            self.said = np.asarray(self.model(self.images, training=False))


def _weights(workdir):
    model = keras.models.load_model(workdir / "model.keras")
    return {weight.path: np.asarray(weight) for weight in model.weights}


@pytest.mark.parametrize("row", SELECTION, ids=lambda row: "-".join(map(str, row.values())))
def test_a_combination(row, data, tmp_path, stop_at):
    channels = 1 if row["recipe"] == "lenet5" else 3
    data_dir = data[channels, row["validation"]]
    size = 28 if channels == 1 else 24
    source, before = None, None
    if row["start"] == "finetuned":
        # Trained without dropout, as another run might have left it, for the same six classes.
        keras.utils.set_random_seed(7)
        model = build_model(
            _recipe(row, None).model,
            classes=6,
            input_shape=(size, size, channels),
            initializer="he",
        )
        for layer in model.layers:
            if hasattr(layer, "rate"):
                layer.rate = 0.0
        source = str(tmp_path / "source.keras")
        model.save(source)
        images = np.random.default_rng(0).uniform(0, 255, (4, size, size, channels))
        before = _Before(images.astype(np.float32))
    recipe = _recipe(row, source)
    run = loop.Run(recipe, data_dir, str(tmp_path / "run"), seed=SEED)
    strategy = distribution.make_strategy(row["strategy"])
    loop.train(run, strategy, [before] if before else [])

    with open(tmp_path / "run" / "metrics.csv", encoding="utf-8") as file:
        history = list(csv.DictReader(file))
    assert [int(line["step"]) for line in history] == [STEPS, EPOCHS * STEPS]
    rates = [float(line["learning_rate"]) for line in history]
    assert rates == pytest.approx(_wanted_rates(recipe), rel=1e-5)
    assert all(np.isfinite(float(line["loss"])) for line in history)
    assert all(bool(line["validation_top1_error"]) == row["validation"] for line in history)
    weights = _weights(tmp_path / "run")
    assert all(np.isfinite(values).all() for values in weights.values())

    if before:
        said = np.asarray(model(before.images))
        tolerance = 1e-5 if row["precision"] == "float32" else 0.05
        np.testing.assert_allclose(before.said, said, atol=tolerance)
    if row["start"] == "resumed":
        again = dataclasses.replace(run, workdir=str(tmp_path / "again"))
        with pytest.raises(loop.Interrupted):
            loop.train(again, strategy, [stop_at(4)])
        loop.train(again, strategy)
        for path, values in _weights(tmp_path / "again").items():
            np.testing.assert_array_equal(values, weights[path], err_msg=path)
