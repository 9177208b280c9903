"""Pipelines in a fixed order that end at once."""

import pytest
import tensorflow as tf

from alexnet_tf.data import evaluation_data
from alexnet_tf.data.pipeline import Augmentation, Schedule, training_batches, training_inputs


@pytest.mark.parametrize("of", ["training_inputs", "training_batches", "evaluation_batches"])
def test_no_pipeline_is_tuned_or_sharded_by_tf_data(dataset, of):
    if of == "evaluation_batches":
        batches = evaluation_data.evaluation_batches(dataset, "validation", 8, 64)
    else:
        function = {"training_inputs": training_inputs, "training_batches": training_batches}[of]
        batches = function(dataset, Augmentation(64), Schedule(8, 1))
    _require_ours(batches)
    _require_ours(batches.repeat().prefetch(1))


def _require_ours(batches):
    found = batches.options()
    assert found.autotune.enabled is False and found.deterministic is True
    off = tf.data.experimental.AutoShardPolicy.OFF
    assert found.experimental_distribute.auto_shard_policy == off
