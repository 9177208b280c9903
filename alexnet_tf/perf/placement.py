"""Finds the devices of a function's operations, and the transfers between devices."""

import dataclasses
import math
import re

from tensorflow.python.eager import context


@dataclasses.dataclass(frozen=True)
class Transfer:
    """A tensor that is copied from one device to another in each call.

    Attributes:
      name: name of the operation that computes it, such as "functional/pool2/MaxPool2d".
      source, target: devices, such as "CPU:0".
      size: bytes.
    """

    name: str
    source: str
    target: str
    size: int


@dataclasses.dataclass(frozen=True)
class Placement:
    """A function as TensorFlow placed, optimised and partitioned it.

    Attributes:
      operations: device -> kinds of its operations, with repetitions; fused and oneDNN's kinds have
        the plain name ("_MklNativeFusedConv2D" is "Conv2D").
      transfers: tensors that are transferred between devices.
    """

    operations: dict[str, list[str]]
    transfers: list[Transfer]


def placement(function, *arguments) -> Placement:
    """Runs a `tf.function` for the first time and reads the graph of each device.

    Args:
      function: a function not called before with these shapes: TensorFlow records only the graphs
        that it compiles during this call.
      arguments: the function's arguments; without known shapes, transfer sizes are unknown.
    """
    eager = context.context()
    eager.enable_run_metadata()
    try:
        eager.export_run_metadata()  # discards earlier graphs
        function(*arguments)
        compiled = eager.export_run_metadata().function_graphs
    finally:
        eager.disable_run_metadata()
    graph = function.get_concrete_function(*arguments).graph
    graphs = _partitions(compiled, {operation.name for operation in graph.get_operations()})
    operations: dict = {}
    transfers: list = []
    for nodes in (partition.node for partition in graphs):
        for node in nodes:
            operations.setdefault(_short(node.device), []).append(_plain(node.op))
            if node.op in ("_Send", "_HostSend"):
                transfers += _transfer(node, graph)
    return Placement(operations, transfers)


def _partitions(compiled, names: set[str]) -> list:
    """Finds the function with these operation names among all compiled graphs."""

    def shared(parts) -> int:
        return sum(node.name in names for part in parts for node in part.node)

    return max((found.partition_graphs for found in compiled), key=shared)


def _transfer(node, graph) -> list[Transfer]:
    name, _, output = node.input[0].partition(":")
    if "/ctrl/" in name:  # a signal without data, which synchronises two devices
        return []
    outputs = graph.get_operation_by_name(name).outputs
    shape = outputs[min(int(output or 0), len(outputs) - 1)].shape
    if int(output or 0) == len(outputs):
        # A fused Conv2DBackpropFilterWithBias has the bias gradient as an additional output.
        shape = shape[-1:]
    size = math.prod(shape) * outputs[0].dtype.size
    source, target = (_short(node.attr[f"{end}_device"].s.decode()) for end in ("send", "recv"))
    return [Transfer(name, source, target, size)]


def _plain(kind: str) -> str:
    return re.sub("^_(Mkl)?(Native)?(Fused)?|(?<=Conv2DBackpropFilter)WithBias$", "", kind)


def _short(device: str) -> str:
    """ "/job:localhost/replica:0/task:0/device:CPU:1" as "CPU:1"."""
    return device.rpartition("device:")[2]
