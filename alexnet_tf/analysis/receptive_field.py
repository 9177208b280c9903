"""Receptive fields: which square of the image each value of a layer is computed from."""

import dataclasses

import keras
import numpy as np

from alexnet_tf.models.layers import lenet, response_norm


@dataclasses.dataclass(frozen=True)
class ReceptiveField:
    """The squares that the positions of a map see, in input pixels.

    Attributes:
      size: side of each square.
      stride: from one position's square to the next one's.
      top, left: where the square of position (0, 0) begins; negative where it begins in the border
        of padding.
    """

    size: int
    stride: int
    top: int
    left: int

    def box(self, row: int, column: int) -> tuple[int, int, int]:
        """(top, left, side) of the square that the value at (row, column) sees."""
        return self.top + row * self.stride, self.left + column * self.stride, self.size


def receptive_fields(model) -> dict[str, ReceptiveField | None]:
    """The receptive fields of the layers of a chain-shaped network.

    Args:
      model: a built functional Keras model that takes square images.

    Returns:
      Layer name -> its field, in the model's order; None once the map is flattened, where every
      value sees the whole image.
    """
    found: dict[str, ReceptiveField | None] = {}
    field: ReceptiveField | None = ReceptiveField(1, 1, 0, 0)
    for layer in model.layers:
        if len(layer.output.shape) != 4:
            field = None
        elif field is not None and not isinstance(layer, keras.layers.InputLayer):
            size, stride = window(layer) or (1, 1)
            above, before = _border(layer, size, stride)
            field = ReceptiveField(
                size=field.size + (size - 1) * field.stride,
                stride=field.stride * stride,
                top=field.top - above * field.stride,
                left=field.left - before * field.stride,
            )
        found[layer.name] = field
    return found


def window(layer) -> tuple[int, int] | None:
    """(size, stride) of a layer that reads windows of its input map, else None."""
    if isinstance(layer, lenet.Subsampling):
        return 2, 2
    if isinstance(layer, response_norm.SpatialResponseNormalization):
        size = layer.size
    else:
        size = getattr(layer, "kernel_size", None) or getattr(layer, "pool_size", None)
    if size is None or len(layer.output.shape) != 4:
        return None
    return int(np.max(size)), int(np.max(getattr(layer, "strides", 1)))


def _border(layer, size: int, stride: int) -> tuple[int, int]:
    """Rows above and columns before the map that the first window begins in."""
    explicit = getattr(layer, "explicit_padding", None)
    if explicit is not None:
        (top, _), (left, _) = explicit
        return top, left
    rows, columns = layer.input.shape[1:3]
    if isinstance(layer, lenet.Canvas):
        return max(layer.size - rows, 0) // 2, max(layer.size - columns, 0) // 2
    if getattr(layer, "padding", None) == "same" or (
        size > 1 and layer.output.shape[1:3] == (rows, columns)
    ):
        needed = [(-(-n // stride) - 1) * stride + size - n for n in (rows, columns)]
        return max(needed[0], 0) // 2, max(needed[1], 0) // 2
    return 0, 0
