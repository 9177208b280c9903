"""Options of this package's tf.data pipelines."""

import tensorflow as tf


def with_options(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """The dataset in a fixed order, read whole by each worker, without tf.data's tuning.

    Freeing an iterator waits for the thread that tunes it, which sleeps for as long as the iterator
    has run already, at most a minute: an evaluation of three seconds took up to six. Parallelism is
    fixed here instead.
    """
    options = tf.data.Options()
    options.deterministic = True
    options.autotune.enabled = False
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return dataset.with_options(options)
