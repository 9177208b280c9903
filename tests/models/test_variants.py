"""Every variant: its description, its published size, saving, and the keywords."""

import importlib.util
import json
import pathlib

import keras
import numpy as np
import pytest

import alexnet_tf
from alexnet_tf import models

_PATH = pathlib.Path(__file__).with_name("regenerate_golden.py")
_SPEC = importlib.util.spec_from_file_location("regenerate_golden", _PATH)
golden = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(golden)

VARIANTS = alexnet_tf.list_models()

# Counted by hand from the publications' layer tables, not by this program.
PARAMETERS = {
    "alexnet": 60_965_224,
    "alexnet_145": 60_965_224,
    "alexnet_145_half": 59_798_312,
    "alexnet_145_no_norm": 60_965_224,
    "alexnet_145_pool2": 60_965_224,
    "alexnet_145_no_cross": 60_714_408,
    "alexnet_146": 61_555_304,
    "alexnet_caffe": 60_965_224,
    "alexnet_onnx": 60_965_224,
    "caffenet": 60_965_224,
    "alexnet_owt": 61_100_840,
    "alexnet_slim": 50_303_912,
    "lenet5": 60_000 + 840,  # trained + the centres of the output units
    "lenet5_softmax": 61_706,
    "cifarnet": 2_112_970,
    "cifarnet_no_norm": 1_116_490,
}
# Small enough to be quick: of large networks 95 pixels, which leave
# every layer something to see.
SMALL = {
    name: (min(variant.crop_size, 95), min(variant.crop_size, 95), variant.channels)
    for name, variant in ((name, models.catalog.find_variant(name)) for name in VARIANTS)
}


@pytest.mark.parametrize("name", VARIANTS)
def test_layers_shapes_and_parameters_are_the_golden_ones(name):
    expected = json.loads((golden.GOLDEN / f"{name}.json").read_text())
    found = json.loads(golden.text(golden.describe(name)))
    assert found == expected, "Meant? Then run: python tests/models/regenerate_golden.py"
    assert found["parameters"] == PARAMETERS[name]


def test_there_is_no_golden_file_without_a_variant():
    assert {path.stem for path in golden.GOLDEN.glob("*.json")} == set(VARIANTS)


def test_lenet5_trains_the_papers_60000():
    assert json.loads((golden.GOLDEN / "lenet5.json").read_text())["trainable"] == 60_000


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_saves_and_comes_back(name, tmp_path):
    # Logits: the softmax of untrained ones may be 1 and zeros, whatever the image.
    model = alexnet_tf.build_model(
        name, input_shape=SMALL[name], classes=5, initializer="he", classifier_activation=None
    )
    model.save(tmp_path / "m.keras")
    # Not through our own loader: registration alone must be enough.
    again = keras.models.load_model(tmp_path / "m.keras")
    x = np.random.default_rng(0).uniform(0, 255, (2, *SMALL[name])).astype(np.float32)
    y = model(x)
    assert y.shape == (2, 5)
    np.testing.assert_array_equal(again(x), y)
    # The images must matter, or equality says nothing.
    assert np.abs(y[0] - y[1]).max() > 1e-2 * np.abs(y).max()


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_without_its_top_gives_pooled_features(name):
    keywords = {"include_top": False, "input_shape": SMALL[name], "include_preprocessing": False}
    maps = alexnet_tf.build_model(name, **keywords)
    pooled = alexnet_tf.build_model(name, pooling="max", **keywords)
    pooled.set_weights(maps.get_weights())
    assert "preprocessing" not in [layer.name for layer in maps.layers]
    x = np.random.default_rng(0).normal(0, 1, (2, *SMALL[name])).astype(np.float32)
    np.testing.assert_array_equal(pooled(x), np.max(maps(x), axis=(1, 2)))


@pytest.mark.parametrize(
    "name, expected",
    [
        ("alexnet", [-123.68, -116.779, -103.939]),
        ("caffenet", [-104.0070, -116.6688, -122.6789]),
        ("alexnet_owt", [-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225]),
        ("lenet5", [-0.1]),
    ],
)
def test_black_becomes_what_the_original_fed_its_network(name, expected):
    model = alexnet_tf.build_model(name, include_top=False)
    black = np.zeros((1, *model.input_shape[1:]), np.float32)
    layer = keras.Model(model.input, model.get_layer("preprocessing").output)
    np.testing.assert_allclose(layer(black)[0, 0, 0], expected, rtol=1e-6)


def test_a_data_sets_mean_goes_into_a_variants_own_order_and_scale():
    layer = models.preprocessing_layer("caffenet", mean=[1.0, 2.0, 3.0])
    np.testing.assert_array_equal(layer(np.full((1, 1, 1, 3), 10.0))[0, 0, 0], [7, 8, 9])


@pytest.mark.parametrize(
    "name, deviations",
    [
        ("alexnet_145", {"conv2": 0.01, "conv3": 0.03, "conv5": 0.03, "fc6": 0.01}),
        ("alexnet_caffe", {"conv2": 0.01, "conv3": 0.01, "fc6": 0.005, "fc8": 0.01}),
        # Uniform in +-1/sqrt(fan-in): a deviation of that over sqrt(3).
        ("alexnet_owt", {"conv1": 1 / np.sqrt(3 * 363), "fc7": 1 / np.sqrt(3 * 4096)}),
    ],
)
def test_weights_begin_with_the_published_deviation(name, deviations):
    keras.utils.set_random_seed(2)
    model = alexnet_tf.build_model(name)
    for layer, deviation in deviations.items():
        kernel = model.get_layer(layer).kernel.numpy()
        assert np.std(kernel) == pytest.approx(deviation, rel=0.02), layer


@pytest.mark.parametrize(
    "name, ones", [("alexnet_145", 1.0), ("alexnet_caffe", 0.1), ("caffenet", 1.0)]
)
def test_biases_begin_as_published(name, ones):
    model = alexnet_tf.build_model(name, input_shape=(95, 95, 3))
    for layer in ("conv2", "conv4", "conv5", "fc6", "fc7"):
        np.testing.assert_array_equal(model.get_layer(layer).bias, np.float32(ones))
    for layer in ("conv1", "conv3", "fc8"):
        np.testing.assert_array_equal(model.get_layer(layer).bias, 0)


def test_the_columns_of_no_cross_meet_only_in_fc8():
    """What the first column's channels of conv1 do changes nothing in the second's half of fc7."""
    model = alexnet_tf.build_model(
        "alexnet_145_no_cross", input_shape=(95, 95, 3), initializer="he"
    )
    half = keras.Model(model.input, model.get_layer("relu7").output)
    x = np.random.default_rng(0).uniform(0, 255, (1, 95, 95, 3)).astype(np.float32)
    before = half(x).numpy()
    conv1 = model.get_layer("conv1")
    kernel, bias = conv1.get_weights()
    kernel[..., :48] *= -1.0
    conv1.set_weights([kernel, bias])
    after = half(x).numpy()
    np.testing.assert_array_equal(before[:, 2048:], after[:, 2048:])
    assert np.abs(before[:, :2048] - after[:, :2048]).max() > 1e-3


def test_caffe_rounds_its_pools_up_and_the_zoos_graph_down_but_for_the_last():
    for name, sizes in (("alexnet_caffe", [54, 27, 13, 6]), ("alexnet_onnx", [54, 26, 12, 6])):
        model = alexnet_tf.build_model(name, input_shape=(224, 224, 3), include_top=False)
        names = ("conv1", "pool1", "pool2", "pool5")
        assert [model.get_layer(n).output.shape[1] for n in names] == sizes
