"""Models a training step on many GPUs as tasks: computation, transfers and dependencies.

The tasks are those of one GPU and its machine's network, because all GPUs do the same at the same
time. "gpu" computes, "link" sends to the machine's next GPU, "network" to the next machine.
"""

import dataclasses

from alexnet_tf.perf.events import Task
from alexnet_tf.perf.hardware import Link


@dataclasses.dataclass(frozen=True)
class Layer:
    """A layer with weights, together with the layers without weights that follow it.

    Attributes:
      name: name of the layer with weights.
      parameters: weights and biases; may be fractional for a share of a layer.
      inputs, outputs: values per image.
      dense: whether its neurons may be split between GPUs.
      forward, backward: seconds of one GPU for its batch.
    """

    name: str
    parameters: float
    inputs: int
    outputs: int
    dense: bool
    forward: float
    backward: float


@dataclasses.dataclass(frozen=True)
class Cluster:
    """Machines of equal GPUs: the link between GPUs, the network between machines."""

    machines: int
    gpus: int
    link: Link
    network: Link


@dataclasses.dataclass(frozen=True)
class Phase:
    """A part of a collective: the resource it occupies, its duration, and the bytes it sends."""

    resource: str
    seconds: float
    sent: float


def all_reduce(size: float, cluster: Cluster) -> list[Phase]:
    """Sums `size` bytes over all GPUs and gives every GPU the result.

    In a ring of n, every member sends 2 (n - 1) / n times the bytes. Between machines, each GPU
    sends the part that it summed within its machine, so a machine sends 2 (m - 1) / m times the
    bytes.
    """
    if cluster.machines == 1:
        return _ring("link", cluster.gpus, 2, size, cluster.link)
    within = _ring("link", cluster.gpus, 1, size, cluster.link)
    return [*within, *_ring("network", cluster.machines, 2, size, cluster.network), *within]


def _ring(resource: str, members: int, rounds: int, size: float, link: Link) -> list[Phase]:
    """One round scatters sums or gathers parts; two rounds do both."""
    if members == 1:
        return []
    steps = rounds * (members - 1)
    sent = steps * size / members
    seconds = link.start_seconds + steps * link.hop_seconds + sent / link.bytes_per_second
    return [Phase(resource, seconds, sent)]


def buckets(layers: list[Layer], value_bytes: int, limit: float) -> list[tuple[str, float]]:
    """Cuts the gradients, starting with the last layer's, into pieces of `limit` bytes.

    Returns:
      (layer whose gradient completes the piece, bytes) of each piece.
    """
    cut, size = [], 0.0
    for layer in reversed(layers):
        size += value_bytes * layer.parameters
        while size >= limit:
            cut.append((layer.name, float(limit)))
            size -= limit
    return [*cut, (layers[0].name, size)] if size else cut


def data_parallel(
    layers: list[Layer], update: float, cluster: Cluster, value_bytes: int, limit: float
) -> list[Task]:
    """Every GPU has the full network; gradients are summed in pieces of `limit` bytes.

    A piece is sent as soon as the backward pass has computed it; without a limit, at its end.

    Args:
      layers: layers from images to logits.
      update: seconds of one GPU to update all weights.
      cluster: the GPUs.
      value_bytes: bytes of a gradient value when sent.
      limit: bytes per piece; `math.inf` for all gradients in one piece.
    """
    tasks = _compute("forward", layers, ())
    tasks += _compute("backward", layers[::-1], _last(tasks))
    sums = _sums(buckets(layers, value_bytes, limit), cluster)
    return [*tasks, *sums, _update(update, [*tasks, *sums])]


def weird_trick(
    layers: list[Layer],
    update: float,
    cluster: Cluster,
    value_bytes: int,
    limit: float,
    batch_size: int,
    turns: int,
) -> list[Task]:
    """Splits convolutions by images, dense layers by neurons (Krizhevsky, arXiv 1404.5997).

    Each of a machine's n GPUs has 1 / n of the dense layers' neurons and processes the images of
    all of them. Layer inputs are gathered from the other GPUs; in the backward pass the sums of
    their gradients are scattered. Between machines, the shares' gradients are summed like others.

    Args:
      layers, update, cluster, limit: see `data_parallel`.
      value_bytes: bytes of a gradient or activation value when sent.
      batch_size: images per GPU.
      turns: 1 for the paper's scheme a: all images pass through the dense layers at once. The
        number of GPUs for scheme c: while one part is computed, the next is gathered.
    """
    features = [layer for layer in layers if not layer.dense]
    dense = [layer for layer in layers if layer.dense]
    # n times the images and 1 / n of the neurons: the same arithmetic in all turns together.
    shares = [
        dataclasses.replace(
            layer,
            parameters=layer.parameters / cluster.gpus,
            forward=layer.forward / turns,
            backward=layer.backward / turns,
        )
        for layer in dense
    ]

    def exchange(name: str, values: int, after: tuple[str, ...]) -> list[Task]:
        size = values * batch_size * cluster.gpus / turns * value_bytes
        return _series(name, _ring("link", cluster.gpus, 1, size, cluster.link), after)

    tasks = _compute("forward", features, ())
    start, returned = _last(tasks), []
    for turn in range(turns):
        own: list[Task] = []
        for layer in shares:
            own += exchange(f"gather {layer.name} {turn}", layer.inputs, _last(own) or start)
            own += _compute("forward", [layer], _last(own) or start, f" {turn}")
        own += exchange(f"gather logits {turn}", shares[-1].outputs, _last(own))
        for layer in reversed(shares):
            own += _compute("backward", [layer], _last(own), f" {turn}")
            own += exchange(f"scatter {layer.name} {turn}", layer.inputs, _last(own))
        tasks += own
        returned += _last(own)
    tasks += _compute("backward", features[::-1], tuple(returned))
    sums = _sums(buckets(features, value_bytes, limit), cluster)
    for layer in shares:
        # All GPUs of a machine send their shares through its one network.
        size = layer.parameters * cluster.gpus * value_bytes
        phases = _ring("network", cluster.machines, 2, size, cluster.network)
        made = tuple(f"backward {layer.name} {turn}" for turn in range(turns))
        sums += _series(f"sum {layer.name}", phases, made)
    kept = sum(layer.parameters for layer in [*features, *shares])
    update *= kept / sum(layer.parameters for layer in layers)
    return [*tasks, *sums, _update(update, [*tasks, *sums])]


def _compute(way: str, layers: list[Layer], after: tuple[str, ...], suffix: str = "") -> list[Task]:
    """Tasks that compute the layers one after the other."""
    tasks: list[Task] = []
    for layer in layers:
        name = f"{way} {layer.name}{suffix}"
        tasks.append(Task(name, "gpu", getattr(layer, way), _last(tasks) or after))
    return tasks


def _sums(pieces: list[tuple[str, float]], cluster: Cluster) -> list[Task]:
    return [
        task
        for number, (layer, size) in enumerate(pieces)
        for task in _series(f"sum {number}", all_reduce(size, cluster), (f"backward {layer}",))
    ]


def _series(name: str, phases: list[Phase], after: tuple[str, ...]) -> list[Task]:
    """Tasks that run a collective's phases one after the other."""
    tasks: list[Task] = []
    for number, phase in enumerate(phases):
        waits = _last(tasks) or after
        tasks.append(Task(f"{name}.{number}", phase.resource, phase.seconds, waits, phase.sent))
    return tasks


def _last(tasks: list[Task]) -> tuple[str, ...]:
    return (tasks[-1].name,) if tasks else ()


def _update(seconds: float, before: list[Task]) -> Task:
    return Task("update", "gpu", seconds, tuple(task.name for task in before))
