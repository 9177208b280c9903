"""Converts a trained network to another precision."""

import dataclasses

import numpy as np

from alexnet_tf.models import saved_run

PRECISIONS = ("float32", "bfloat16")


def in_precision(network: saved_run.TrainedModel, precision: str) -> saved_run.TrainedModel:
    """The same network with weights and arithmetic in `precision`.

    Pixels stay float32 until the mean is subtracted, and so do the final probabilities. bfloat16
    has the range of float32 with 8 bits of mantissa: it pays where the processor multiplies it in
    hardware (AMX, AVX512-BF16) and is slower elsewhere.

    Args:
      network: any float32 network.
      precision: "float32" returns `network` itself; or "bfloat16".

    Raises:
      ValueError: no such precision.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"There is no precision {precision!r}: use one of {PRECISIONS}.")
    if precision == "float32":
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
