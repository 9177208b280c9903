"""`keras.models.load_model` in a process that has only imported the package."""

import os
import subprocess
import sys

import pytest

from alexnet_tf import models


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "mine.keras"
    models.build_model("cifarnet_no_norm").save(path)
    return path


@pytest.mark.parametrize(
    "imports", ["import keras, alexnet_tf", "import alexnet_tf.models, keras"], ids=str
)
def test_a_saved_network_is_loaded_by_keras_itself(saved, imports):
    code = f"{imports}; print(keras.models.load_model({str(saved)!r}).count_params())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["1116490"], done.stderr


def test_using_the_package_writes_nothing_to_standard_error():
    """TensorFlow writes about the machine while it is imported."""
    code = "import alexnet_tf; print(alexnet_tf.LeNet5().count_params())"
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert done.stdout.strip().isdigit() and done.stderr == ""
