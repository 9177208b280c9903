"""The paper's network: sizes, names, preprocessing, saving."""

import keras
import numpy as np
import pytest

import alexnet_tf
from alexnet_tf import models
from alexnet_tf.models.layers import PixelNormalization

NAMES = (  # noqa: SIM905 - one word a layer reads better
    "input preprocessing conv1 relu1 norm1 pool1 conv2 relu2 norm2 pool2 conv3 relu3 conv4 relu4 "
    "conv5 relu5 pool5 flatten fc6 relu6 drop6 fc7 relu7 drop7 fc8 prob"
).split()


@pytest.fixture(scope="module")
def alexnet():
    keras.utils.set_random_seed(1)
    return alexnet_tf.AlexNet()


def pixels(batch, size, seed=0):
    return np.random.default_rng(seed).uniform(0, 255, (batch, size, size, 3)).astype("float32")


def test_alexnet_has_the_published_parameters_and_names(alexnet):
    # The sum of the paper's kernels: 96*363+96 + 256*1200+256 + 384*2304+384 + 384*1728+384
    # + 256*1728+256 + 9217*4096 + 4097*4096 + 4097*1000.
    assert alexnet.count_params() == 60_965_224
    assert [layer.name for layer in alexnet.layers] == NAMES
    assert alexnet.get_layer("conv2").kernel.shape == (5, 5, 48, 256)


def test_an_image_of_224_gives_55_maps(alexnet):
    sizes = [alexnet.get_layer(n).output.shape[1] for n in ("conv1", "pool1", "pool2", "pool5")]
    assert sizes == [55, 27, 13, 6]


def test_the_published_start_has_the_papers_biases_and_deviations(alexnet):
    for name, bias in zip(
        ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"),
        (0, 1, 0, 1, 1, 1, 1, 0),
        strict=True,
    ):
        kernel, biases = alexnet.get_layer(name).get_weights()
        assert np.all(biases == bias), name
        assert np.std(kernel) == pytest.approx(0.01, rel=0.03), name


def test_the_last_windows_of_conv1_hang_over_the_bottom_and_right_edge_and_see_the_mean(alexnet):
    """A 224 image gives what a 227 image gives whose last 3 rows and columns are the mean."""
    conv1 = alexnet.get_layer("conv1")
    mean = np.asarray(alexnet.get_layer("preprocessing").mean)
    image = pixels(2, 224)
    larger = np.broadcast_to(mean, (2, 227, 227, 3)).copy()
    larger[:, :224, :224] = image
    plain = keras.layers.Conv2D(96, 11, strides=4, padding="valid")
    plain.build((None, 227, 227, 3))
    plain.set_weights(conv1.get_weights())
    maps = keras.Model(alexnet.input, conv1.output)(image)
    np.testing.assert_allclose(maps, plain(larger - mean), rtol=0, atol=2e-4)


def test_a_saved_model_comes_back_with_its_mean_window_and_gives_the_same(tmp_path):
    mean = np.random.default_rng(3).uniform(90, 130, (224, 224, 3)).astype("float32")
    model = alexnet_tf.AlexNet(include_preprocessing=PixelNormalization(mean), classes=7)
    model.save(tmp_path / "m.keras")
    again = alexnet_tf.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(again.get_layer("preprocessing").mean, mean)
    assert again.count_params() == model.count_params() == 60_965_224 - 4097 * 993
    image = pixels(1, 224)
    np.testing.assert_array_equal(again(image), model(image))


def test_probabilities_are_float32_under_a_mixed_policy():
    keras.mixed_precision.set_dtype_policy("mixed_bfloat16")
    try:
        model = alexnet_tf.AlexNet(input_shape=(95, 95, 3), classes=5)
    finally:
        keras.mixed_precision.set_dtype_policy("float32")
    assert model.get_layer("conv1").compute_dtype == "bfloat16"
    p = model(pixels(2, 95))
    assert p.dtype == "float32"
    np.testing.assert_allclose(np.sum(p, -1), 1, atol=1e-6)


def test_without_activation_the_output_is_fc8():
    model = alexnet_tf.AlexNet(
        input_shape=(95, 95, 3), classes=5, classifier_activation=None, initializer="he"
    )
    logits = models.logits_model(model)
    image = pixels(2, 95)
    np.testing.assert_array_equal(model(image), logits(image))
    assert np.ptp(model(image)) > 0


@pytest.mark.parametrize("pooling, shape", [(None, (1, 6, 6, 256)), ("avg", (1, 256))])
def test_without_top_the_maps_of_pool5_come_out(pooling, shape):
    model = alexnet_tf.AlexNet(include_top=False, pooling=pooling)
    assert model.compute_output_shape((1, 224, 224, 3)) == shape


@pytest.mark.parametrize(
    "keywords, sentence",
    [
        ({"input_shape": (20, 20, 3)}, r"input_shape of alexnet is \(20, 20, 3\): expected .*64"),
        ({"input_shape": (224, 224, 1)}, "expected .height, width, 3."),
        ({"input_shape": (None, None, 3)}, "include_top=False"),
        ({"pooling": "mean"}, "pooling is 'mean': expected None, 'avg' or 'max'"),
        ({"classes": 0}, "classes is 0"),
        ({"include_preprocessing": "yes"}, "include_preprocessing is 'yes'"),
        ({"initializer": "xavier"}, "initializer is 'xavier'"),
    ],
)
def test_a_bad_keyword_is_named_in_one_sentence(keywords, sentence):
    with pytest.raises(ValueError, match=sentence):
        alexnet_tf.AlexNet(**keywords)


def test_an_unknown_variant_is_answered_with_the_list():
    with pytest.raises(ValueError, match=r"no model 'alexnet_2'.*expected one of alexnet, "):
        alexnet_tf.build_model("alexnet_2")
