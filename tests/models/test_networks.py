"""Whole networks against float64 NumPy and finite differences, and what they export."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import alexnet_tf
from alexnet_tf import models


def conv(x, weights, stride=1, pad=((0, 0), (0, 0)), groups=1):
    kernel, bias = weights
    x = np.pad(x, ((0, 0), *pad, (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[:2], axis=(1, 2))
    windows = windows[:, ::stride, ::stride]  # (b, h, w, c, kh, kw)
    c, o = x.shape[-1] // groups, kernel.shape[-1] // groups
    parts = [
        np.einsum(
            "bhwcij,ijco->bhwo",
            windows[:, :, :, g * c : (g + 1) * c],
            kernel[..., g * o : (g + 1) * o],
            optimize=True,
        )
        for g in range(groups)
    ]
    return np.concatenate(parts, axis=-1) + bias


def relu(x):
    return np.maximum(x, 0)


def lrn(x, k, a, groups=1):
    y = np.empty_like(x)
    c = x.shape[-1] // groups
    for i in range(x.shape[-1]):
        first = i // c * c
        near = slice(max(first, i - 2), min(first + c, i + 3))
        y[..., i] = x[..., i] * (k + a * np.sum(x[..., near] ** 2, axis=-1)) ** -0.75
    return y


def spatial_norm(x):
    y = np.empty_like(x)
    for i in range(x.shape[1]):
        for j in range(x.shape[2]):
            window = x[:, max(0, i - 2) : i + 3, max(0, j - 2) : j + 3]
            energy = np.sum(window**2, axis=(1, 2))
            y[:, i, j] = x[:, i, j] * (1 + 1e-3 / 25 * energy) ** -0.75
    return y


def pool(x, size, stride):
    """Rounded up, as Caffe and the original program count."""
    starts = [range(0, -(-(n - size) // stride) * stride + 1, stride) for n in x.shape[1:3]]
    rows = [
        np.stack([x[:, i : i + size, j : j + size].max((1, 2)) for j in starts[1]], axis=1)
        for i in starts[0]
    ]
    return np.stack(rows, axis=1)


def dense(x, weights):
    return x @ weights[0] + weights[1]


def head(x, w):
    """Dropout of the paper at test: the outputs of fc6 and fc7 times one half."""
    x = 0.5 * relu(dense(x.reshape(len(x), -1), w["fc6"]))
    x = 0.5 * relu(dense(x, w["fc7"]))
    return dense(x, w["fc8"])


OVERHANG, PAD1, PAD2 = ((0, 3), (0, 3)), ((1, 1), (1, 1)), ((2, 2), (2, 2))


def numpy_alexnet(x, w):
    """The paper's text, section 3."""
    x = pool(lrn(relu(conv(x, w["conv1"], 4, OVERHANG)), 2, 1e-4), 3, 2)
    x = pool(lrn(relu(conv(x, w["conv2"], 1, PAD2, 2)), 2, 1e-4), 3, 2)
    x = relu(conv(x, w["conv3"], 1, PAD1))
    x = relu(conv(x, w["conv4"], 1, PAD1, 2))
    return head(pool(relu(conv(x, w["conv5"], 1, PAD1, 2)), 3, 2), w)


def numpy_145(x, w):
    """The program's network #145."""
    x = relu(pool(lrn(conv(x, w["conv1"], 4, OVERHANG), 2, 2e-5, 2), 3, 2))
    x = lrn(relu(conv(x, w["conv2"], 1, PAD2, 2)), 2, 2e-5, 2)
    x = pool(spatial_norm(x), 3, 2)
    x = relu(conv(x, w["conv3"], 1, PAD1))
    x = relu(conv(x, w["conv4"], 1, PAD1, 2))
    return head(relu(pool(conv(x, w["conv5"], 1, PAD1, 2), 3, 2)), w)


def numpy_146(x, w):
    """#145 with conv6 after the last pool."""
    x = relu(pool(lrn(conv(x, w["conv1"], 4, OVERHANG), 2, 2e-5, 2), 3, 2))
    x = lrn(relu(conv(x, w["conv2"], 1, PAD2, 2)), 2, 2e-5, 2)
    x = pool(spatial_norm(x), 3, 2)
    x = relu(conv(x, w["conv3"], 1, PAD1))
    x = relu(conv(x, w["conv4"], 1, PAD1, 2))
    x = relu(pool(conv(x, w["conv5"], 1, PAD1, 2), 3, 2))
    return head(relu(conv(x, w["conv6"], 1, PAD1)), w)


def numpy_pool2(x, w):
    """#147: pools of 2 by 2, conv2 with a border of 1, conv5 with none."""
    x = relu(pool(lrn(conv(x, w["conv1"], 4, OVERHANG), 2, 2e-5, 2), 2, 2))
    x = lrn(relu(conv(x, w["conv2"], 1, PAD1, 2)), 2, 2e-5, 2)
    x = pool(spatial_norm(x), 2, 2)
    x = relu(conv(x, w["conv3"], 1, PAD1))
    x = relu(conv(x, w["conv4"], 1, PAD1, 2))
    return head(relu(pool(conv(x, w["conv5"], groups=2), 2, 2)), w)


def numpy_no_norm(x, w):
    """#148."""
    x = relu(pool(conv(x, w["conv1"], 4, OVERHANG), 3, 2))
    x = pool(relu(conv(x, w["conv2"], 1, PAD2, 2)), 3, 2)
    x = relu(conv(x, w["conv3"], 1, PAD1))
    x = relu(conv(x, w["conv4"], 1, PAD1, 2))
    return head(relu(pool(conv(x, w["conv5"], 1, PAD1, 2), 3, 2)), w)


def numpy_half(x, w):
    """One column: no groups, one run of channels in the norms."""
    x = relu(pool(lrn(conv(x, w["conv1"], 4, OVERHANG), 2, 2e-5), 3, 2))
    x = pool(spatial_norm(lrn(relu(conv(x, w["conv2"], 1, PAD2)), 2, 2e-5)), 3, 2)
    x = relu(conv(x, w["conv3"], 1, PAD1))
    x = relu(conv(x, w["conv4"], 1, PAD1))
    return head(relu(pool(conv(x, w["conv5"], 1, PAD1), 3, 2)), w)


def numpy_no_cross(x, w):
    """#150, one column after the other, each up to its half of fc7."""
    halves = []
    for g in range(2):

        def column(name, g=g):
            kernel, bias = w[name]
            half = bias.size // 2
            if kernel.ndim == 3:  # dense layers in columns: (2, inputs, outputs)
                return kernel[g], bias[g * half : (g + 1) * half]
            mine = slice(g * half, (g + 1) * half)
            return kernel[..., mine], bias[mine]

        y = relu(pool(lrn(conv(x, column("conv1"), 4, OVERHANG), 2, 2e-5), 3, 2))
        y = pool(spatial_norm(lrn(relu(conv(y, column("conv2"), 1, PAD2)), 2, 2e-5)), 3, 2)
        y = relu(conv(y, column("conv3"), 1, PAD1))
        y = relu(conv(y, column("conv4"), 1, PAD1))
        y = relu(pool(conv(y, column("conv5"), 1, PAD1), 3, 2))
        y = 0.5 * relu(dense(y.reshape(len(y), -1), column("fc6")))
        halves.append(0.5 * relu(dense(y, column("fc7"))))
    return dense(np.concatenate(halves, axis=-1), w["fc8"])


def numpy_caffenet(x, w):
    x = lrn(pool(relu(conv(x, w["conv1"], 4)), 3, 2), 1, 2e-5)
    x = lrn(pool(relu(conv(x, w["conv2"], 1, PAD2, 2)), 3, 2), 1, 2e-5)
    x = relu(conv(x, w["conv3"], 1, PAD1))
    x = relu(conv(x, w["conv4"], 1, PAD1, 2))
    x = pool(relu(conv(x, w["conv5"], 1, PAD1, 2)), 3, 2)
    x = relu(dense(x.reshape(len(x), -1), w["fc6"]))
    return dense(relu(dense(x, w["fc7"])), w["fc8"])


ORACLES = {
    "alexnet": numpy_alexnet,
    "alexnet_145": numpy_145,
    "alexnet_145_half": numpy_half,
    "alexnet_145_no_norm": numpy_no_norm,
    "alexnet_145_pool2": numpy_pool2,
    "alexnet_145_no_cross": numpy_no_cross,
    "alexnet_146": numpy_146,
    "caffenet": numpy_caffenet,
}


@pytest.fixture
def float64():
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_dtype_policy("float32")


def seeded(name, **keywords):
    """Raw input, kernels and biases that keep every layer alive and far from its kinks."""
    keras.utils.set_random_seed(9)
    model = alexnet_tf.build_model(
        name, include_preprocessing=False, initializer="he", classes=6, **keywords
    )
    rng = np.random.default_rng(10)
    for layer in model.layers:
        if getattr(layer, "bias", None) is not None:
            layer.bias.assign(rng.normal(0, 0.5, layer.bias.shape))
    first = next(layer for layer in model.layers if layer.weights)
    fan_in = np.prod(first.kernel.shape[:3])
    first.kernel.assign(rng.normal(0, fan_in**-0.5, first.kernel.shape))
    return model


@pytest.mark.parametrize("name", ORACLES)
def test_a_whole_network_is_float64s(name):
    # Not square, which would hide swapped axes; every pool of 3 fits, so floor and ceil agree.
    size = (99, 131)
    model = models.logits_model(seeded(name, input_shape=(*size, 3)))
    x = np.random.default_rng(0).normal(0, 70, (2, *size, 3)).astype(np.float32)
    weights = {
        layer.name: [w.astype(np.float64) for w in layer.get_weights()]
        for layer in model.layers
        if layer.weights
    }
    expected = ORACLES[name](x.astype(np.float64), weights)
    found = model(x)
    scale = np.abs(expected).max()
    assert np.abs(expected[0] - expected[1]).max() > 0.01 * scale
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize(
    "name, shape",
    [
        pytest.param("alexnet", (67, 67, 3), marks=pytest.mark.slow),
        ("alexnet_145", (67, 67, 3)),
        ("cifarnet", (16, 16, 3)),
        ("lenet5", (32, 32, 1)),
    ],
)
def test_gradients_are_those_of_finite_differences(float64, name, shape):
    """For each weight, along one random direction, in float64."""
    model = models.logits_model(seeded(name, input_shape=shape))
    x = tf.constant(np.random.default_rng(1).normal(0, 1, (2, *shape)))
    target = np.random.default_rng(2).normal(0, 1, (2, model.output_shape[-1]))

    @tf.function
    def loss():
        y = tf.cast(model(x), tf.float64)
        return tf.reduce_sum(y * target) + 0.5 * tf.reduce_sum(y**2)

    with tf.GradientTape() as tape:
        value = loss()
    gradients = tape.gradient(value, model.trainable_variables)
    rng = np.random.default_rng(3)
    for weight, gradient in zip(model.trainable_variables, gradients, strict=True):
        start = weight.numpy()
        direction = rng.normal(0, 1, start.shape)
        step = 1e-6 / np.sqrt(start.size)
        values = []
        for sign in (1, -1):
            weight.assign(start + sign * step * direction)
            values.append(float(loss()))
        weight.assign(start)
        slope = (values[0] - values[1]) / (2 * step)
        expected = float(np.sum(gradient.numpy() * direction))
        assert slope == pytest.approx(expected, rel=1e-4, abs=1e-5 * abs(float(value))), weight.path


def library(directory):
    """The functions of a SavedModel's first graph."""
    from tensorflow.core.protobuf import saved_model_pb2

    proto = saved_model_pb2.SavedModel()
    proto.ParseFromString((directory / "saved_model.pb").read_bytes())
    return proto.meta_graphs[0].graph_def.library.function


def test_nothing_that_is_exported_must_be_compiled_by_xla(tmp_path):
    """A TensorFlow Serving for CPU refuses such functions; Keras' own groups export one each."""
    model = seeded("alexnet", input_shape=(67, 67, 3))
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    model.export(ours, verbose=False)
    assert len(library(ours)) > 0
    assert not [f.signature.name for f in library(ours) if "_XlaMustCompile" in f.attr]
    loaded = tf.saved_model.load(str(ours))
    x = np.random.default_rng(0).normal(0, 70, (2, 67, 67, 3)).astype(np.float32)
    np.testing.assert_allclose(loaded.serve(x), model(x), rtol=1e-5, atol=1e-7)
    # The search itself must be able to find one.
    inputs = keras.Input((8, 8, 4))
    keras.Model(inputs, keras.layers.Conv2D(4, 3, groups=2)(inputs)).export(theirs, verbose=False)
    assert [f for f in library(theirs) if "_XlaMustCompile" in f.attr]
