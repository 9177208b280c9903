"""What XLA compiles gives what TensorFlow's own operations give, also where those are refused."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import config as tf_config

from alexnet_tf.models import layers
from alexnet_tf.models.layers.dropout import _hash


@pytest.fixture
def deterministic():
    """As `train` runs: XLA then refuses its own gradient of max pooling."""
    tf.config.experimental.enable_op_determinism()
    yield
    tf_config.disable_op_determinism()


def _with_gradient(layer):
    def both(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True) if isinstance(layer, layers.Dropout) else layer(x)
        direction = tf.cast(tf.reshape(tf.range(tf.size(y)), y.shape) % 7 - 3, y.dtype)
        return y, tape.gradient(y, x, direction)

    return both


def _images(dtype="float32"):
    """Half of the values are zero, as behind a ReLU, so that windows of pools have ties."""
    return tf.cast(tf.nn.relu(tf.random.stateless_normal((4, 14, 13, 8), (1, 2))), dtype)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", [layers.MaxPooling2D, layers.CeilMaxPooling2D])
@pytest.mark.parametrize("size,stride", [(3, 2), (2, 2)])
def test_max_pooling_has_the_same_values_and_winners(deterministic, dtype, kind, size, stride):
    both = _with_gradient(kind(size, stride, dtype=dtype))
    plain, compiled = tf.function(both), tf.function(both, jit_compile=True)
    for expected, found in zip(plain(_images(dtype)), compiled(_images(dtype)), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_keras_own_pooling_is_what_xla_refuses(deterministic):
    """If this fails, TensorFlow has learned it and the slices can go."""
    both = _with_gradient(keras.layers.MaxPooling2D(3, 2))
    with pytest.raises(tf.errors.UnimplementedError, match="deterministic"):
        tf.function(both, jit_compile=True)(_images())


@pytest.mark.parametrize(
    "settings",
    [{}, {"groups": 2}, {"alpha_convention": "mean", "k": 1.0}, {"size": 3, "beta": 0.6}],
)
def test_response_normalisation_is_the_same_function(settings):
    both = _with_gradient(layers.LocalResponseNormalization(**settings))
    images = 40 * _images()
    compiled = tf.function(both, jit_compile=True)
    for expected, found in zip(tf.function(both)(images), compiled(images), strict=True):
        np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-6 * np.abs(expected).max())


def test_images_of_any_size_compile():
    """As `include_top=False` takes them."""
    signature = [tf.TensorSpec((None, None, None, 8), tf.float32)]
    for layer in (layers.LocalResponseNormalization(groups=2), layers.MaxPooling2D(3, 2)):
        found = tf.function(layer, jit_compile=True, input_signature=signature)(_images())
        np.testing.assert_allclose(found, layer(_images()), rtol=2e-6)


def test_compiled_normalisation_and_pooling_are_plain_passes():
    """No matrix product, which a GPU would round to TensorFloat-32, and no scatter."""
    images = 40 * _images()
    for layer in (layers.LocalResponseNormalization(), layers.MaxPooling2D(3, 2)):
        function = tf.function(_with_gradient(layer), jit_compile=True)
        listing = function.experimental_get_compiler_ir(images)(stage="optimized_hlo")
        assert "fusion" in listing
        assert not re.findall(r" (dot|convolution|custom-call|select-and-scatter|sort)\(", listing)


def test_dropout_draws_the_same_masks_compiled_or_not():
    masks = []
    for jit_compile in (False, True):
        layer = layers.Dropout(0.4, seed=3)
        draw = tf.function(lambda x, layer=layer: layer(x, training=True), jit_compile=jit_compile)
        masks.append([draw(tf.ones((6, 50))).numpy() for _ in range(3)])
        assert int(layer.step) == 3
    np.testing.assert_array_equal(masks[0], masks[1])


def test_a_position_from_outside_is_that_of_the_global_batch():
    """Two halves of a batch at step 5 have the masks of the whole; nothing is counted inside."""
    layer = layers.Dropout(0.5, seed=9)
    layer.step.assign(5)
    ones = tf.ones((8, 40))
    whole = layer(ones, training=True).numpy()
    halves = []
    for first in (0, 4):
        with layers.drawn_for(tf.constant(5, tf.int64), tf.constant(first)):
            halves.append(layer(ones[:4], training=True).numpy())
    np.testing.assert_array_equal(np.concatenate(halves), whole)
    assert int(layer.step) == 6
    model = keras.Sequential([keras.Input((40,)), layer])
    layers.count_call(model)
    assert int(layers.calls(model)) == 7


def test_masks_have_no_pattern():
    """Bits of the hash are balanced and uncorrelated over places, steps and seeds."""
    place = tf.range(2**16)
    draws = []
    for step in (0, 1, 2, 90_000):
        for seed in (0, 1):
            arguments = (tf.cast(value, tf.uint32) for value in (place, step, seed))
            bits = _hash(*arguments).numpy()
            draws.append((bits[:, None] >> np.arange(32)) & 1)
    draws = np.stack(draws) * 2.0 - 1.0  # (draw, place, bit), -1 or 1
    limit = 5 / np.sqrt(draws.shape[1])  # five deviations of a mean of so many
    assert np.abs(draws.mean(axis=1)).max() < limit
    top = draws[:, :, 31]
    for lag in (1, 2, 4096):  # neighbours, and the same unit of the next example
        assert np.abs((top[:, lag:] * top[:, :-lag]).mean(axis=1)).max() < limit
    products = np.abs(top @ top.T / top.shape[1]) - np.eye(len(top))
    assert products.max() < limit
    for bit in range(31):
        assert np.abs((top * draws[:, :, bit]).mean(axis=1)).max() < limit


def test_fit_compiles_a_network_deterministically(deterministic):
    """On a GPU `model.fit` compiles by itself; here it is told to."""
    rng = np.random.default_rng(0)
    images = rng.normal(0, 1, (16, 13, 13, 4)).astype(np.float32)
    truth = rng.integers(0, 4, 16)
    losses = []
    for jit_compile in (False, True):
        keras.utils.set_random_seed(0)
        dropout = layers.Dropout(0.5, seed=1)
        model = keras.Sequential(
            [
                keras.Input((13, 13, 4)),
                layers.GroupedConv2D(8, 3, groups=2),
                keras.layers.ReLU(),
                layers.LocalResponseNormalization(),
                layers.MaxPooling2D(3, 2),
                keras.layers.Flatten(),
                dropout,
                keras.layers.Dense(4),
            ]
        )
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(0.05), loss, jit_compile=jit_compile)
        history = model.fit(images, truth, batch_size=8, epochs=2, verbose=0, shuffle=False)
        losses.append(history.history["loss"])
        assert int(dropout.step) == 4
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)
