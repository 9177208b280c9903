"""One training step, the same under every strategy."""

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf.data.preprocessing import central_crop
from alexnet_tf.data.records import PreparedDataset
from alexnet_tf.models import Dropout, build_model, crop_size, logits_model, preprocessing_layer
from alexnet_tf.models.catalog import find_variant
from alexnet_tf.training.recipes import Recipe


def input_size(recipe: Recipe) -> int:
    """Height and width of what the network sees, in pixels."""
    return recipe.crop_size or crop_size(recipe.model)


def training_mean(recipe: Recipe, dataset: PreparedDataset) -> np.ndarray:
    """What the network subtracts: float32 (channels,), or (crop, crop, channels) with mean="image".

    The original program subtracts the central window of the mean image from every crop, wherever
    the crop was taken (convdata_jpeg.py).
    """
    if recipe.mean == "published":
        return np.asarray(find_variant(recipe.model).mean, np.float32)
    statistics = dataset.statistics()
    if recipe.mean == "rgb":
        return np.asarray(statistics["rgb_mean"], np.float32)
    mean_image = tf.constant(statistics["mean_image"], tf.float32)
    return central_crop(mean_image, input_size(recipe)).numpy()


def make_network(
    recipe: Recipe, classes: int, channels: int, mean: np.ndarray, seed: int
) -> keras.Model:
    """The recipe's network, freshly initialised, with the data set's own mean inside.

    Call it inside the strategy's scope. The same seed gives the same weights under any strategy.
    """
    keras.config.set_dtype_policy(recipe.precision)
    keras.utils.set_random_seed(seed)
    size = input_size(recipe)
    model = build_model(
        recipe.model,
        classes=classes,
        input_shape=(size, size, channels),
        include_preprocessing=preprocessing_layer(recipe.model, mean),
        initializer=recipe.initializer,
        dropout_seed=seed,
    )
    for layer in model.layers:
        if isinstance(layer, Dropout):
            layer.rate = recipe.dropout
    return model


def make_train_step(strategy, model, optimizer, batch_size: int, class_weights=None):
    """A function of one distributed batch that trains on it.

    Args:
      class_weights: float (classes,), factors on the losses of each class's images in what is
        learned from; what is reported is unweighted. None for none.

    Returns:
      A `tf.function` of (images, labels), per replica, and a float32 number of this process. It
      gives a float32 tensor [sum of losses, wrong at top 1, wrong at top 5] over the global batch,
      before the update, with the sum of the replicas' numbers behind.
    """
    # The loss needs logits: a softmax followed by a logarithm loses precision.
    network = logits_model(model)

    def replica_step(images, labels, number):
        with tf.GradientTape() as tape:
            logits = tf.cast(network(images, training=True), tf.float32)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
            # Divided by the global batch: the optimiser adds the replicas' gradients.
            loss = tf.reduce_sum(weighted(losses, labels, class_weights)) / batch_size
            scaled = optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)
        return tf.stack([tf.reduce_sum(losses), *wrong_counts(labels, logits), number])

    @tf.function
    def step(batch, number):
        sums = strategy.run(replica_step, args=(*batch, number))
        return strategy.reduce(tf.distribute.ReduceOp.SUM, sums, axis=None)

    return step


def weighted(losses: tf.Tensor, labels: tf.Tensor, class_weights) -> tf.Tensor:
    """Losses (b,) times the weights of their labels' classes (b,); None leaves them alone."""
    if class_weights is None:
        return losses
    return losses * tf.gather(tf.constant(class_weights, losses.dtype), labels)


def wrong_counts(labels: tf.Tensor, scores: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """How many of (b,) labels are not first, not among the first five, by (b, classes) scores."""
    best = tf.math.top_k(scores, k=min(5, scores.shape[-1])).indices
    hits = tf.cast(best == tf.cast(labels, tf.int32)[:, None], tf.float32)
    count = tf.cast(tf.shape(labels)[0], tf.float32)
    return count - tf.reduce_sum(hits[:, 0]), count - tf.reduce_sum(hits)
