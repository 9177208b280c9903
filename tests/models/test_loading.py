"""`keras.models.load_model` in a process that has only imported the package."""

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
