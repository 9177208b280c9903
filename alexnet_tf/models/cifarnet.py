"""The four-layer CIFAR-10 network of the paper's section 3.3.

The paper reports 13 % test error without and 11 % with response normalisation, and refers to the
layer files of cuda-convnet: `conv-local-13pct` and `conv-local-11pct` (akrizhevsky/cuda-convnet2,
layers/layers-cifar10-11pct.cfg; dnouri/cuda-convnet, example-layers). The two files differ in more
than the normalisation: the better one also has 64 instead of 32 maps in local3.

| layer  | cifarnet (11 %)                       | cifarnet_no_norm (13 %)   | at 24 pixels |
|--------|---------------------------------------|---------------------------|--------------|
| conv1  | 64 of 5x5, ReLU, max-pool, LRN over 9 | 64 of 5x5, ReLU, max-pool | 12x12x64     |
| conv2  | 64 of 5x5, ReLU, LRN over 9, max-pool | 64 of 5x5, ReLU, max-pool | 6x6x64       |
| local3 | 64 of 3x3, ReLU                       | 32 of 3x3, ReLU           | 6x6x64 or 32 |
| local4 | 32 of 3x3, ReLU                       | 32 of 3x3, ReLU           | 6x6x32       |
| fc10   | 10, softmax                           | 10, softmax               | 10           |

"local" is a convolution whose weights are not shared between positions. Pools are 3 wide with
stride 2, rounded up. Initial weights are N(0, std**2) with std 0.0001, 0.01, 0.04, 0.04, 0.01,
initial biases 0. The published runs crop 24 pixels out of 32 and subtract a mean per pixel.
"""

import dataclasses
import os
from typing import Any

import keras

from alexnet_tf.models.builder import build
from alexnet_tf.models.layers import PixelNormalization
from alexnet_tf.models.layers.local import LocallyConnected2D
from alexnet_tf.models.spec import (
    Conv,
    Dense,
    Flatten,
    Init,
    Norm,
    Options,
    Pool,
    Relu,
    Variant,
)

# CIFAR-10's commonly used mean per channel (0.4914, 0.4822, 0.4465, times 255).
CIFAR10_MEAN = (0.4914 * 255, 0.4822 * 255, 0.4465 * 255)
_PAD2 = ((2, 2), (2, 2))
_NORM: dict[str, Any] = {"size": 9, "alpha": 1e-3, "k": 1.0, "convention": "mean"}


@dataclasses.dataclass(frozen=True)
class Local:
    """A locally connected layer."""

    name: str
    filters: int
    std: float = 0.04
    kernel: int = 3

    def apply(self, x, options: Options):
        fan_in = self.kernel**2 * x.shape[-1]
        initializer = Init(self.std).arguments(fan_in, options)["kernel_initializer"]
        return LocallyConnected2D(self.filters, self.kernel, initializer, name=self.name)(x)


def _variant(name: str, summary: str, normalized: bool, local3_maps: int) -> Variant:
    entries = (
        # he=False: like AlexNet's, this layer reads pixels.
        Conv("conv1", 64, 5, pad=_PAD2, init=Init(0.0001, he=False)),
        Relu("relu1"),
        Pool("pool1", ceil=True),
        Norm("norm1", **_NORM),
        Conv("conv2", 64, 5, pad=_PAD2, init=Init(0.01)),
        Relu("relu2"),
        Norm("norm2", **_NORM),
        Pool("pool2", ceil=True),
        Local("local3", local3_maps),
        Relu("relu3"),
        Local("local4", 32),
        Relu("relu4"),
    )
    features = tuple(e for e in entries if normalized or not isinstance(e, Norm))
    top = (Flatten(), Dense("fc10", init=Init(0.01, he=False)))
    return Variant(name, summary, 24, CIFAR10_MEAN, features, top, classes=10)


CIFARNET = _variant("cifarnet", "the paper's CIFAR-10 network, 11 % test error", True, 64)
CIFARNET_NO_NORM = _variant(
    "cifarnet_no_norm", "the same without normalisation, 13 % test error", False, 32
)
VARIANTS = (CIFARNET, CIFARNET_NO_NORM)


def CifarNet(
    include_top: bool = True,
    weights: str | os.PathLike | None = None,
    input_shape: tuple[int | None, int | None, int] | None = None,
    pooling: str | None = None,
    classes: int = 10,
    classifier_activation: str | None = "softmax",
    include_preprocessing: bool | PixelNormalization = True,
    name: str = "cifarnet",
    **options: Any,
) -> keras.Model:
    """The CIFAR-10 network of the paper's section 3.3, with normalisation: 2,112,970 parameters.

    Input: RGB pixels of 0..255, 24x24 (the published crop of 32x32). The module's docstring has the
    layers and the source; `cifarnet_no_norm` is the network without normalisation. Keywords are
    those of `alexnet_tf.build_model`.
    """
    return build(
        CIFARNET,
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
