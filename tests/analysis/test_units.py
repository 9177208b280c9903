"""What is said of a unit is true: tried on units that are made to like something."""

import importlib.util
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf import models
from alexnet_tf.analysis import (
    activation_maximization,
    incoming_weights,
    receptive_field,
    selectivity,
    unit_responses,
)
from alexnet_tf.data import records
from alexnet_tf.models import saved_run

SPEC = importlib.util.spec_from_file_location(
    "planted", pathlib.Path(__file__).with_name("planted.py")
)
planted = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(planted)

LAYERS = ("conv1", "conv2", "fc6", "fc7", "fc8")


@pytest.fixture(scope="module")
def shown():
    return planted.images()


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    path = tmp_path_factory.mktemp("planted") / "model.keras"
    planted.network().save(path)
    return saved_run.open_model(str(path))


@pytest.fixture(scope="module")
def dataset(shown, tmp_path_factory):
    path = planted.write_dataset(tmp_path_factory.mktemp("planted") / "data", shown)
    return records.open_dataset(path)


@pytest.fixture(scope="module")
def measured(network, dataset):
    done = []
    found = unit_responses.measure_responses(
        network, LAYERS, dataset, "validation", 40, done.append
    )
    assert sum(done) == 40
    return found


def test_responses_are_the_largest_values_of_the_maps(network, shown, measured):
    maps = keras.Model(network.model.input, network.model.get_layer("conv1").output)
    values = maps(shown.images.astype(np.float32)).numpy()  # (n, 13, 13, 8)
    np.testing.assert_array_equal(measured.labels, shown.labels)
    np.testing.assert_allclose(measured.responses["conv1"], values.max((1, 2)), rtol=1e-5)
    rows, columns = measured.places["conv1"][..., 0], measured.places["conv1"][..., 1]
    there = values[np.arange(40)[:, None], rows, columns, np.arange(8)[None]]
    np.testing.assert_allclose(there, values.max((1, 2)), rtol=1e-5)
    assert set(measured.places) == {"conv1", "conv2"}
    hidden = keras.Model(network.model.input, network.model.get_layer("relu7").output)
    images = shown.images.astype(np.float32)
    np.testing.assert_allclose(measured.hidden, hidden(images).numpy(), atol=1e-3)
    np.testing.assert_allclose(measured.probabilities.sum(axis=1), 1, atol=1e-5)


def test_only_the_first_images_are_measured_where_fewer_are_wanted(network, dataset, measured):
    few = unit_responses.measure_responses(network, LAYERS, dataset, "validation", 33)
    for name in LAYERS:
        np.testing.assert_allclose(few.responses[name], measured.responses[name][:33], rtol=1e-4)


def test_a_unit_for_red_vertical_edges_is_found_to_like_them(network, shown, measured):
    responses = measured.responses["conv1"]
    field = receptive_field.receptive_fields(network.model)["conv1"]
    patches = unit_responses.top_patches(measured, "conv1", planted.RED_EDGE, field, 8)
    assert [shown.labels[patch.image] for patch in patches] == [0] * 8
    for patch in patches:
        top, left, side = patch.box
        assert side == 7 and top >= 0 and left >= 0
        # The edge is in the middle of what the unit saw, to the stride of 2.
        assert abs(left + 4 - shown.edges[patch.image]) <= 1
    means = selectivity.class_means(np.maximum(responses, 0), measured.labels, 5)
    assert means[planted.RED_EDGE].argmax() == 0
    assert selectivity.class_selectivity(means)[planted.RED_EDGE] > 0.8
    by_label = selectivity.label_correlations(responses, measured.labels, 5)
    assert by_label[planted.RED_EDGE].argmax() == 0 and by_label[planted.RED_EDGE, 0] > 0.95
    assert by_label[planted.SILENT].tolist() == [0] * 5
    # Grey edges excite the grey unit most.
    assert means[planted.GREY_EDGE].argmax() == 3


def test_units_that_like_the_same_are_neighbours(measured):
    (nearest, correlation), *others = selectivity.nearest_units(
        measured.responses["conv1"], planted.RED_EDGE, 7
    )
    assert nearest == planted.STRONGER and correlation == pytest.approx(1)
    assert planted.SILENT not in [unit for unit, _ in others] and len(others) == 5


def test_an_image_made_for_a_unit_shows_what_it_likes(network):
    made = activation_maximization.maximize(
        network.model,
        "conv1",
        [planted.RED_EDGE, planted.GREY_EDGE],
        steps=30,
        jitter=1,
        smoothness=0.01,
    )
    assert made.shape == (2, 32, 32, 3) and made.min() >= 0 and made.max() <= 255
    field = receptive_field.receptive_fields(network.model)["conv1"]
    top, left, side = field.box(6, 6)
    kernels = network.model.get_layer("conv1").kernel.numpy()
    for image, unit in zip(made, (planted.RED_EDGE, planted.GREY_EDGE), strict=True):
        patch = image[top : top + side, left : left + side]
        assert np.corrcoef(patch.ravel(), kernels[..., unit].ravel())[0, 1] > 0.8
    left_half, right_half = made[0, top : top + side, left:16], made[0, top : top + side, 16:21]
    assert right_half[..., 0].mean() - left_half[..., 0].mean() > 100
    assert np.abs(made[:, :4, :4] - 127.5).max() < 20  # nothing to see where it does not look


def test_a_unit_is_more_excited_by_its_image_than_by_any_shown(network, shown, measured):
    part = keras.Model(network.model.input, network.model.get_layer("fc7").output)
    units = np.argsort(-measured.responses["fc7"].max(axis=0))[:2].tolist()
    made = activation_maximization.maximize(network.model, "fc7", units, steps=60, jitter=1)
    for image, unit in zip(made, units, strict=True):
        value = part(image[None]).numpy()[0, unit]
        assert value > measured.responses["fc7"][:, unit].max()


def test_the_same_seed_gives_the_same_image(network):
    def made(seed, units=(0, 1)):
        return activation_maximization.maximize(network.model, "conv2", units, 3, seed=seed)

    np.testing.assert_array_equal(made(0), made(0))
    assert np.abs(made(0) - made(1)).max() > 1
    rough = activation_maximization.maximize(network.model, "conv2", [0], 20, smoothness=0.0)
    smooth = activation_maximization.maximize(network.model, "conv2", [0], 20, smoothness=0.2)
    steps = [np.abs(np.diff(image, axis=2)).mean() / image.std() for image in (rough, smooth)]
    assert steps[1] < 0.8 * steps[0]
    with pytest.raises(ValueError, match="conv2 has no unit 8: expected 0 to 7"):
        made(0, (8,))
    with pytest.raises(ValueError, match="no layer 'conv9'"):
        activation_maximization.maximize(network.model, "conv9", [0])


def test_colour_is_told_from_brightness(network, shown):
    part = keras.Model(network.model.input, network.model.get_layer("conv1").output)

    def respond(images, unit):
        return part(np.asarray(images, np.float32)).numpy().max((1, 2))[:, unit]

    red = shown.images[shown.labels == 0].astype(np.float32)
    grey = shown.images[shown.labels == 3].astype(np.float32)

    def share(images, unit):
        return selectivity.colour_share(
            respond(images, unit), respond(selectivity.in_grey(images), unit)
        )

    assert share(red, planted.RED_EDGE) > 0.9
    assert share(grey, planted.GREY_EDGE) < 0.05
    by_hue = {
        hue: respond(selectivity.in_hue(grey, hue), planted.RED_EDGE).mean()
        for hue in (None, *selectivity.HUES)
    }
    assert max(by_hue, key=by_hue.get) == "red"
    by_hue = [respond(selectivity.in_hue(grey, hue), planted.GREY_EDGE) for hue in selectivity.HUES]
    assert np.ptp(by_hue, axis=0).max() < 1e-2 * np.max(by_hue)


def test_hues_have_the_luminance_of_grey():
    images = np.random.default_rng(0).uniform(0, 255, (2, 4, 4, 3))
    luminance = selectivity.in_grey(selectivity.in_hue(images, None))
    for hue in selectivity.HUES:
        coloured = selectivity.in_hue(images, hue)
        assert coloured.min() >= 0 and coloured.max() <= 255
        np.testing.assert_allclose(selectivity.in_grey(coloured), luminance, rtol=1e-4)
    assert np.ptp(selectivity.in_hue(images, "blue")[..., :2], axis=-1).max() < 1e-3


def test_selectivity_by_hand():
    means = np.array([[6.0, 1, 2], [3, 3, 3], [0, 0, 0], [5, 0, 0]])
    found = selectivity.class_selectivity(means)
    np.testing.assert_allclose(found, [(6 - 1.5) / 7.5, 0, 0, 1])
    # A class without an image is left out.
    with_missing = np.insert(means, 1, np.nan, axis=1)
    np.testing.assert_allclose(selectivity.class_selectivity(with_missing), found)
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(50, 3)), rng.normal(size=(50, 2))
    wanted = np.corrcoef(a.T, b.T)[:3, 3:]
    np.testing.assert_allclose(selectivity.correlations(a, b), wanted, atol=1e-12)
    constant = selectivity.correlations(np.full((50, 1), 0.1), b)
    assert constant.tolist() == [[0, 0]]


def test_incoming_weights_are_the_kernels(network):
    kernel = network.model.get_layer("conv2").kernel.numpy()  # (3, 3, 4, 8)
    found = incoming_weights.incoming_weights(network.model, "conv2", [1, 6])
    assert found.shape == (2, 6, 6, 8)
    # The middle of a map of 6 is row 3; unit 6 is in the second half and reads maps 4 to 7.
    np.testing.assert_allclose(found[0][2:5, 2:5, :4], kernel[..., 1], atol=1e-7)
    np.testing.assert_allclose(found[1][2:5, 2:5, 4:], kernel[..., 6], atol=1e-7)
    assert not found[0][..., 4:].any() and not found[1][..., :4].any()
    best = incoming_weights.strongest_inputs(found[1], 8)
    norms = np.sqrt((kernel[..., 6].astype(float) ** 2).sum((0, 1)))
    assert [one.unit for one in best] == (4 + np.argsort(-norms)).tolist()
    assert best[0].strength == pytest.approx(norms.max(), rel=1e-5)
    assert best[0].weight == pytest.approx(kernel[..., 6].sum((0, 1))[norms.argmax()], rel=1e-3)
    # fc6 is looked at through the flattening.
    dense = network.model.get_layer("fc6").kernel.numpy()
    found = incoming_weights.incoming_weights(network.model, "fc6", [2])
    np.testing.assert_allclose(found[0], dense[:, 2].reshape(3, 3, 8), atol=1e-7)


@pytest.mark.parametrize(
    "name,options,layers",
    [
        ("cifarnet", {}, ("conv1", "pool1", "conv2", "local3", "local4")),
        ("lenet5", {"input_shape": (28, 28, 1)}, ("c1", "s2", "c3", "s4")),
        ("alexnet", {"classes": 2, "input_shape": (131, 131, 3)}, ("conv1", "pool1", "conv2")),
        ("alexnet_145", {"classes": 2, "input_shape": (131, 131, 3)}, ("norm1", "cnorm2", "conv3")),
        ("alexnet_owt", {"classes": 2, "input_shape": (95, 95, 3)}, ("conv1", "pool2", "conv3")),
    ],
)
def test_receptive_fields_are_the_pixels_that_matter(name, options, layers):
    """The gradient of a value in the middle is 0 outside of its field, and not at its corners."""
    features = {k: v for k, v in options.items() if k != "classes"}
    model = models.build_model(name, include_top=False, initializer="he", **features)
    fields = receptive_field.receptive_fields(model)
    noise = np.random.default_rng(0).uniform(0, 255, (1, *model.input_shape[1:]))
    image = tf.constant(noise, tf.float32)
    side = image.shape[1]
    for layer in layers:
        part = keras.Model(model.input, model.get_layer(layer).output)
        with tf.GradientTape() as tape:
            tape.watch(image)
            values = part(image)
            row, column = values.shape[1] // 2, values.shape[2] // 3
            value = tf.reduce_sum(tf.square(values[0, row, column]))
        seen = np.abs(tape.gradient(value, image)[0].numpy()).max(axis=-1) > 0
        top, left, size = fields[layer].box(row, column)
        inside = np.zeros_like(seen)
        inside[max(top, 0) : top + size, max(left, 0) : left + size] = True
        assert not (seen & ~inside).any(), layer
        rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
        # Behind a maximum not every pixel of the field takes part.
        slack = 0 if "pool" not in layer and layer in ("conv1", "c1") else size // 3
        for first, last, start in ((*rows[[0, -1]], top), (*columns[[0, -1]], left)):
            assert max(start, 0) <= first <= max(start, 0) + slack, layer
            assert min(start + size, side) - 1 - slack <= last < min(start + size, side), layer
