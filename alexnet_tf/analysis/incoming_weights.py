"""The inputs with the strongest weights to a unit."""

import dataclasses

import keras
import numpy as np
import tensorflow as tf

# What changes the arrangement of values between two layers with weights, or their scale, and
# nothing else: a unit's weights are looked at through it.
_ARRANGING = ("Flatten", "Reshape", "Permute", "Dropout")


@dataclasses.dataclass(frozen=True)
class Incoming:
    """The weights of a unit from one map, or one unit, of the layer before.

    Attributes:
      unit: its number there.
      strength: the root of the sum of squares of these weights.
      weight: their sum; its sign tells whether the input mostly excites or mostly inhibits.
    """

    unit: int
    strength: float
    weight: float


def incoming_weights(model: keras.Model, layer: str, units: list[int]) -> np.ndarray:
    """The weights of some units, as an array of the shape of what the layer reads.

    They are the derivatives of the unit (of a layer of maps: of its value in the middle) by the
    layer's input, where that is 0. So grouped, sparse and locally connected layers need no reading
    of their own; where a layer is not linear, as LeNet-5's radial basis functions, it is the
    derivative.

    Args:
      model: a chain-shaped network.
      layer: the name of a layer with weights.
      units: numbers of its maps or values.

    Returns:
      float32 (len(units), h, w, c) or (len(units), d): of the last map or vector before the layer
      that is not only rearranged, so that fc6 of AlexNet gives the weights of pool5's maps.
    """
    target = model.get_layer(layer)
    tensor = target.input
    while True:
        producer = next(one for one in model.layers if one.output is tensor)
        if not any(kind in type(producer).__name__ for kind in _ARRANGING):
            break
        tensor = producer.input
    part = keras.Model(tensor, target.output)
    zeros = tf.zeros((1, *tensor.shape[1:]), tensor.dtype)
    found = []
    for unit in units:
        with tf.GradientTape() as tape:
            tape.watch(zeros)
            values = part(zeros, training=False)
            if len(values.shape) == 4:
                values = values[:, values.shape[1] // 2, values.shape[2] // 2]
            value = values[0, unit]
        found.append(tf.cast(tape.gradient(value, zeros)[0], tf.float32).numpy())
    return np.stack(found)


def strongest_inputs(weights: np.ndarray, count: int) -> list[Incoming]:
    """The inputs that a unit has the strongest weights from.

    Args:
      weights: of one unit, (h, w, c) or (d,), from `incoming_weights`.
      count: how many, at most; inputs without weight are left out.
    """
    rows = np.asarray(weights, np.float64).reshape(-1, weights.shape[-1])
    strength = np.sqrt((rows**2).sum(axis=0))
    order = np.argsort(-strength, kind="stable")[:count]
    return [
        Incoming(int(n), float(strength[n]), float(rows[:, n].sum()))
        for n in order
        if strength[n] > 0
    ]
