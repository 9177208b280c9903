"""The class list against TensorFlow Datasets' own, and the decoding of scores."""

import importlib.resources

import numpy as np
import pytest

import alexnet_tf
from alexnet_tf.data import imagenet


def test_synsets_are_those_of_tensorflow_datasets_in_the_same_order():
    labels = importlib.resources.files("tensorflow_datasets") / "datasets/imagenet2012/labels.txt"
    assert imagenet.class_synsets() == labels.read_text().split()


@pytest.mark.parametrize(
    "index, synset, name",
    [
        (0, "n01440764", "tench"),
        (2, "n01484850", "great_white_shark"),
        (65, "n01751748", "sea_snake"),
        (999, "n15075141", "toilet_tissue"),
    ],
)
def test_known_classes_are_where_everybody_has_them(index, synset, name):
    assert imagenet.class_synsets()[index] == synset
    assert imagenet.class_names()[index] == name


def test_names_repeat_only_where_two_synsets_share_their_first_word():
    names = imagenet.class_names()
    assert len(names) == 1000 and all(names)
    assert {n for n in names if names.count(n) > 1} == {"crane", "maillot"}


def test_the_first_synset_tells_the_years_apart():
    assert imagenet.class_synsets()[0] == imagenet.ILSVRC_2012.first_synset
    assert imagenet.ILSVRC_2010.first_synset != imagenet.ILSVRC_2012.first_synset


def test_decode_predictions_gives_the_best_first_and_ties_in_class_order():
    probs = np.zeros((2, 1000), np.float32)
    probs[0, [65, 7]] = 0.5, 0.25
    probs[1, 999] = 1.0
    first, second = alexnet_tf.decode_predictions(probs, top=3)
    assert first == [
        ("n01751748", "sea_snake", 0.5),
        ("n01514668", "cock", 0.25),
        ("n01440764", "tench", 0.0),
    ]
    assert second[0] == ("n15075141", "toilet_tissue", 1.0)


@pytest.mark.parametrize(
    "shape, top, sentence",
    [
        ((1000,), 5, r"shape \(1000,\): expected \(batch, 1000\)"),
        ((2, 10), 5, r"shape \(2, 10\)"),
        ((2, 1000), 0, "top is 0"),
    ],
)
def test_scores_of_other_networks_are_refused(shape, top, sentence):
    with pytest.raises(ValueError, match=sentence):
        imagenet.decode_predictions(np.zeros(shape), top=top)
