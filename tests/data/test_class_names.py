"""Classes of a data set among a network's outputs."""

from alexnet_tf.data import class_names, imagenet


def test_words_that_mean_two_classes_are_not_guessed():
    synsets = imagenet.class_synsets()
    assert class_names.positions(["tench", "Cassette player", "crane"], synsets) == [0, 482, None]
    assert class_names.positions(["a", "b"], ["b", "a", "b"]) == [1, None]
