"""Dropout: expectation, masks that do not depend on devices, masks that a checkpoint restores."""

import json
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.models.layers import Dropout

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.parametrize("scaling", ["inverted", "paper"])
def test_training_and_test_have_the_same_expectation(scaling):
    layer = Dropout(0.3, seed=1, scaling=scaling)
    x = np.full((1000, 400), 2.0, np.float32)
    train, test = layer(x, training=True).numpy(), layer(x).numpy()
    kept = 2.0 / 0.7 if scaling == "inverted" else 2.0
    assert set(np.unique(train)) == {np.float32(0), np.float32(kept)}
    # 400,000 draws: a deviation of the mean of 0.0007 of the kept value.
    assert train.mean() == pytest.approx(test.mean(), rel=0.005)
    assert test[0, 0] == pytest.approx(2.0 if scaling == "inverted" else 1.4)


def test_the_scalings_are_one_function_when_the_next_kernel_makes_up_for_it():
    x = np.random.default_rng(0).normal(0, 1, (8, 50)).astype(np.float32)
    kernel = np.random.default_rng(1).normal(0, 1, (50, 3)).astype(np.float32)
    inverted, paper = Dropout(0.5, seed=7), Dropout(0.5, seed=7, scaling="paper")
    for training in (True, False):
        expected = inverted(x, training=training).numpy() @ kernel
        found = paper(x, training=training).numpy() @ (2 * kernel)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_masks_differ_between_calls_images_and_seeds():
    x = np.ones((2, 1000), np.float32)
    layer = Dropout(0.5, seed=3)
    first, second = layer(x, training=True).numpy(), layer(x, training=True).numpy()
    other = Dropout(0.5, seed=4)(x, training=True).numpy()
    # Independent masks agree in half of the places, give or take 16 of 1000 (one deviation).
    for a, b in ((first[0], first[1]), (first[0], second[0]), (first[0], other[0])):
        assert 400 < np.sum(a == b) < 600


def test_a_checkpoint_restores_the_masks_to_come(tmp_path):
    def network():
        return keras.Sequential([keras.Input((40,)), Dropout(0.5, seed=5)])

    x = np.ones((4, 40), np.float32)
    model = network()
    for _ in range(3):
        model(x, training=True)
    path = tf.train.Checkpoint(model=model).write(str(tmp_path / "c"))
    expected = model(x, training=True)
    again = network()
    tf.train.Checkpoint(model=again).read(path).assert_existing_objects_matched()
    assert int(again.layers[-1].step.numpy()) == 3
    np.testing.assert_array_equal(again(x, training=True), expected)


def test_the_step_is_no_weight():
    layer = Dropout(0.5)
    layer(np.ones((1, 2), np.float32), training=True)
    assert layer.weights == [] and layer.count_params() == 0


TRAIN = """
import json
import numpy as np, tensorflow as tf, keras
from alexnet_tf.models.layers import Dropout, GroupedConv2D, LocalResponseNormalization

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
rng = np.random.default_rng(0)
x, y = rng.normal(0, 1, (24, 9, 9, 4)).astype("float32"), rng.integers(0, 3, 24)

def train(devices):
    strategy = tf.distribute.MirroredStrategy(devices)
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = keras.Sequential([
            keras.Input((9, 9, 4)),
            GroupedConv2D(8, 3, padding=((1, 1), (0, 2)), groups=2),
            LocalResponseNormalization(),
            keras.layers.ReLU(),
            keras.layers.Flatten(),
            Dropout(0.5, seed=0, scaling="paper"),
            keras.layers.Dense(30),
            Dropout(0.5, seed=1),
            keras.layers.Dense(3),
        ])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(0.05, momentum=0.9), loss, jit_compile=False)
    start = [w.copy() for w in model.get_weights()]
    history = model.fit(x, y, batch_size=8, epochs=3, shuffle=False, verbose=0)
    weights = [w.ravel().tolist() for w in model.get_weights()]
    moved = max(float(np.abs(a - b).max()) for a, b in zip(start, model.get_weights()))
    step = int(model.layers[4].step.numpy())
    return {"loss": history.history["loss"], "weights": weights, "step": step, "moved": moved}

print(json.dumps([train(["CPU:0"]), train(["CPU:0", "CPU:1"])]))
"""


def test_two_replicas_train_to_the_weights_of_one():
    """With oneDNN off, too: there TensorFlow has no gradient for its own grouped convolution."""
    run = subprocess.run(
        [sys.executable, "-c", TRAIN],
        env={**os.environ, "TF_ENABLE_ONEDNN_OPTS": "0", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    one, two = json.loads(run.stdout.splitlines()[-1])
    assert one["step"] == two["step"] == 9
    assert one["moved"] > 0.01
    np.testing.assert_allclose(one["loss"], two["loss"], rtol=1e-5)
    for a, b in zip(one["weights"], two["weights"], strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
