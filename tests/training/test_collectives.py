"""Which collective each strategy uses in a step, of which size: read from the graphs of a step."""

import collections
import math

import keras
import tensorflow as tf
from tensorflow.python.distribute import collective_all_reduce_strategy

from alexnet_tf.models import builder, catalog
from alexnet_tf.training import distribution
from alexnet_tf.training.optimizers import PaperSGD
from alexnet_tf.training.placement import placement
from alexnet_tf.training.step import make_train_step

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
    step = make_train_step(strategy, network, optimizer, BATCH)
    share = BATCH // strategy.num_replicas_in_sync
    images = tf.random.stateless_uniform((share, *network.input_shape[1:]), (1, 2), maxval=255.0)
    data = tf.data.Dataset.from_tensors((images, tf.range(share, dtype=tf.int64))).repeat()
    batch = next(iter(strategy.distribute_datasets_from_function(lambda context: data)))
    return network, step, (batch, tf.constant(0.0))


def _two_workers(options=None):
    """The strategy of two workers with a device each, both in this process, as its own tests do."""
    return collective_all_reduce_strategy.CollectiveAllReduceStrategy._from_local_devices(
        [f"/device:{device}" for device in CPUS], options
    )


def _collectives(function, arguments) -> list[tuple[str, str, list[int], int]]:
    """(device, kind, shape, bytes) of a function's collectives, wherever they are nested."""
    graph = function.get_concrete_function(*arguments).graph.as_graph_def(add_shapes=True)
    nested = [node for inner in graph.library.function for node in inner.node_def]
    found = []
    for node in [*graph.node, *nested]:
        if "Collective" in node.op or "Nccl" in node.op:
            (output, *_) = node.attr["_output_shapes"].list.shape
            shape = [dimension.size for dimension in output.dim]
            size = math.prod(shape) * tf.as_dtype(node.attr["T"].type).size
            found.append((node.device.rpartition("device:")[2], node.op, shape, size))
    return sorted(found)


def _gradient_sizes(network) -> collections.Counter:
    """Bytes of each weight's gradient."""
    return collections.Counter(4 * math.prod(weight.shape) for weight in network.trainable_weights)


def test_one_device_sends_nothing(tiny_network):
    _, step, arguments = _step(distribution.make_strategy("none"))
    assert _collectives(step, arguments) == []
    placed = placement(step, *arguments)
    assert set(placed.operations) == {"CPU:0"} and placed.transfers == []


def test_mirrored_on_a_processor_brings_each_gradient_to_the_first_device_and_the_sum_back(
    tiny_network,
):
    network, step, arguments = _step(distribution.make_strategy("mirrored", 2))
    assert _collectives(step, arguments) == []
    placed = placement(step, *arguments)
    for source, target in (CPUS, CPUS[::-1]):
        crossed = collections.Counter(
            transfer.size
            for transfer in placed.transfers
            if (transfer.source, transfer.target) == (source, target)
        )
        assert crossed >= _gradient_sizes(network)
        # Besides: the four numbers that a step reports, and what counts steps and draws.
        others = crossed - _gradient_sizes(network)
        assert sum(others.values()) <= 4 and max(others) <= 16
    # One sum of each gradient, and one of the numbers.
    assert placed.operations["CPU:0"].count("AddN") == len(network.trainable_weights) + 1
    assert "AddN" not in placed.operations["CPU:1"]


def test_mirrored_on_gpus_sums_all_gradients_in_one_collective(tiny_network):
    """On logical CPUs, but without the choice of another that `make_strategy` makes for those."""
    network, step, arguments = _step(tf.distribute.MirroredStrategy(list(CPUS)))
    weights = network.count_params()
    assert _collectives(step, arguments) == [
        (device, "CollectiveReduceV2", [weights], 4 * weights) for device in CPUS
    ]


def test_multi_worker_sums_all_gradients_in_one_collective_and_the_losses_in_another(
    tiny_network,
):
    network, step, arguments = _step(_two_workers())
    weights = network.count_params()
    assert _collectives(step, arguments) == [
        (device, "CollectiveReduceV2", shape, 4 * shape[0])
        for device in CPUS
        for shape in ([4], [weights])
    ]


def test_smaller_packs_are_several_collectives_of_the_same_bytes(tiny_network):
    """What would let sums overlap the backward pass, and what the listing above would show."""
    options = tf.distribute.experimental.CommunicationOptions(bytes_per_pack=1024)
    network, step, arguments = _step(_two_workers(options))
    sizes = [size for device, _, _, size in _collectives(step, arguments) if device == "CPU:0"]
    assert len(sizes) > 3 and sum(sizes) == 4 * network.count_params() + 16
