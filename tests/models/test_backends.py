"""The networks under Keras' other backends: what TensorFlow saved, computed by JAX or PyTorch."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

import alexnet_tf

ROOT = pathlib.Path(__file__).parents[2]
NETWORKS = {
    "alexnet": (67, 67, 3),
    "alexnet_145_no_cross": (67, 67, 3),
    "caffenet": (67, 67, 3),
    "lenet5": (32, 32, 1),
    "cifarnet": (24, 24, 3),
}
PROGRAM = """
import json, sys
import keras, numpy as np
import alexnet_tf

for name in json.loads(sys.argv[2]):
    model = alexnet_tf.load_model(f"{sys.argv[1]}/{name}.keras")
    x = np.load(f"{sys.argv[1]}/{name}.npy")
    y = keras.ops.convert_to_numpy(model(x, training=False))
    dropped = keras.ops.convert_to_numpy(model(x, training=True))
    np.savez(f"{sys.argv[1]}/{name}.npz", y=y, finite=np.isfinite(dropped).all())
print(keras.backend.backend())
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_another_backend_computes_the_same(backend, tmp_path):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    expected = {}
    for name, shape in NETWORKS.items():
        model = alexnet_tf.build_model(
            name, input_shape=shape, classes=5, initializer="he", classifier_activation=None
        )
        x = np.random.default_rng(0).uniform(0, 255, (2, *shape)).astype(np.float32)
        expected[name] = model(x).numpy()
        model.save(tmp_path / f"{name}.keras")
        np.save(tmp_path / f"{name}.npy", x)
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path), json.dumps(list(NETWORKS))],
        env={**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout.split()[-1] == backend
    for name, y in expected.items():
        found = np.load(tmp_path / f"{name}.npz")
        assert found["finite"]
        np.testing.assert_allclose(found["y"], y, rtol=0, atol=1e-5 * np.abs(y).max())
