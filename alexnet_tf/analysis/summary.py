"""A network as a table: shapes, parameters, multiply-adds, fields, bytes between devices."""

import contextlib
import dataclasses
import math
from typing import Any

import numpy as np

from alexnet_tf.analysis import receptive_field
from alexnet_tf.models.layers import local


@dataclasses.dataclass(frozen=True)
class Row:
    """A layer.

    Attributes:
      name, kind: its name and class.
      shape: of its output, without the batch.
      parameters: weights and biases.
      multiply_adds: per image; only of layers with kernels (convolutions, locally connected and
        dense layers, distances to centres), which have nearly all.
      receptive_field: side, in input pixels, of what one output value sees; None once the map is
        flattened.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int
    multiply_adds: int
    receptive_field: int | None


def layer_table(model) -> list[Row]:
    """The layers of a chain-shaped network, from input to output.

    Args:
      model: a built functional Keras model.
    """
    fields = receptive_field.receptive_fields(model)
    rows = []
    for layer in model.layers:
        shape = tuple(layer.output.shape[1:])
        field = fields[layer.name]
        rows.append(
            Row(
                name=layer.name,
                kind=type(layer).__name__,
                shape=shape,
                parameters=layer.count_params(),
                multiply_adds=_multiply_adds(layer, shape),
                receptive_field=None if field is None else field.size,
            )
        )
    return rows


def text_table(rows: list[Row]) -> str:
    """The table as text, with totals; memory is of activations and weights as float32."""
    lines = [
        f"{'layer':16}{'kind':28}{'output':>16}{'parameters':>13}{'multiply-adds':>15}{'field':>7}"
    ]
    for row in rows:
        shape = "x".join(map(str, row.shape))
        field = "" if row.receptive_field is None else row.receptive_field
        lines.append(
            f"{row.name:16}{row.kind:28}{shape:>16}{row.parameters:13,}{row.multiply_adds:15,}"
            f"{field:>7}"
        )
    parameters = sum(row.parameters for row in rows)
    operations = sum(row.multiply_adds for row in rows)
    values = sum(int(np.prod(row.shape)) for row in rows)
    lines.append(f"{'all':60}{parameters:13,}{operations:15,}")
    lines.append(
        f"memory as float32: {4 * parameters / 1e6:.1f} MB of weights, "
        f"{4 * values / 1e6:.1f} MB of activations per image"
    )
    return "\n".join(lines)


def crossing_bytes(model, batch_size: int) -> dict[str, int | None]:
    """Bytes transferred between devices in a training step on two devices.

    Args:
      model: a network of `alexnet_tf.models`, in one piece.
      batch_size: images in the global batch.

    Returns:
      "towers": each activation that the other half reads and its gradient, or None for a network
      that cannot be cut in two. "mirrored": each weight's gradient to the other device and the sum
      back, whatever the batch. The images, which every device gets from the host, are in neither.
    """
    from alexnet_tf.models import catalog, towers

    parameters = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    found = {"towers": None, "mirrored": 2 * 4 * parameters}  # gradients are float32
    if model.name in catalog.list_models():
        variant = catalog.find_variant(model.name)
        with contextlib.suppress(ValueError):
            found["towers"] = sum(
                2 * batch_size * values * (2 if "16" in model.get_layer(name).compute_dtype else 4)
                for name, values in towers.crossing_values(variant, model).items()
            )
    return found


def crossing_text(model, batch_size: int) -> str:
    """`crossing_bytes` as text, with the batch from which data parallelism transfers less."""
    crossing: dict[str, Any] = crossing_bytes(model, batch_size)
    lines = [f"crossing between two devices in a training step of {batch_size:,} images:"]
    if crossing["towers"] is None:
        lines.append("  towers    not with this network: its halves are no columns of their own")
    else:
        each: Any = crossing_bytes(model, 1)["towers"]
        lines.append(
            f"  towers    {crossing['towers'] / 1e6:10.2f} MB: {each:,} bytes per image, of "
            "activations and their gradients"
        )
    lines.append(
        f"  mirrored  {crossing['mirrored'] / 1e6:10.2f} MB: gradients there, sums back, whatever "
        "the batch"
    )
    if crossing["towers"]:
        equal = crossing["mirrored"] / each
        lines.append(f"  towers move less in batches of up to {math.floor(equal):,} images")
    return "\n".join(lines)


def _multiply_adds(layer, shape) -> int:
    if not layer.weights:
        return 0
    kernel = layer.weights[0].shape
    if len(kernel) < 2:
        return 0
    # A kernel that slides is used at every position of the output: (h, w, inputs of a group,
    # outputs), or (h, w, links). A locally connected layer has another at each, and lists them all.
    slides = len(shape) == 3 and not isinstance(layer, local.LocallyConnected2D)
    return math.prod(kernel) * (shape[0] * shape[1] if slides else 1)
