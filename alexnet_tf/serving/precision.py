"""Converts a trained network to another precision."""

import dataclasses

import numpy as np

from alexnet_tf.models import saved_run

PRECISIONS = ("float32", "bfloat16")


def in_precision(network: saved_run.TrainedModel, precision: str) -> saved_run.TrainedModel:
    """Returns the network with weights and arithmetic in `precision`.

    Pixels stay float32 until the mean is subtracted; final probabilities are float32 too. bfloat16
    has the range of float32 with 8 bits of precision: it is faster on processors that multiply it
    in hardware (AMX, AVX512-BF16) and slower on others.

    Args:
      network: any network, also one of a mixed dtype policy.
      precision: "float32" or "bfloat16". A network that computes in it is returned as it is.

    Raises:
      ValueError: an unknown precision.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"There is no precision {precision!r}: use one of {PRECISIONS}.")
    if all(layer.dtype_policy.name == precision for layer in network.model.layers):
        return network
    import keras

    config = network.model.get_config()
    last = config["layers"][-1]["config"]["name"]
    for layer in config["layers"]:
        if layer["class_name"] != "InputLayer" and layer["config"]["name"] != last:
            layer["config"]["dtype"] = precision
    model = keras.Model.from_config(config)
    model.set_weights([weight.astype(np.float32) for weight in network.model.get_weights()])
    return dataclasses.replace(network, model=model)
