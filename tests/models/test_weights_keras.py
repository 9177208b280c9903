"""Keras' own files of weights through `weights=`, and damaged model files."""

import numpy as np
import pytest

import alexnet_tf


@pytest.mark.parametrize("name", ["net.keras", "net.weights.h5"])
def test_weights_that_keras_saved_are_taken(tmp_path, name):
    model = alexnet_tf.LeNet5()
    (model.save if name.endswith(".keras") else model.save_weights)(tmp_path / name)
    again = alexnet_tf.LeNet5(weights=tmp_path / name)
    x = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 1)).astype(np.float32)
    np.testing.assert_array_equal(again(x), model(x))


@pytest.mark.parametrize("name", ["net.keras", "net.weights.h5"])
def test_weights_of_another_network_are_refused(tmp_path, name):
    model = alexnet_tf.build_model("lenet5_softmax")
    (model.save if name.endswith(".keras") else model.save_weights)(tmp_path / name)
    with pytest.raises(ValueError, match=r"net\..* does not fit the model 'lenet5'"):
        alexnet_tf.LeNet5(weights=tmp_path / name)


def test_a_missing_or_unknown_file_of_weights_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file of weights"):
        alexnet_tf.LeNet5(weights=tmp_path / "none.keras")
    (tmp_path / "net.txt").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"no known suffix: expected .onnx"):
        alexnet_tf.LeNet5(weights=tmp_path / "net.txt")


@pytest.mark.parametrize("length", [0, 50, -50])
def test_a_damaged_model_file_is_named(tmp_path, length):
    path = tmp_path / "net.keras"
    alexnet_tf.LeNet5().save(path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match=r"net\.keras cannot be read as a Keras model"):
        alexnet_tf.load_model(path)
    with pytest.raises(FileNotFoundError, match="no model file"):
        alexnet_tf.load_model(tmp_path / "none.keras")
