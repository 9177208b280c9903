"""Reads TensorFlow 1 checkpoints: `model.ckpt-1000` with .index and .data files, or one file.

Uses TensorFlow's reader. An AlexNet's variables are found by the parts of their names: a layer,
conv1 to fc8, perhaps in scopes (TF-Slim: alexnet_v2/conv1/weights), and weights and biases, or
kernel and bias (tf.layers). Variables of optimisers and moving averages are ignored.

Source: google-research/tf-slim, tf_slim/nets/alexnet.py; tensorflow 1.x, tf.layers.
"""

import os
import re

from alexnet_tf.models.weights.stored import StoredTensor

_LAYER = re.compile(r"(?:conv|fc)[1-8]")
_ROLES = {"weights": "kernel", "kernel": "kernel", "w": "kernel", "weight": "kernel"}
_ROLES |= {"biases": "bias", "bias": "bias", "b": "bias"}


def is_checkpoint(path: str) -> bool:
    """Whether `path` is a checkpoint, by its prefix, its .index file, or a name with ".ckpt"."""
    name = os.path.basename(path)
    return os.path.isfile(f"{path}.index") or path.endswith(".index") or ".ckpt" in name


def read(path: str) -> dict[tuple[str, str], tuple[str, StoredTensor]]:
    """Reads (layer, "kernel" or "bias") -> (variable, tensor as in the checkpoint).

    Raises:
      ValueError: a damaged checkpoint, or one with no AlexNet or two.
    """
    import tensorflow as tf

    prefix = path.removesuffix(".index")
    try:
        reader = tf.train.load_checkpoint(prefix)
        shapes = reader.get_variable_to_shape_map()
        types = reader.get_variable_to_dtype_map()
    except (tf.errors.OpError, ValueError, RuntimeError) as error:
        said = str(error).strip().split("\n")[0]
        raise ValueError(
            f"{path} cannot be read as a checkpoint of TensorFlow ({said:.200}): it is truncated, "
            "damaged or of another kind; name it as model.ckpt-1000, beside its .index and .data "
            "files."
        ) from error
    found: dict[tuple[str, str], tuple[str, StoredTensor]] = {}
    for name, shape in sorted(shapes.items()):
        *scopes, last = name.split("/")
        layers = [scope for scope in scopes[-1:] if _LAYER.fullmatch(scope)]
        role = _ROLES.get(last.lower())
        if not layers or role is None:
            continue
        place = (layers[0], role)
        if place in found:
            raise ValueError(
                f"{path} has two variables for the {role} of {layers[0]}, {found[place][0]} and "
                f"{name}: expected one network."
            )
        found[place] = (name, _tensor(reader, name, tuple(shape), types[name].name))
    if not found:
        some = ", ".join(sorted(shapes)[:3]) or "nothing"
        raise ValueError(
            f"{path} holds {some}: expected variables of an AlexNet, such as conv1/weights or "
            "alexnet_v2/conv1/weights."
        )
    return found


def _tensor(reader, name, shape, dtype) -> StoredTensor:
    def read(first: int, count: int) -> bytes:
        import numpy as np
        import tensorflow as tf

        try:
            value = reader.get_tensor(name)
        except (tf.errors.OpError, RuntimeError, IndexError) as error:
            raise ValueError(str(error).strip().split("\n")[0][:200]) from error
        return np.ascontiguousarray(value).tobytes()[first : first + count]

    return StoredTensor(shape, dtype, read)
