"""The training step: stored images in, sums of losses and errors out."""

import tensorflow as tf

from alexnet_tf.models import layers, logits_model

# A step's sums over the global batch.
SUMS = ("loss", "wrong1", "wrong5", "stop")


class Steps:
    """Training steps, the same interface under every strategy. A subclass defines `_train`."""

    def __init__(self):
        self.step = tf.function(self._named)
        self.run = tf.function(self._loop, reduce_retracing=True)

    def scatter(self) -> None:
        """Call before the first step, and after weights or rates changed outside of steps."""

    def gather(self) -> None:
        """Call before the network is saved or evaluated."""

    def _train(self, batch, stop: tf.Tensor) -> tf.Tensor:
        """Traced: trains on a batch of all replicas; returns float32 (4,), ordered as SUMS."""
        raise NotImplementedError

    def _named(self, batch, stop):
        """Trains on a batch.

        Args:
          batch: (images, labels, draws) of `pipeline.training_inputs`, per replica.
          stop: float32 scalar, this process's stop flag.

        Returns:
          float32 scalars over the global batch, before the update: "loss", the sum of losses;
          "wrong1" and "wrong5", the number of top-1 and top-5 errors; "stop", the sum of the
          replicas' flags.
        """
        return dict(zip(SUMS, tf.unstack(self._train(batch, stop)), strict=True))

    def _loop(self, batches, count, stop):
        """Trains on the next `count` (int32 scalar) batches; returns `step`'s sums, each (count,).

        The loop is TensorFlow's, so steps cost the host nothing.
        """
        sums = tf.TensorArray(tf.float32, count, element_shape=(len(SUMS),))
        for number in tf.range(count):
            sums = sums.write(number, self._train(next(batches), stop))
        return dict(zip(SUMS, tf.unstack(sums.stack(), axis=1), strict=True))


class ReplicaSteps(Steps):
    """Steps in which each replica trains the whole network on its share of the batch.

    XLA compiles the whole step of a single replica. Of several, it compiles the forward and
    backward pass: the sum over replicas comes before the update, and a compiled function runs on
    one device.

    Args:
      strategy: whose replicas train.
      model: a network of this package with its top, made in the strategy's scope.
      optimizer: built for the model's trainable variables.
      batch_size: images in a global batch.
      augment: from (images, draws) to float32 images, see `Augmentation.apply`.
      jit_compile: whether XLA compiles.
      class_weights: float (classes,), factors on each class's losses in the gradient; the reported
        loss is unweighted. None for none.
    """

    def __init__(
        self,
        strategy,
        model,
        optimizer,
        batch_size,
        augment,
        *,
        jit_compile=False,
        class_weights=None,
    ):
        super().__init__()
        self.strategy, self.model, self.optimizer = strategy, model, optimizer
        self.batch_size, self.augment, self.class_weights = batch_size, augment, class_weights
        # The loss needs logits: a softmax followed by a logarithm loses precision.
        self.network = logits_model(model)
        self.gradients, self.update = self._gradients, self._update
        if jit_compile and strategy.num_replicas_in_sync == 1:
            self.update = tf.function(self._update, jit_compile=True)
        elif jit_compile:
            self.gradients = tf.function(self._gradients, jit_compile=True)

    def _train(self, batch, stop):
        sums = self.strategy.run(self._replica, args=(*batch, stop))
        return self.strategy.reduce(tf.distribute.ReduceOp.SUM, sums, axis=None)

    def _replica(self, images, labels, draws, stop):
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        first = tf.cast(replica, tf.int32) * labels.shape[0]
        calls = layers.calls(self.model)
        sums = self.update(images, labels, draws, calls, first)
        layers.count_call(self.model)
        return tf.stack([*sums, stop])

    def _update(self, images, labels, draws, calls, first):
        gradients, sums = self.gradients(images, labels, draws, calls, first)
        self.optimizer.apply(gradients, self.model.trainable_variables)
        return sums

    def _gradients(self, images, labels, draws, calls, first):
        images = self.augment(images, draws)
        with tf.GradientTape() as tape, layers.drawn_for(calls, first):
            logits = tf.cast(self.network(images, training=True), tf.float32)
            losses = cross_entropy(labels, logits)
            # Divided by the global batch: the optimiser adds the replicas' gradients.
            loss = tf.reduce_sum(weighted(losses, labels, self.class_weights)) / self.batch_size
            scaled = self.optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, self.model.trainable_variables)
        return gradients, (tf.reduce_sum(losses), *wrong_counts(labels, logits))


def weighted(losses: tf.Tensor, labels: tf.Tensor, class_weights) -> tf.Tensor:
    """Losses (b,) times the weights of their labels' classes (b,); None leaves them alone."""
    if class_weights is None:
        return losses
    return losses * tf.gather(tf.constant(class_weights, losses.dtype), labels)


def cross_entropy(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """-log of the softmax of float32 logits (b, classes) at each label (b,), in nats: (b,).

    NaN for a label out of range. One-hot, because under deterministic operations the gradient of
    TensorFlow's sparse form is a scatter, which XLA runs one image at a time on a GPU.
    """
    classes = logits.shape[-1]
    losses = tf.nn.softmax_cross_entropy_with_logits(tf.one_hot(labels, classes), logits)
    # The loss of a label out of range is 0 here, and 0 / 0 is NaN.
    return losses / tf.cast((labels >= 0) & (labels < classes), losses.dtype)


def wrong_counts(labels: tf.Tensor, scores: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Top-1 and top-5 errors: how many of (b,) labels are not first, not among the first five."""
    labels = tf.cast(labels, tf.int32)
    truth = tf.gather(scores, labels, batch_dims=1)[:, None]
    # Ties go to the lower class number.
    before = tf.range(scores.shape[-1])[None] < labels[:, None]
    ahead = (scores > truth) | ((scores == truth) & before)
    rank = tf.reduce_sum(tf.cast(ahead, tf.float32), axis=1)
    return tuple(tf.reduce_sum(tf.cast(rank >= places, tf.float32)) for places in (1, 5))
