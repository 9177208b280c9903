"""A network as a table: shapes, parameters, multiply-adds, receptive fields."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Row:
    """A layer.

    Attributes:
      name, kind: its name and class.
      shape: of its output, without the batch.
      parameters: weights and biases.
      multiply_adds: per picture; only of convolutions and dense layers, which have nearly all.
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
    rows, field, stride = [], 1, 1
    for layer in model.layers:
        shape = tuple(layer.output.shape[1:])
        window = _window(layer)
        if window and field is not None:
            size, step = window
            field, stride = field + (size - 1) * stride, stride * step
        if len(shape) == 1:
            field = None
        rows.append(
            Row(
                name=layer.name,
                kind=type(layer).__name__,
                shape=shape,
                parameters=layer.count_params(),
                multiply_adds=_multiply_adds(layer, shape),
                receptive_field=field,
            )
        )
    return rows


def text_table(rows: list[Row]) -> str:
    """The table for people, with totals; memory is of activations and weights as float32."""
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
        f"{4 * values / 1e6:.1f} MB of activations per picture"
    )
    return "\n".join(lines)


def _window(layer) -> tuple[int, int] | None:
    """(size, stride) of a layer that looks at a window of the map, else None."""
    size = getattr(layer, "kernel_size", None) or getattr(layer, "pool_size", None)
    if size is None or len(layer.output.shape) != 4:
        return None
    stride = getattr(layer, "strides", 1)
    return tuple(int(np.max(value)) for value in (size, stride))


def _multiply_adds(layer, shape) -> int:
    if not layer.weights:
        return 0
    kernel = layer.weights[0].shape
    if len(kernel) == 4 and len(shape) == 3:  # (h, w, inputs of a group, outputs)
        return int(np.prod(kernel)) * shape[0] * shape[1]
    return int(np.prod(kernel)) if len(kernel) > 1 else 0
