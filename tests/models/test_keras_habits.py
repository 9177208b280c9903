"""What hands that know `keras.applications` try: keywords, images of every kind, pixels of 0..1."""

import warnings

import keras
import numpy as np
import pytest
import skimage.data
import tensorflow as tf
from PIL import Image

import alexnet_tf
from alexnet_tf import models
from alexnet_tf.data import imagenet
from alexnet_tf.models import knowledge, pixel_range

SMALL = "cifarnet_no_norm"  # 24 x 24 pixels, 10 classes


@pytest.fixture(autouse=True)
def not_warned(monkeypatch):
    monkeypatch.setattr(pixel_range, "_warned", False)


@pytest.fixture(scope="module")
def network():
    model = models.build_model(SMALL)
    model.compile("sgd", "sparse_categorical_crossentropy", jit_compile=False)
    return model


@pytest.fixture(scope="module")
def pixels():
    return np.stack([skimage.data.chelsea()[n : n + 24, n : n + 24] for n in range(64)])


def test_imagenets_weights_are_said_to_be_elsewhere():
    with pytest.raises(ValueError, match=r"ships no trained weights.*import_weights --source=FILE"):
        models.build_model(SMALL, weights="imagenet")


@pytest.mark.parametrize(
    ("keyword", "said"),
    [
        ("num_classes", "no argument 'num_classes': did you mean classes?"),
        ("class_activation", "did you mean classifier_activation?"),
        ("input_size", "did you mean input_shape?"),
        ("qqq", "expected one of include_top, weights, input_shape"),
    ],
)
def test_a_keyword_of_another_library_is_answered_with_ours(keyword, said):
    with pytest.raises(TypeError) as error:
        alexnet_tf.CifarNet(**{keyword: 10})
    assert said in str(error.value)


def test_a_network_takes_another_layers_output():
    images = keras.Input((24, 24, 3), name="photograph")
    same = keras.layers.Rescaling(1.0, name="same")(images)
    model = models.build_model(SMALL, input_tensor=same)
    assert model.input.name == "photograph" and model.get_layer("same")
    plain = models.build_model(SMALL)
    plain.set_weights(model.get_weights())
    x = skimage.data.chelsea()[None, :24, :24].astype("float32")
    np.testing.assert_array_equal(model(x), plain(x))
    with pytest.raises(ValueError, match="input_shape of cifarnet_no_norm is"):
        models.build_model(SMALL, input_tensor=keras.Input((24, 24, 1)))
    with pytest.raises(ValueError, match="leave input_shape out"):
        models.build_model(SMALL, input_tensor=images, input_shape=(32, 32, 3))


def _batches(x, labelled):
    data = (x, np.zeros(len(x), int)) if labelled else x
    return tf.data.Dataset.from_tensor_slices(data).batch(16)


@pytest.mark.parametrize("method", ["fit", "evaluate", "predict"])
@pytest.mark.parametrize("kind", ["array", "dataset", "keyword"])
def test_pixels_of_0_to_1_are_warned_of_once(network, pixels, method, kind):
    x = pixels.astype("float32") / 255
    labelled = method != "predict"
    given = [_batches(x, labelled)] if kind == "dataset" else [x]
    if labelled and kind != "dataset":
        given.append(np.zeros(len(x), int))
    keywords = {"verbose": 0}
    if kind == "keyword":
        keywords |= dict(zip("xy", given, strict=False))
        given = []
    with pytest.warns(UserWarning, match=r"the network takes 0\.\.255"):
        getattr(network, method)(*given, **keywords)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        network.predict(x, verbose=0)


def test_other_pixels_are_not_warned_of(network, pixels):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*0..255")
        network.predict(pixels.astype("float32"), verbose=0)
        network.predict(_batches(pixels, labelled=False), verbose=0)
        for constant in (0, 1):
            network.predict(np.full((4, 24, 24, 3), constant, "float32"), verbose=0)
        centred = pixels.astype("float32") / 127.5 - 1  # not ours either, but not in 0..1
        network.predict(centred, verbose=0)


def test_looking_takes_no_batch_and_changes_no_result(network, pixels):
    taken = []

    def generate():
        for n in range(4):
            taken.append(n)
            yield pixels[16 * n : 16 * (n + 1)]

    spec = tf.TensorSpec((None, 24, 24, 3), tf.uint8)
    dataset = tf.data.Dataset.from_generator(generate, output_signature=spec)
    found = network.predict(dataset, verbose=0)
    assert taken == [0, 1, 2, 3]
    np.testing.assert_allclose(found, network(pixels), atol=1e-6)


def test_nothing_of_it_is_in_a_graph_or_a_file(network, tmp_path):
    spec = tf.TensorSpec((None, 24, 24, 3), tf.float32)
    graph = tf.function(network).get_concrete_function(spec).graph
    names = {op.type for op in graph.get_operations()}
    assert not {"PyFunc", "EagerPyFunc", "Print", "PrintV2", "Assert"} & names
    network.save(tmp_path / "model.keras")
    plain = keras.models.load_model(tmp_path / "model.keras")
    assert type(plain) is type(network) and "fit" not in vars(plain)
    assert keras.models.clone_model(network).count_params() == network.count_params()


def test_an_image_of_any_kind_is_prepared():
    photograph = skimage.data.chelsea()  # 300 x 451
    wanted = alexnet_tf.preprocess_input(photograph)
    assert wanted.shape == (1, 224, 224, 3)
    same = [Image.fromarray(photograph), [Image.fromarray(photograph)], photograph.astype(float)]
    for given in same:
        np.testing.assert_allclose(alexnet_tf.preprocess_input(given), wanted, atol=1e-3)
    grey = np.asarray(Image.fromarray(photograph).convert("L"))
    alpha = np.dstack([photograph, np.full(photograph.shape[:2], 7, np.uint8)])
    with pytest.warns(UserWarning, match="grey image is repeated in three channels"):
        several = alexnet_tf.preprocess_input([photograph, Image.fromarray(grey), grey[:, :, None]])
    assert several.shape == (3, 224, 224, 3)
    np.testing.assert_array_equal(several[1], several[2])
    np.testing.assert_array_equal(several[1, ..., 0], several[1, ..., 2])
    with pytest.warns(UserWarning, match="alpha"):
        np.testing.assert_array_equal(alexnet_tf.preprocess_input(alpha), wanted)
    with pytest.warns(UserWarning, match="alpha"):
        np.testing.assert_array_equal(
            alexnet_tf.preprocess_input(Image.fromarray(alpha, "RGBA")), wanted
        )
    palette = Image.fromarray(photograph).quantize(64)
    assert np.abs(alexnet_tf.preprocess_input(palette) - wanted).mean() < 10
    digits = np.tile(grey[:28, :28], (5, 1, 1))  # as MNIST comes: (5, 28, 28)
    assert alexnet_tf.preprocess_input(digits, "lenet5").shape == (5, 32, 32, 1)
    with pytest.warns(UserWarning, match="made grey"):
        assert alexnet_tf.preprocess_input(photograph, "lenet5").shape == (1, 32, 32, 1)


def test_images_are_prepared_inside_a_dataset():
    photograph = skimage.data.chelsea()
    wanted = alexnet_tf.preprocess_input(photograph)[0]
    images = tf.data.Dataset.from_tensors((photograph, 3)).repeat(2)
    one = images.map(lambda x, y: (alexnet_tf.preprocess_input(x), y)).batch(2)
    several = images.batch(2).map(lambda x, y: (alexnet_tf.preprocess_input(x), y))
    for dataset in (one, several):
        ((found, labels),) = dataset
        assert dataset.element_spec[0].shape[1:] == (224, 224, 3)
        np.testing.assert_allclose(found, np.stack([wanted] * 2), atol=1e-3)
        assert labels.numpy().tolist() == [3, 3]


def test_preparing_pixels_of_0_to_1_is_warned_of():
    with pytest.warns(UserWarning, match="do not divide the images by 255"):
        alexnet_tf.preprocess_input(skimage.data.chelsea() / 255.0)


def test_predictions_are_decoded_with_the_classes_that_a_network_knows():
    model = models.build_model(SMALL, classes=3)
    probs = np.array([[0.2, 0.5, 0.3]])
    with pytest.raises(ValueError, match="does not know the names of its classes"):
        alexnet_tf.decode_predictions(probs, classes=model)
    knowledge.write(model, {"class_names": ["brick", "n02979186", "coins"]})
    (best,) = alexnet_tf.decode_predictions(probs, classes=model)
    assert best == [
        ("n02979186", "cassette_player", 0.5),
        ("coins", "coins", 0.3),
        ("brick", "brick", 0.2),
    ]
    assert alexnet_tf.decode_predictions(probs, 1, ["a", "b", "c"]) == [[("b", "b", 0.5)]]
    with pytest.raises(ValueError, match="classes=model"):
        alexnet_tf.decode_predictions(probs)
    full = np.eye(1000)[:1]
    assert alexnet_tf.decode_predictions(full) == imagenet.decode_predictions(full)
