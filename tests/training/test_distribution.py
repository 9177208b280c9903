"""Strategies: what each refuses, and which collectives a step uses, read from its graph."""

import dataclasses
import math

import keras
import pytest
import tensorflow as tf
from tensorflow.python.distribute import collective_all_reduce_strategy

from alexnet_tf.data.augmentation import Augmentation
from alexnet_tf.models import builder, catalog
from alexnet_tf.training import distributed_input, distribution, loop
from alexnet_tf.training.optimizers import PaperSGD
from alexnet_tf.training.recipes import Recipe
from alexnet_tf.training.step import ReplicaSteps

CPUS = ("CPU:0", "CPU:1")
BATCH = 8


def _step(strategy):
    """(a network, its compiled training step, what that takes).

    Nothing else here knows how a step is made and what it takes.
    """
    with strategy.scope():
        keras.utils.set_random_seed(1)
        network = builder.build(catalog.find_variant("tiny"), classes=10)
        optimizer = PaperSGD(0.01)
        optimizer.build(network.trainable_variables)
    still = Augmentation(crop_size=network.input_shape[1], mirror=False)
    steps = ReplicaSteps(strategy, network, optimizer, BATCH, still.compiled)
    share = BATCH // strategy.num_replicas_in_sync
    images = tf.zeros((share, *network.input_shape[1:]), tf.uint8)
    data = tf.data.Dataset.from_tensors((images, tf.range(share, dtype=tf.int64), {})).repeat()
    batch = next(distributed_input.dealt(strategy, lambda context: data))
    return network, steps.step, (batch, tf.constant(0.0))


def _two_workers():
    """The strategy of two workers with a device each, both in this process, as its own tests do."""
    return collective_all_reduce_strategy.CollectiveAllReduceStrategy._from_local_devices(
        [f"/device:{device}" for device in CPUS]
    )


def _operations(function, arguments, kinds=("Collective", "Nccl")) -> list[tuple]:
    """(device, kind, shape, bytes) of a function's operations of some kinds, also of inner ones."""
    graph = function.get_concrete_function(*arguments).graph.as_graph_def(add_shapes=True)
    inner = [node for nested in graph.library.function for node in nested.node_def]
    found = []
    for node in [*graph.node, *inner]:
        if node.op.startswith(kinds):
            (output, *_) = node.attr["_output_shapes"].list.shape
            shape = [dimension.size for dimension in output.dim]
            size = math.prod(shape) * tf.as_dtype(node.attr["T"].type).size
            found.append((node.device.rpartition("device:")[2], node.op, shape, size))
    return sorted(found)


def test_one_device_sums_nothing(tiny_network):
    _, step, arguments = _step(distribution.make_strategy("none"))
    assert _operations(step, arguments, ("Collective", "Nccl", "AddN")) == []


def test_mirrored_on_a_processor_adds_each_gradient_on_the_first_device(tiny_network):
    network, step, arguments = _step(distribution.make_strategy("mirrored", 2))
    assert _operations(step, arguments) == []
    shapes = [list(weight.shape) for weight in network.trainable_weights]
    # And the four numbers that a step reports.
    assert _operations(step, arguments, ("AddN",)) == sorted(
        ("CPU:0", "AddN", shape, 4 * math.prod(shape)) for shape in [*shapes, [4]]
    )


def test_mirrored_on_gpus_sums_all_gradients_in_one_collective(tiny_network):
    """On logical CPUs, but without the choice of another that `make_strategy` makes for those."""
    network, step, arguments = _step(tf.distribute.MirroredStrategy(list(CPUS)))
    weights = network.count_params()
    assert _operations(step, arguments) == [
        (device, "CollectiveReduceV2", [weights], 4 * weights) for device in CPUS
    ]


def test_multi_worker_sums_all_gradients_in_one_collective_and_the_losses_in_another(
    tiny_network,
):
    network, step, arguments = _step(_two_workers())
    weights = network.count_params()
    assert _operations(step, arguments) == [
        (device, "CollectiveReduceV2", shape, 4 * shape[0])
        for device in CPUS
        for shape in ([4], [weights])
    ]


def test_what_a_strategy_cannot_train_is_refused(tiny_run):
    two, towers = (distribution.make_strategy(name, 2) for name in ("mirrored", "towers"))
    odd = Recipe(model="alexnet_145", batch_size=3)
    distribution.require_trainable(distribution.make_strategy("none"), odd, "true")
    with pytest.raises(ValueError, match=r"size 3 cannot be split over 2 replicas: use a multiple"):
        distribution.require_trainable(two, odd, "auto")
    with pytest.raises(ValueError, match="norm1 normalises across all maps"):
        distribution.require_trainable(towers, Recipe(model="alexnet"), "auto")
    with pytest.raises(ValueError, match="needs another strategy than towers"):
        loop.train(dataclasses.replace(tiny_run(), jit_compile="true"), towers)
    assert not distribution.compiles(towers, "auto", 10**9)
    with pytest.raises(ValueError, match=r"2 devices, not --devices=3"):
        distribution.make_strategy("towers", 3)
