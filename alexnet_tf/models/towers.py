"""Cuts a network of two columns into two halves, one per device.

    device 0   conv1 .. pool2  \\ /  conv3 .. pool5  \\ /  fc6  \\ /  fc7  \\
                                X                    X         X          >  fc8
    device 1   conv1 .. pool2  / \\  conv3 .. pool5  / \\  fc6  / \\  fc7  /

Each device has half of a layer's kernels or neurons. Most layers read only what their own device
made; where one reads both halves, a new stage begins. Between two stages every device hands its
half to the other, and on the way back the gradient of what it read of the other's half.

`alexnet_tf.training.towers` runs it; `stages` and `crossing_values` need no device.
"""

import dataclasses
import itertools
import math

import keras

from alexnet_tf.models import layers
from alexnet_tf.models.spec import Conv, Dense, Drop, Flatten, Norm, Options, Variant


@dataclasses.dataclass(frozen=True)
class Stage:
    """The layers between two meetings of the halves.

    Attributes:
      entries: of the variant's specification, whole.
      devices: 2, or 1 for the classifier, which is on the first device only, as in 2012.
    """

    entries: tuple
    devices: int


def stages(variant: Variant) -> list[Stage]:
    """Cuts a variant before each layer that reads both halves.

    Raises:
      ValueError: the variant has no two columns, or a layer that cannot be halved.
    """
    _require_columns(variant)
    cut: list[list] = [[]]
    seen_whole = True  # both halves read the image
    for entry in (*variant.features, *variant.top):
        if _reads_both(entry) and not seen_whole:
            cut.append([])
            seen_whole = True
        if isinstance(entry, Conv | Dense):
            seen_whole = False
        cut[-1].append(entry)
    return [Stage(tuple(entries), 1 if _is_classifier(entries[0]) else 2) for entries in cut]


def crossing_values(variant: Variant, model: keras.Model) -> dict[str, int]:
    """Number of values transferred between the devices per image in the forward pass.

    The backward pass transfers the same number: the gradient of each.

    Args:
      variant: the network.
      model: built from it, for any size of image.

    Returns:
      Last layer of a stage -> values of its output that the next stage needs on the other device.
    """
    cut = stages(variant)
    found = {}
    for stage, reader in itertools.pairwise(cut):
        name = stage.entries[-1].name
        half = math.prod(model.get_layer(name).output.shape[1:]) // 2
        found[name] = half * reader.devices
    return found


def build_section(
    stage: Stage, half: int, inputs: list[keras.KerasTensor], whole: keras.Model
) -> keras.Model:
    """One device's part of a stage; enter the device's scope first, for the weights.

    Args:
      stage: which layers.
      half: 0 or 1.
      inputs: tensors like its input: the image, or each half's output of the previous stage.
      whole: the undivided network, for its preprocessing, dropout and number of classes.

    Returns:
      A model from `inputs` to the half of the stage's last output. Its weights have the paths of
      the whole network's; their values are new.
    """
    inputs = [keras.Input(tensor.shape[1:], dtype=tensor.dtype) for tensor in inputs]
    if len(inputs) == 1:
        x = inputs[0]
        for layer in whole.layers:
            if isinstance(layer, layers.PixelNormalization):
                x = layers.PixelNormalization.from_config(layer.get_config())(x)
    else:
        x = keras.layers.Concatenate(name="both_halves")(inputs)
    options = Options(whole.output_shape[-1])
    for entry in stage.entries:
        if isinstance(entry, Drop):
            x = _HalfDropout(half, whole.get_layer(entry.name).get_config())(x)
        else:
            x = (_halve(entry) if stage.devices == 2 else entry).apply(x, options)
    section = keras.Model(inputs, x)
    for layer in section.layers:
        if layer.weights:
            layer.trainable = whole.get_layer(layer.name).trainable
    return section


class _HalfDropout(layers.Dropout):
    """Draws for its half of the values, so that both masks are the whole network's."""

    def __init__(self, half: int, config: dict):
        super().__init__(**config)
        self.half = half

    def _span(self, features):
        return 2 * features, self.half * features


def _require_columns(variant: Variant) -> None:
    entries = (*variant.features, *variant.top)
    advice = (
        "use alexnet_145, the network whose halves the original program ran on two GPUs, or one of "
        "its variants with two columns"
    )
    for entry in entries:
        if isinstance(entry, Norm) and entry.groups != 2:
            raise ValueError(
                f"{variant.name} cannot be cut into two towers, because {entry.name} normalises "
                f"across all maps of its layer and so across the devices: {advice}."
            )
    if not any(isinstance(entry, Conv) and entry.groups == 2 for entry in entries):
        raise ValueError(
            f"{variant.name} cannot be cut into two towers, because it has no columns: {advice}."
        )


def _reads_both(entry) -> bool:
    if isinstance(entry, Conv):
        return entry.groups == 1
    # Flattened as the whole network's: (h, w, c) with both halves' maps in c.
    return isinstance(entry, Dense | Flatten) and entry.columns == 1


def _is_classifier(entry) -> bool:
    return isinstance(entry, Dense) and entry.units is None


def _halve(entry):
    if isinstance(entry, Conv):
        return dataclasses.replace(entry, filters=entry.filters // 2, groups=1)
    if isinstance(entry, Dense) and entry.units is not None:
        return dataclasses.replace(entry, units=entry.units // 2, columns=1)
    if isinstance(entry, Norm):
        return dataclasses.replace(entry, groups=1)
    if isinstance(entry, Flatten):
        return dataclasses.replace(entry, columns=1)
    return entry
