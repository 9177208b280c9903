"""Dropout whose masks do not depend on how a batch is spread over devices."""

import keras
from keras import ops

_SCALINGS = ("inverted", "paper")


@keras.saving.register_keras_serializable(package="alexnet_tf")
class Dropout(keras.layers.Layer):
    """Sets each value to zero with probability `rate`, in training only.

    The mask is a stateless function of the seed, the number of training calls so far and the
    example's place in the global batch. Therefore one device and several replicas draw the same
    masks for the same pictures, and a run that was stopped continues with the masks it would have
    drawn. `keras.layers.Dropout` has neither property: it draws the same mask on every replica,
    and no checkpoint restores its state.

    Two scalings with the same expectation between training and test:

    | scaling    | in training           | at test      | who                                 |
    |------------|-----------------------|--------------|-------------------------------------|
    | "inverted" | mask * x / (1 - rate) | x            | Keras, Caffe, PyTorch               |
    | "paper"    | mask * x              | x (1 - rate) | the paper (section 4.2), its program |

    They are the same function of the input when the next layer's kernel is `1 / (1 - rate)` times
    as large under "paper"; `alexnet_tf.models.weights` converts kernels so.

    Args:
      rate: probability of dropping, in [0, 1).
      seed: int, the stream of masks. Give every Dropout of a network its own.
      scaling: "inverted" or "paper".

    Input and output: (b, ...) of any float dtype. The example's place in the global batch is its
    place in the replica's batch plus the replica's id times the size of that batch: replicas must
    hold equally many examples, in order, as `tf.distribute` deals them.

    `step` (TensorFlow only) counts the training calls. It is a variable, so that
    `tf.train.Checkpoint` saves it, but no weight: it is in neither `weights` nor the parameter
    count.

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

            # Every replica counts the same calls, so the first one's count is everybody's.
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
        kept = ops.cast(self._uniform(ops.shape(inputs)) >= self.rate, inputs.dtype)
        return inputs * kept * (1.0 / keep) if self.scaling == "inverted" else inputs * kept

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def _uniform(self, shape):
        """Numbers in [0, 1) for `shape`, a tuple of ints and, for an unknown batch, a scalar."""
        if keras.backend.backend() != "tensorflow":
            return keras.random.uniform(shape, seed=self.seed_generator)
        import tensorflow as tf

        seed = tf.stack([tf.constant(self.seed, tf.int64), tf.identity(self.step)])
        # Keras also traces the layer symbolically; nothing runs then, so only real calls count.
        self.step.assign_add(1)
        context = tf.distribute.get_replica_context()
        replicas = context.num_replicas_in_sync if context else 1
        if replicas == 1:
            return tf.random.stateless_uniform(tf.stack(shape), seed)
        # The numbers for the global batch, of which this replica takes its share: a few megabytes
        # of random numbers more, for masks that do not depend on the number of replicas.
        pictures, *rest = shape
        whole = tf.random.stateless_uniform(tf.stack([pictures * replicas, *rest]), seed)
        first = tf.cast(context.replica_id_in_sync_group, tf.int32) * pictures
        return tf.slice(whole, tf.stack([first] + [0] * len(rest)), tf.stack(shape))

    def get_config(self):
        return {
            **super().get_config(),
            "rate": self.rate,
            "seed": self.seed,
            "scaling": self.scaling,
        }
