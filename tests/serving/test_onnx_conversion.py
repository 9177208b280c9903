"""A converted network holds the network's weights and says what it says."""

import keras
import numpy as np
import pytest

from alexnet_tf import models
from alexnet_tf.experiments import networks
from alexnet_tf.serving import onnx_conversion

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

SHAPES = {
    "alexnet": (67, 67, 3),
    "alexnet_145": (67, 67, 3),
    "alexnet_146": (67, 67, 3),
    "alexnet_caffe": (67, 67, 3),
    "alexnet_owt": (63, 63, 3),
    "caffenet": (67, 67, 3),
    "cifarnet": (24, 24, 3),
    "lenet5": (32, 32, 1),
}


def built(variant, shape):
    """A small network of the variant whose every weight, biases included, matters."""
    keras.utils.set_random_seed(4)
    if variant.startswith("alexnet") or variant == "caffenet":
        narrow = networks.narrowed(models.catalog.find_variant(variant), 8)
        models.catalog.add_variant(narrow)
        variant = narrow.name
    model = models.build_model(variant, classes=7, input_shape=shape, initializer="he")
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign_add(rng.normal(0, 0.01, weight.shape))
    return model


@pytest.mark.parametrize("variant", SHAPES)
def test_onnxruntime_computes_what_keras_computes(variant):
    shape = SHAPES[variant]
    model = built(variant, shape)
    converted = onnx_conversion.convert(model)
    onnx.checker.check_model(converted, full_check=True)
    session = onnxruntime.InferenceSession(
        converted.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (given,), (answer,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.shape[1:], answer.name) == ("crops", list(shape), "probabilities")
    for count in (1, 3):
        crops = np.random.default_rng(count).uniform(0, 255, (count, *shape)).astype(np.float32)
        wanted = model(crops, training=False).numpy()
        assert np.ptp(wanted) > 1e-4
        (found,) = session.run(None, {"crops": crops})
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_weights_have_their_names_and_onnxs_order_of_axes():
    model = built("alexnet_owt", SHAPES["alexnet_owt"])
    graph = onnx_conversion.convert(model).graph
    found = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for name in ("conv1", "conv2", "conv5"):
        kernel = model.get_layer(name).kernel.numpy()
        np.testing.assert_array_equal(found[f"{name}/kernel"], kernel.transpose(3, 2, 0, 1))
    for name in ("fc6", "fc7", "fc8"):
        np.testing.assert_array_equal(found[f"{name}/kernel"], model.get_layer(name).kernel)
    for layer in model.layers:
        if hasattr(layer, "kernel"):
            np.testing.assert_array_equal(found[f"{layer.name}/bias"].ravel(), layer.bias)
    # Nothing that depends on weights alone is left to the runtime.
    constant = set(found)
    assert not [node.name for node in graph.node if set(node.input) <= constant]


def test_a_weight_used_twice_is_there_in_both_forms():
    class Tied(keras.layers.Layer):
        def build(self, shape):
            self.kernel = self.add_weight(shape=(12, 12), initializer="glorot_uniform")

        def call(self, x):
            x = keras.ops.reshape(x, (-1, 12))
            return keras.ops.softmax((x @ self.kernel) @ keras.ops.transpose(self.kernel))

    inputs = keras.Input((2, 2, 3))
    model = keras.Model(inputs, Tied()(inputs))
    session = onnxruntime.InferenceSession(onnx_conversion.convert(model).SerializeToString())
    crops = np.random.default_rng(1).normal(size=(2, 2, 2, 3)).astype(np.float32)
    (found,) = session.run(None, {"crops": crops})
    np.testing.assert_allclose(found, model(crops), atol=1e-6)
