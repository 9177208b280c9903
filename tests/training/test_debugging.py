"""Checked numerics."""

import dataclasses

import pytest
import tensorflow as tf

from alexnet_tf.models import layers
from alexnet_tf.training import loop
from alexnet_tf.training.debugging import numerics_checked
from alexnet_tf.training.errors import Diverged


def test_checked_numerics_name_the_operation_and_compile_nothing(tiny_run):
    run = tiny_run(learning_rate=1e30, epochs=1)
    run = dataclasses.replace(run, jit_compile="true", debug_numerics=True)
    with pytest.raises(Diverged, match="Infinity or NaN") as stopped:
        loop.train(run)
    assert 'op "Const"' not in str(stopped.value)


def test_a_healthy_run_passes_checked_numerics(tiny_run):
    run = dataclasses.replace(tiny_run(epochs=1, colour_noise="source"), debug_numerics=True)
    assert loop.train(run)["steps"] == 3
    with numerics_checked():
        pooled = tf.function(layers.CeilMaxPooling2D(3, 2))(tf.ones((1, 14, 14, 2)))
    assert pooled.shape == (1, 7, 7, 2)
