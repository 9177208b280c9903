"""Which device a function's operations run on, and what is transferred between devices."""

import dataclasses
import math
import re

from tensorflow.python.eager import context


@dataclasses.dataclass(frozen=True)
class Transfer:
    """A tensor that goes from one device to another in each call.

    Attributes:
      name: of the operation that makes it, as in "functional/pool2/MaxPool2d".
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
      operations: device -> kinds of its operations, with repetitions; fused and oneDNN's own kinds
        under the plain name ("_MklNativeFusedConv2D" as "Conv2D").
      transfers: what is transferred between devices.
    """

    operations: dict[str, list[str]]
    transfers: list[Transfer]


def placement(function, *arguments) -> Placement:
    """Runs a `tf.function` for the first time, and reads the graphs that each device was given.

    Args:
      function: not called before with arguments of these shapes: TensorFlow keeps the graphs only
        of what it compiles while it is watched.
      arguments: the function's; their shapes must be known, or the sizes of transfers are not.
    """
    eager = context.context()
    eager.enable_run_metadata()
    try:
        eager.export_run_metadata()  # forgets what others compiled before
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
    """Of all that was compiled, maybe an input pipeline too, the function that has these names."""

    def shared(parts) -> int:
        return sum(node.name in names for part in parts for node in part.node)

    return max((found.partition_graphs for found in compiled), key=shared)


def _transfer(node, graph) -> list[Transfer]:
    name, _, output = node.input[0].partition(":")
    if "/ctrl/" in name:  # a signal without content, so that one device waits for the other
        return []
    outputs = graph.get_operation_by_name(name).outputs
    shape = outputs[min(int(output or 0), len(outputs) - 1)].shape
    if int(output or 0) == len(outputs):
        # A fused Conv2DBackpropFilterWithBias has the gradient of the bias as one output more.
        shape = shape[-1:]
    size = math.prod(shape) * outputs[0].dtype.size
    source, target = (_short(node.attr[f"{end}_device"].s.decode()) for end in ("send", "recv"))
    return [Transfer(name, source, target, size)]


def _plain(kind: str) -> str:
    return re.sub("^_(Mkl)?(Native)?(Fused)?|(?<=Conv2DBackpropFilter)WithBias$", "", kind)


def _short(device: str) -> str:
    """ "/job:localhost/replica:0/task:0/device:CPU:1" as "CPU:1"."""
    return device.rpartition("device:")[2]
