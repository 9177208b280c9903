"""Dropout with masks that do not depend on how a batch is distributed over devices."""

import contextlib
import contextvars
import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import keras
from keras import ops

_SCALINGS = ("inverted", "paper")


@dataclasses.dataclass(frozen=True)
class _Position:
    """The position in a run of calls inside `drawn_for`; TensorFlow scalars."""

    step: Any
    first_example: Any


_position: contextvars.ContextVar[_Position | None] = contextvars.ContextVar(
    "position", default=None
)


@contextlib.contextmanager
def drawn_for(step, first_example) -> Iterator[None]:
    """Within this context, `Dropout` layers draw for a given step and position and do not count.

    A function compiled by XLA under `tf.distribute.MirroredStrategy` must not assign the layers'
    counters; its caller counts with `count_call`.

    Args:
      step: int64 scalar, the number of earlier training calls.
      first_example: int32 scalar, the position of the batch's first example in the global batch.
    """
    token = _position.set(_Position(step, first_example))
    try:
        yield
    finally:
        _position.reset(token)


def calls(model: keras.Model) -> Any:
    """Number of training calls of the model's `Dropout` layers: an int64 scalar, 0 without any."""
    import tensorflow as tf

    for layer in _layers(model):
        return tf.identity(layer.step)
    return tf.constant(0, tf.int64)


def count_call(model: keras.Model) -> None:
    """Counts a training call that was made inside `drawn_for`."""
    for layer in _layers(model):
        layer.step.assign_add(1)


def _layers(model):
    return [layer for layer in model.layers if isinstance(layer, Dropout)]


@keras.saving.register_keras_serializable(package="alexnet_tf")
class Dropout(keras.layers.Layer):
    """Sets each value to zero with probability `rate`, in training only.

    Whether a value is kept is a hash of the seed, the number of earlier training calls, the
    example's position in the global batch and the value's position in the example. Therefore one
    device and several replicas drop the same values of the same images, compiled by XLA or not,
    and a resumed run draws the masks it would have drawn. `keras.layers.Dropout` has none of these
    properties: it draws the same mask on every replica, and checkpoints do not restore its state.

    Two scalings with the same expectation between training and test:

    | scaling    | in training           | at test      | who                                 |
    |------------|-----------------------|--------------|-------------------------------------|
    | "inverted" | mask * x / (1 - rate) | x            | Keras, Caffe, PyTorch               |
    | "paper"    | mask * x              | x (1 - rate) | the paper (section 4.2), its program |

    They are the same function of the input if the next layer's kernel is `1 / (1 - rate)` times
    as large under "paper"; `alexnet_tf.models.weights` converts kernels accordingly.

    Args:
      rate: probability of dropping, in [0, 1).
      seed: int, the stream of masks. Every Dropout of a network needs its own.
      scaling: "inverted" or "paper".

    Input and output: (b, ...) of any float dtype. The example's position in the global batch is its
    position in the replica's batch plus the replica's id times the size of that batch: replicas
    must have the same number of examples, in order, as `tf.distribute` distributes them.

    `step` (TensorFlow only) counts the training calls. It is a variable, so that
    `tf.train.Checkpoint` saves it, but not a weight: it is in neither `weights` nor the parameter
    count. Inside `drawn_for` it is not changed.

    Source: Krizhevsky, Sutskever, Hinton, NIPS 2012, section 4.2.
    """

    def __init__(self, rate, seed=0, scaling="inverted", **kwargs):
        super().__init__(**kwargs)
        if not isinstance(rate, (int, float)) or not 0 <= rate < 1:
            raise ValueError(f"The dropout rate is {rate!r}: expected a number in [0, 1).")
        if scaling not in _SCALINGS:
            raise ValueError(f"The dropout scaling is {scaling!r}: expected 'inverted' or 'paper'.")
        self.rate = float(rate)
        self.seed = int(seed)
        self.scaling = scaling
        self.supports_masking = True
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            # Every replica counts the same calls, so the first one's count is valid for all.
            with tf.init_scope():
                self.step = tf.Variable(
                    0,
                    dtype=tf.int64,
                    trainable=False,
                    name="step",
                    aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
                )
        else:
            self.seed_generator = keras.random.SeedGenerator(seed)
        self.built = True

    def call(self, inputs, training=False):
        keep = 1.0 - self.rate
        if not training or not self.rate:
            return inputs * keep if self.scaling == "paper" and self.rate else inputs
        kept = ops.cast(self._kept(inputs), inputs.dtype)
        return inputs * kept * (1.0 / keep) if self.scaling == "inverted" else inputs * kept

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def _kept(self, inputs):
        """True where a value is kept."""
        if keras.backend.backend() != "tensorflow":
            shape = ops.shape(inputs)
            return keras.random.uniform(shape, seed=self.seed_generator) >= self.rate
        import tensorflow as tf

        examples, features = tf.shape(inputs)[0], math.prod(inputs.shape[1:])
        position = _position.get() or self._next_position(examples)
        row = tf.cast(position.first_example + tf.range(examples), tf.uint32)
        total, first = self._span(features)
        column = tf.cast(first + tf.range(features), tf.uint32)
        place = row[:, None] * tf.constant(total, tf.uint32) + column
        bits = _hash(
            place, tf.cast(position.step, tf.uint32), tf.constant(self.seed % 2**32, tf.uint32)
        )
        kept = bits >= tf.constant(min(round(self.rate * 2**32), 2**32 - 1), tf.uint32)
        return tf.reshape(kept, tf.shape(inputs))

    def _span(self, features: int) -> tuple[int, int]:
        """(values of a full example, the position of the input's first value in it)."""
        return features, 0

    def _next_position(self, examples):
        """The position of this call, from the layer's count and the replica's id."""
        import tensorflow as tf

        step = tf.identity(self.step)
        # Keras also traces the layer symbolically, without running it: only real calls are counted.
        self.step.assign_add(1)
        context = tf.distribute.get_replica_context()
        replica = context.replica_id_in_sync_group if context else 0
        return _Position(step, tf.cast(replica, tf.int32) * examples)

    def get_config(self):
        return {
            **super().get_config(),
            "rate": self.rate,
            "seed": self.seed,
            "scaling": self.scaling,
        }


def _hash(x, y, z):
    """32 well-mixed bits of three uint32 tensors, of which y and z are scalars.

    The first output of pcg3d: Jarzynski and Olano, Hash Functions for GPU Rendering, JCGT 9(3),
    2020. Integer arithmetic modulo 2**32 is the same in every backend and fused by XLA, whose
    random numbers differ from TensorFlow's.
    """
    import tensorflow as tf

    x, y, z = (
        v * tf.constant(1664525, tf.uint32) + tf.constant(1013904223, tf.uint32) for v in (x, y, z)
    )
    x += y * z
    y += z * x
    z += x * y
    sixteen = tf.constant(16, tf.uint32)
    x, y, z = (tf.bitwise.bitwise_xor(v, tf.bitwise.right_shift(v, sixteen)) for v in (x, y, z))
    return x + y * z
