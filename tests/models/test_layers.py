"""The layers against float64 NumPy and finite differences."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.models import layers
from alexnet_tf.models.layers import response_norm
from alexnet_tf.models.layers.local import LocallyConnected2D


def numpy_lrn(x, size, a, beta, k, groups):
    """Loops over the definition, in float64."""
    x = np.asarray(x, np.float64)
    c, y = x.shape[-1], np.empty(x.shape)
    per_group = c // groups
    for i in range(c):
        first = i // per_group * per_group
        near = range(max(first, i - size // 2), min(first + per_group, i + size // 2 + 1))
        energy = sum(x[..., j] ** 2 for j in near)
        y[..., i] = x[..., i] / (k + a * energy) ** beta
    return y


def numpy_lrn_gradient(x, dy, size, a, beta, k, groups):
    """Of sum(dy * y), by the quotient rule, channel by channel, in float64."""
    x, dy = np.asarray(x, np.float64), np.asarray(dy, np.float64)
    c, dx = x.shape[-1], np.zeros(x.shape)
    per_group = c // groups
    for i in range(c):
        first = i // per_group * per_group
        near = range(max(first, i - size // 2), min(first + per_group, i + size // 2 + 1))
        d = k + a * sum(x[..., j] ** 2 for j in near)
        dx[..., i] += dy[..., i] * d**-beta
        for j in near:
            dx[..., j] -= dy[..., i] * x[..., i] * beta * d ** (-beta - 1) * 2 * a * x[..., j]
    return dx


NORMS = [
    {"size": 5, "alpha": 1e-4, "beta": 0.75, "k": 2.0, "alpha_convention": "sum", "groups": 1},
    {"size": 5, "alpha": 1e-4, "beta": 0.75, "k": 2.0, "alpha_convention": "mean", "groups": 2},
    {"size": 9, "alpha": 1e-3, "beta": 0.5, "k": 1.0, "alpha_convention": "mean", "groups": 1},
]


def oracle_arguments(config):
    divisor = config["size"] if config["alpha_convention"] == "mean" else 1
    return (
        config["size"],
        config["alpha"] / divisor,
        config["beta"],
        config["k"],
        config["groups"],
    )


def activations(shape, seed=0, deviation=60.0):
    return np.random.default_rng(seed).normal(0, deviation, shape).astype(np.float32)


@pytest.mark.parametrize("config", NORMS)
def test_response_normalization_and_its_gradient_are_float64s(config):
    x, dy = activations((3, 5, 4, 24)), activations((3, 5, 4, 24), seed=1, deviation=1.0)
    layer = layers.LocalResponseNormalization(**config)
    with tf.GradientTape() as tape:
        tensor = tf.constant(x)
        tape.watch(tensor)
        y = layer(tensor)
    dx = tape.gradient(y, tensor, output_gradients=tf.constant(dy))
    expected = numpy_lrn(x, *oracle_arguments(config))
    np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-6)
    expected = numpy_lrn_gradient(x, dy, *oracle_arguments(config))
    np.testing.assert_allclose(dx, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("config", NORMS)
def test_the_form_for_gpus_is_float64s_too(config, monkeypatch):
    """The same operation runs on a CPU, where TensorFlow's gradient kernel is a little coarser."""
    monkeypatch.setattr(response_norm, "is_on_gpu", lambda: True)
    test_response_normalization_and_its_gradient_are_float64s(config)


def test_the_numpy_gradient_is_that_of_the_numpy_function():
    """The oracle of the oracle: central differences in float64."""
    arguments = oracle_arguments(NORMS[1])
    x = activations((1, 1, 1, 8)).astype(np.float64)
    dy = activations((1, 1, 1, 8), seed=1)
    gradient = numpy_lrn_gradient(x, dy, *arguments)
    for j in range(8):
        step = np.zeros(x.shape)
        step[..., j] = 1e-4
        up, down = (np.sum(dy * numpy_lrn(x + s, *arguments)) for s in (step, -step))
        assert gradient[..., j].item() == pytest.approx((up - down) / 2e-4, rel=1e-6)


def test_alphas_two_conventions_differ_by_the_size():
    x = np.full((1, 1, 1, 5), 100.0, np.float32)
    paper = layers.LocalResponseNormalization()(x)[0, 0, 0, 2]
    program = layers.LocalResponseNormalization(alpha_convention="mean")(x)[0, 0, 0, 2]
    assert float(paper) == pytest.approx(100 / (2 + 5e-4 * 1e4) ** 0.75, rel=1e-6)
    assert float(program) == pytest.approx(100 / (2 + 1e-4 * 1e4) ** 0.75, rel=1e-6)


@pytest.mark.parametrize(
    "policy, tolerance", [("mixed_bfloat16", 2**-8), ("mixed_float16", 2**-10)]
)
def test_response_normalization_loses_only_the_last_rounding_under_a_mixed_policy(
    policy, tolerance
):
    """Squares of 60,000 overflow float16: the arithmetic has to be float32 inside."""
    dtype = keras.DTypePolicy(policy).compute_dtype
    x = tf.cast(activations((2, 3, 3, 24), deviation=9000.0), dtype)
    layer = layers.LocalResponseNormalization(dtype=policy)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
    dx = tape.gradient(y, x)
    assert y.dtype == dtype and dx.dtype == dtype
    arguments = oracle_arguments(NORMS[0])
    exact = tf.cast(x, tf.float32).numpy()
    expected = numpy_lrn(exact, *arguments)
    np.testing.assert_allclose(tf.cast(y, tf.float32), expected, rtol=tolerance, atol=1e-6)
    expected = numpy_lrn_gradient(exact, np.ones(x.shape), *arguments)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(tf.cast(dx, tf.float32), expected, rtol=tolerance, atol=1e-3 * scale)


def test_spatial_normalization_is_float64s():
    x = activations((2, 7, 6, 3), deviation=200.0)
    expected = np.empty(x.shape)
    for i in range(7):
        for j in range(6):
            window = x[:, max(0, i - 2) : i + 3, max(0, j - 2) : j + 3].astype(np.float64)
            energy = np.sum(window**2, axis=(1, 2))
            expected[:, i, j] = x[:, i, j] / (1 + 1e-3 / 25 * energy) ** 0.75
    layer = layers.SpatialResponseNormalization()
    np.testing.assert_allclose(layer(x), expected, rtol=3e-6)


def numpy_conv(x, kernel, stride, padding, groups):
    """Grouped cross-correlation in float64, one output position at a time."""
    x = np.pad(np.asarray(x, np.float64), ((0, 0), *padding, (0, 0)))
    kh, kw, per_group, filters = kernel.shape
    h, w = ((n - k) // stride + 1 for n, k in ((x.shape[1], kh), (x.shape[2], kw)))
    y = np.zeros((len(x), h, w, filters))
    for o in range(filters):
        first = o // (filters // groups) * per_group
        for i in range(h):
            for j in range(w):
                patch = x[:, i * stride : i * stride + kh, j * stride : j * stride + kw]
                patch = patch[..., first : first + per_group]
                y[:, i, j, o] = np.sum(patch * kernel[..., o], axis=(1, 2, 3))
    return y


@pytest.mark.parametrize(
    "groups, stride, padding",
    [
        (2, 1, ((2, 2), (2, 2))),
        (2, 2, ((0, 3), (1, 0))),
        (1, 4, ((0, 3), (0, 3))),
        (2, 1, ((1, 3), (3, 1))),  # as many zeros as "same" has, elsewhere
        (4, 1, "valid"),
    ],
)
def test_grouped_convolution_is_float64s(groups, stride, padding):
    x = activations((2, 9, 11, 8), deviation=1.0)
    layer = layers.GroupedConv2D(12, 5, padding=padding, strides=stride, groups=groups)
    y = layer(x)
    kernel = layer.kernel.numpy()
    assert kernel.shape == (5, 5, 8 // groups, 12)
    explicit = ((0, 0), (0, 0)) if padding == "valid" else padding
    expected = numpy_conv(x, kernel, stride, explicit, groups)
    assert layer.compute_output_shape(x.shape) == y.shape == expected.shape
    np.testing.assert_allclose(y, expected, atol=2e-5)
    again = layers.GroupedConv2D.from_config(layer.get_config())
    again.build(x.shape)
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(again(x), y)


@pytest.mark.parametrize(
    "kernel_size, stride, padding",
    [
        (5, 1, ((2, 2), (2, 2))),
        (4, 1, ((1, 2), (1, 2))),
        (4, 1, ((2, 1), (2, 1))),
        ((3, 5), 1, ((1, 1), (2, 2))),
        (5, 1, ((1, 3), (2, 2))),
        (4, 2, ((0, 1), (2, 0))),
    ],
)
def test_the_gradients_of_explicit_padding_are_float64s(kernel_size, stride, padding):
    x = activations((2, 9, 11, 8), deviation=1.0)
    layer = layers.GroupedConv2D(6, kernel_size, padding=padding, strides=stride, groups=2)
    layer.build(x.shape)

    @tf.function
    def gradients(x, dy):
        with tf.GradientTape() as tape:
            tape.watch(x)
            total = tf.reduce_sum(dy * layer(x))
        return tape.gradient(total, [x, layer.kernel.value])

    kernel = layer.kernel.numpy()
    dy = activations(layer.compute_output_shape(x.shape), seed=1, deviation=1.0)
    graph = gradients.get_concrete_function(x, dy).graph.as_graph_def()
    paddings = {n.attr["padding"].s for n in graph.node if "Conv2DBackprop" in n.op}
    assert paddings and b"EXPLICIT" not in paddings  # oneDNN has no gradient of those
    dx, dk = gradients(tf.constant(x), dy)
    # A convolution is linear in both: <dx, v> = <dy, v * kernel>, <dk, u> = <dy, x * u>.
    v = activations(x.shape, seed=2, deviation=1.0)
    u = activations(kernel.shape, seed=3, deviation=1.0)
    for gradient, direction, pair in ((dx, v, (v, kernel)), (dk, u, (x, u))):
        expected = np.sum(dy * numpy_conv(*pair, stride, padding, 2))
        scale = np.linalg.norm(gradient) * np.linalg.norm(direction)
        assert abs(np.vdot(gradient, direction) - expected) < 1e-6 * scale


def test_grouped_convolution_and_its_gradient_equal_keras_own():
    x = activations((2, 9, 9, 8), deviation=1.0)
    ours = layers.GroupedConv2D(6, 3, padding="same", groups=2)
    theirs = keras.layers.Conv2D(6, 3, padding="same", groups=2)
    ours(x), theirs(x)
    ours.set_weights(theirs.get_weights())
    gradients = []
    for layer in (ours, theirs):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(x) ** 2)
        gradients.append([loss, *tape.gradient(loss, layer.trainable_weights)])
    for a, b in zip(*gradients, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-4)


def test_grouped_dense_columns_do_not_see_each_other():
    layer = layers.GroupedDense(6, groups=2)
    x = activations((3, 8), deviation=1.0)
    y = layer(x)
    kernel, bias = (w.astype(np.float64) for w in layer.get_weights())
    assert kernel.shape == (2, 4, 3)
    expected = np.concatenate([x[:, :4] @ kernel[0], x[:, 4:] @ kernel[1]], axis=1) + bias
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)


def test_locally_connected_is_float64s():
    layer = LocallyConnected2D(4, 3)
    x = activations((2, 5, 6, 3), deviation=1.0)
    layer.build(x.shape)
    rng = np.random.default_rng(0)
    kernel, bias = (rng.normal(size=w.shape) for w in layer.get_weights())
    layer.set_weights([kernel, bias])
    padded = np.pad(x.astype(np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    expected = np.empty((2, 5, 6, 4))
    for i in range(5):
        for j in range(6):
            patch = padded[:, i : i + 3, j : j + 3].reshape(2, -1)
            expected[:, i, j] = patch @ kernel[i, j] + bias[i, j]
    np.testing.assert_allclose(layer(x), expected, rtol=1e-5, atol=1e-5)


def test_gradients_of_locally_connected_are_float64s():
    layer = LocallyConnected2D(4, 3)
    x, dy = activations((2, 5, 6, 3), deviation=1.0), activations((2, 5, 6, 4), deviation=1.0)
    layer.build(x.shape)
    kernel = np.random.default_rng(0).normal(size=layer.kernel.shape)
    layer.kernel.assign(kernel)
    inputs = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        loss = tf.reduce_sum(layer(inputs) * dy)
    found = tape.gradient(loss, [inputs, layer.kernel.value, layer.bias.value])
    padded = np.pad(x.astype(np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    to_input, to_kernel = np.zeros_like(padded), np.empty(kernel.shape)
    for i in range(5):
        for j in range(6):
            patch = padded[:, i : i + 3, j : j + 3].reshape(2, -1)
            to_kernel[i, j] = patch.T @ dy[:, i, j]
            to_input[:, i : i + 3, j : j + 3] += (dy[:, i, j] @ kernel[i, j].T).reshape(2, 3, 3, 3)
    expected = (to_input[:, 1:-1, 1:-1], to_kernel, dy.sum(axis=0))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("size, stride", [(3, 2), (2, 2), (3, 3)])
@pytest.mark.parametrize("h, w", [(7, 8), (6, 6), (5, 9)])
def test_ceil_pooling_takes_the_windows_that_hang_over_the_edge(size, stride, h, w):
    x = activations((2, h, w, 3)) - 500.0  # all negative: a border of zeros would win
    layer = layers.CeilMaxPooling2D(size, stride)
    starts = [range(0, -(-(n - size) // stride) * stride + 1, stride) for n in (h, w)]
    expected = np.stack(
        [
            np.stack([x[:, i : i + size, j : j + size].max((1, 2)) for j in starts[1]], axis=1)
            for i in starts[0]
        ],
        axis=1,
    )
    np.testing.assert_array_equal(layer(x), expected)
    assert layer.compute_output_shape(x.shape) == expected.shape


def test_pixel_normalization_keeps_neighbouring_pixels_apart_under_bfloat16():
    layer = layers.PixelNormalization([200.0, 201.0, 202.0], dtype="mixed_bfloat16")
    y = layer(np.array([[[[203.0, 203.0, 203.0]]]], np.float32))
    assert y.dtype == tf.bfloat16
    # bfloat16 knows only even numbers here: a mean subtracted there would give 4, 2 or 0.
    np.testing.assert_array_equal(tf.cast(y, tf.float32)[0, 0, 0], [3, 2, 1])


def test_a_mean_window_survives_configuration_exactly():
    window = np.random.default_rng(0).uniform(0, 255, (5, 4, 3)).astype(np.float32)
    layer = layers.PixelNormalization(window, scale=[0.1, 0.2, 0.3], channel_order="bgr")
    again = layers.PixelNormalization.from_config(layer.get_config())
    np.testing.assert_array_equal(again.mean, window)
    x = np.random.default_rng(1).uniform(0, 255, (2, 5, 4, 3)).astype(np.float32)
    expected = ((x.astype(np.float64) - window) * [0.1, 0.2, 0.3])[..., ::-1]
    np.testing.assert_allclose(again(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "make, sentence",
    [
        (lambda: layers.PixelNormalization([1.0, np.nan, 2.0]), "one finite number"),
        (lambda: layers.PixelNormalization(np.zeros((2, 2))), r"shape \(2, 2\)"),
        (lambda: layers.PixelNormalization(1.0, channel_order="gbr"), "'rgb' or 'bgr'"),
        (lambda: layers.PixelNormalization([1.0, 2.0])(np.zeros((1, 2, 2, 3))), r"shape \(2,\)"),
        (lambda: layers.LocalResponseNormalization(size=4), "odd number of channels"),
        (lambda: layers.LocalResponseNormalization(k=0.0), "expected positive numbers"),
        (lambda: layers.LocalResponseNormalization(alpha_convention="n"), "'sum'.*'mean'"),
        (lambda: layers.LocalResponseNormalization(groups=2)(np.zeros((1, 1, 1, 3))), "divide"),
        (lambda: layers.GroupedConv2D(4, 3, padding=((1, 1),)), r"\(\(1, 1\),\)"),
        (lambda: layers.Dropout(1.0), r"expected a number in \[0, 1\)"),
        (lambda: layers.Dropout(0.5, scaling="keras"), "'inverted' or 'paper'"),
    ],
)
def test_a_bad_argument_is_named_in_one_sentence(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()
