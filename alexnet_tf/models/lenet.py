"""LeNet-5 (LeCun, Bottou, Bengio, Haffner 1998), as described and as commonly rebuilt.

| layer  | lenet5                                                   | output   | trainable |
|--------|----------------------------------------------------------|----------|-----------|
| c1     | 6 maps, 5x5                                              | 28x28x6  | 156       |
| s2     | 2x2 sums, a coefficient and a bias per map               | 14x14x6  | 12        |
| c3     | 16 maps, 5x5, each reads 3 to 6 of the maps of s2         | 10x10x16 | 1,516     |
| s4     | as s2                                                    | 5x5x16   | 32        |
| c5     | 120 maps, 5x5, all maps of s4                            | 120      | 48,120    |
| f6     | 84 units                                                 | 84       | 10,164    |
| output | squared distance to 10 fixed centres of 84 signs         | 10       | 0         |

60,000 trained parameters. Every layer but the last ends in 1.7159 tanh(2x/3). Weights begin uniform
in +-2.4/fan-in. A published test error on MNIST: 0.95 %.

The centres of the output are drawings of the digits, 7 wide and 12 high. The authors' drawings are
not published as data; those below are this package's own, in the same format.

`lenet5_softmax` is the common reading instead: all maps of s2 feed all of c3, the subsampling is
a plain mean, the squashing plain tanh, and the output a dense layer with softmax: 61,706
  parameters.

The input is 32x32 with the 28x28 digit in its middle, grey levels 0 (background) to 255 (ink); the
first layer maps them to -0.1 and 1.175, which gives MNIST a mean near 0 and a variance near 1.
Built for a smaller input (`input_shape=(28, 28, 1)`), the network puts it on that background by
itself.
"""

import dataclasses
import os
from typing import Any

import keras
import numpy as np

from alexnet_tf.models.builder import build
from alexnet_tf.models.layers import PixelNormalization
from alexnet_tf.models.layers.lenet import (
    Canvas,
    RadialBasis,
    ScaledTanh,
    SparseConv2D,
    Subsampling,
)
from alexnet_tf.models.spec import Conv, Dense, Flatten, Options, Variant

# The paper's table 1: which maps of s2 each map of c3 reads.
C3_CONNECTIONS = (
    (0, 1, 2),
    (1, 2, 3),
    (2, 3, 4),
    (3, 4, 5),
    (0, 4, 5),
    (0, 1, 5),
    (0, 1, 2, 3),
    (1, 2, 3, 4),
    (2, 3, 4, 5),
    (0, 3, 4, 5),
    (0, 1, 4, 5),
    (0, 1, 2, 5),
    (0, 1, 3, 4),
    (1, 2, 4, 5),
    (0, 2, 3, 5),
    (0, 1, 2, 3, 4, 5),
)

_SIDE = 32

# Twelve rows of seven per digit, "#" is ink.
_DIGITS = (
    # 0
    "....... ..###.. .#...#. #.....# #.....# #.....# "
    "#.....# #.....# #.....# .#...#. ..###.. .......",
    # 1
    "....... ...#... ..##... .#.#... ...#... ...#... "
    "...#... ...#... ...#... ...#... .#####. .......",
    # 2
    "....... .####.. #....#. ......# ......# .....#. "
    "...##.. ..#.... .#..... #...... ####### .......",
    # 3
    "....... #####.. .....#. ......# .....#. ..###.. "
    ".....#. ......# ......# .....#. #####.. .......",
    # 4
    "....... .....#. ....##. ...#.#. ..#..#. .#...#. "
    "#....#. ####### .....#. .....#. .....#. .......",
    # 5
    "....... ####### #...... #...... ######. ......# "
    "......# ......# ......# #....#. .####.. .......",
    # 6
    "....... ...###. ..#.... .#..... #...... #.###.. "
    "##...#. #.....# #.....# .#...#. ..###.. .......",
    # 7
    "....... ####### ......# .....#. .....#. ....#.. "
    "....#.. ...#... ...#... ..#.... ..#.... .......",
    # 8
    "....... ..###.. .#...#. #.....# .#...#. ..###.. "
    ".#...#. #.....# #.....# .#...#. ..###.. .......",
    # 9
    "....... ..###.. .#...#. #.....# #.....# .#...## "
    "..###.# ......# .....#. ....#.. .###... .......",
)


@dataclasses.dataclass(frozen=True)
class FanIn:
    """Kernel uniform in +-2.4 / fan-in, biases zero; "he" means the same as in `spec.Init`."""

    def arguments(self, fan_in: int, options: Options) -> dict:
        if options.initializer == "he":
            kernel = keras.initializers.RandomNormal(stddev=(2.0 / fan_in) ** 0.5)
        else:
            kernel = keras.initializers.RandomUniform(-2.4 / fan_in, 2.4 / fan_in)
        return {"kernel_initializer": kernel, "bias_initializer": keras.initializers.Zeros()}


@dataclasses.dataclass(frozen=True)
class PadToSize:
    """An image smaller than `size` goes into the middle of the background."""

    name: str
    size: int
    background: float

    def apply(self, x, options: Options):
        if x.shape[1] is None or x.shape[2] is None or min(x.shape[1:3]) >= self.size:
            return x
        return Canvas(self.size, self.background, name=self.name)(x)

    def output_size(self, n: int) -> int:
        return max(n, self.size)


@dataclasses.dataclass(frozen=True)
class TanhSpec:
    """The scaled tanh, or with plain=True tanh."""

    name: str
    plain: bool = False

    def apply(self, x, options: Options):
        if self.plain:
            return keras.layers.Activation("tanh", name=self.name)(x)
        return ScaledTanh(name=self.name)(x)


@dataclasses.dataclass(frozen=True)
class Subsample:
    """2x2 subsampling with trained numbers, or with plain=True a mean."""

    name: str
    plain: bool = False

    def apply(self, x, options: Options):
        if self.plain:
            return keras.layers.AveragePooling2D(2, name=self.name)(x)
        return Subsampling(name=self.name)(x)

    def output_size(self, n: int) -> int:
        return n // 2


@dataclasses.dataclass(frozen=True)
class SparseConv:
    """c3: a convolution after the paper's table."""

    name: str
    kernel: int = 5

    def apply(self, x, options: Options):
        # The table's rows have 3 to 6 maps; 60 links over 16 maps is their mean.
        arguments = FanIn().arguments(self.kernel**2 * 60 // 16, options)
        return SparseConv2D(C3_CONNECTIONS, self.kernel, name=self.name, **arguments)(x)

    def output_size(self, n: int) -> int:
        return n - self.kernel + 1


@dataclasses.dataclass(frozen=True)
class RbfOutput:
    """The output units. Classes beyond the ten digits get random signs, the same every time."""

    name: str

    def apply(self, x, options: Options):
        drawings = [d.replace(" ", "").replace("#", "+").replace(".", "-") for d in _DIGITS]
        signs = np.random.default_rng(1998).choice(["-", "+"], (options.classes, 84))
        centres = [*drawings, *("".join(row) for row in signs[10:])][: options.classes]
        return RadialBasis(centres, name=self.name)(x)


def _variant(name: str, summary: str, plain: bool) -> Variant:
    fan_in = FanIn()
    c3 = Conv("c3", 16, 5, init=fan_in) if plain else SparseConv("c3")
    features = (
        PadToSize("canvas", _SIDE, -0.1),
        Conv("c1", 6, 5, init=fan_in),
        TanhSpec("squash1", plain),
        Subsample("s2", plain),
        *(() if plain else (TanhSpec("squash2"),)),
        c3,
        TanhSpec("squash3", plain),
        Subsample("s4", plain),
        *(() if plain else (TanhSpec("squash4"),)),
    )
    top = (
        Flatten(),
        # c5 has kernels of 5x5 on maps of 5x5: a dense layer.
        Dense("c5", 120, init=fan_in),
        TanhSpec("squash5", plain),
        Dense("f6", 84, init=fan_in),
        TanhSpec("squash6", plain),
        Dense("output", init=fan_in) if plain else RbfOutput("output"),
    )
    # (p - 20) / 200 is -0.1 for 0 and 1.175 for 255.
    return Variant(
        name,
        summary,
        _SIDE,
        (20.0,),
        features,
        top,
        scale=0.005,
        channels=1,
        classes=10,
        enlarges=True,
    )


LENET5 = _variant("lenet5", "LeNet-5 as described in 1998", plain=False)
LENET5_SOFTMAX = _variant("lenet5_softmax", "LeNet-5 as commonly rebuilt", plain=True)
VARIANTS = (LENET5, LENET5_SOFTMAX)


def LeNet5(
    include_top: bool = True,
    weights: str | os.PathLike | None = None,
    input_shape: tuple[int | None, int | None, int] | None = None,
    pooling: str | None = None,
    classes: int = 10,
    classifier_activation: str | None = "softmax",
    include_preprocessing: bool | PixelNormalization = True,
    name: str = "lenet5",
    **options: Any,
) -> keras.Model:
    """LeNet-5 as described in its paper: 60,000 trained parameters, 840 fixed ones.

    Input: grey levels 0..255, 32x32x1. The module's docstring has the layers, the source and the
    common softmax reading, `build_model("lenet5_softmax")`. The logits are minus the squared
    distances to the centres, so cross-entropy on them is the paper's loss without its constant.
    Keywords are those of `alexnet_tf.build_model`.
    """
    return build(
        LENET5,
        include_top=include_top,
        weights=weights,
        input_shape=input_shape,
        pooling=pooling,
        classes=classes,
        classifier_activation=classifier_activation,
        include_preprocessing=include_preprocessing,
        name=name,
        **options,
    )
