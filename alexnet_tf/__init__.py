"""AlexNet in TensorFlow and Keras: the networks of 2012, their data, training and serving.

    import alexnet_tf
    model = alexnet_tf.AlexNet()          # the network of the paper, 60,965,224 parameters

Names are resolved on first use, so that `import alexnet_tf` does not wait for TensorFlow. If Keras
is already imported, the package's layers are registered with it, so that
`keras.models.load_model` reads its files; otherwise, `import alexnet_tf.models` does so.
"""

import importlib
import sys

__version__ = "0.2.0.dev0"

_HOMES = {
    "AlexNet": "alexnet_tf.models",
    "CaffeNet": "alexnet_tf.models",
    "AlexNetOWT": "alexnet_tf.models",
    "LeNet5": "alexnet_tf.models",
    "CifarNet": "alexnet_tf.models",
    "build_model": "alexnet_tf.models",
    "list_models": "alexnet_tf.models",
    "load_model": "alexnet_tf.models",
    "preprocess_input": "alexnet_tf.inputs",
    "decode_predictions": "alexnet_tf.inputs",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module 'alexnet_tf' has no attribute {name!r}")
    importlib.import_module("alexnet_tf.quiet").quiet_tensorflow()
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__():
    return sorted([*globals(), *_HOMES])


if sys.modules.get("keras") is not None:
    importlib.import_module("alexnet_tf.models")
