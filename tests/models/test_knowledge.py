"""What a network knows goes where the network goes."""

import keras
import pytest

import alexnet_tf
from alexnet_tf.models import knowledge, saved_run

FACTS = {"class_names": ["a", "b", "ö"], "image_size": 300, "crop_size": 224, "apply_exif": True}


@pytest.mark.parametrize("variant", ["lenet5", "lenet5_softmax", "cifarnet_no_norm"])
@pytest.mark.parametrize("include_preprocessing", [True, False])
def test_it_survives_files_and_copies(variant, include_preprocessing, tmp_path):
    size = {"classes": 3} if variant != "lenet5" else {}
    model = alexnet_tf.build_model(variant, include_preprocessing=include_preprocessing, **size)
    assert knowledge.of(model) == {}
    weights = model.count_params()
    knowledge.write(model, FACTS)
    model.save(tmp_path / "model.keras")
    assert knowledge.of(alexnet_tf.load_model(tmp_path / "model.keras")) == FACTS
    assert knowledge.of(keras.models.clone_model(model)) == FACTS
    assert model.count_params() == weights


def test_what_opens_a_model_reads_it(tmp_path):
    model = alexnet_tf.build_model("lenet5_softmax", classes=3)
    model.save(tmp_path / "old.keras")
    older = saved_run.open_model(str(tmp_path / "old.keras"))
    assert (older.class_names, older.apply_exif, older.known) == (None, False, {})
    knowledge.write(model, FACTS)
    model.save(tmp_path / "new.keras")
    newer = saved_run.open_model(str(tmp_path / "new.keras"))
    assert newer.class_names == ("a", "b", "ö") and newer.image_size == 300 and newer.apply_exif


def test_another_network_s_first_layer_brings_no_knowledge():
    model = alexnet_tf.build_model("lenet5_softmax")
    knowledge.write(model, FACTS)
    first = model.get_layer("preprocessing")
    other = alexnet_tf.build_model("lenet5_softmax", include_preprocessing=first)
    assert knowledge.of(other) == {}


def test_a_network_without_a_layer_of_ours():
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, keras.layers.Flatten()(inputs))
    assert knowledge.of(model) == {}
    with pytest.raises(ValueError, match="no layer of alexnet_tf"):
        knowledge.write(model, FACTS)
