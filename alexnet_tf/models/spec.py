"""Network specifications as data: a tuple of entries, each of which adds one layer.

A `Variant` describes a network; `builder.build` reads it. The entries below suffice for the AlexNet
family; `lenet.py` and `cifarnet.py` add a few.
"""

import dataclasses
import math
from typing import Protocol

import keras

from alexnet_tf.models import layers

INITIALIZERS = ("published", "he")


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """A network's operation on RGB pixels p in 0..255: (p - mean) * scale, then channel order."""

    mean: tuple[float, float, float]
    scale: float | tuple[float, float, float] = 1.0
    channel_order: str = "rgb"


# Caffe's ilsvrc_2012_mean.npy averaged over its pixels, as in its classification example, in RGB.
CAFFE = Preprocessing((122.6789, 116.6688, 104.0070), channel_order="bgr")
# No weights of TF-Slim's alexnet_v2 were published, so its preprocessing is not known: the commonly
# used RGB mean of ILSVRC-2012 (the VGG networks' "mean pixel"), as in Slim's VGG preprocessing.
SLIM = Preprocessing((123.68, 116.779, 103.939))
# torchvision's mean and standard deviation of pixels in 0..1, on the scale of 0..255.
TORCHVISION = Preprocessing(
    (0.485 * 255, 0.456 * 255, 0.406 * 255),
    (1 / (0.229 * 255), 1 / (0.224 * 255), 1 / (0.225 * 255)),
)


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of a builder that entries depend on.

    classes: the number of outputs. initializer: "published" or "he". dropout_seed: int. dropout:
    the rate of all dropouts; None for the published ones.
    """

    classes: int
    initializer: str = "published"
    dropout_seed: int = 0
    dropout: float | None = None


class InitSpec(Protocol):
    """Initialisation of a layer's weights."""

    def arguments(self, fan_in: int, options: Options) -> dict:
        """Keyword arguments for a Keras layer with `fan_in` inputs per output."""


@dataclasses.dataclass(frozen=True)
class Init:
    """Initialisation of a layer's weights: kernel ~ N(0, std**2) and a constant bias.

    std None means uniform in +-1/sqrt(fan-in) for kernel and bias, the default of PyTorch's layers
    and so of torchvision's AlexNet.

    he: whether the "he" initializer replaces this kernel by N(0, 2 / fan-in). False for the first
    layer, whose inputs are pixels with a deviation near 70 instead of 1, and for the last layer,
    whose initial outputs should be near 0.
    """

    std: float | None = 0.01
    bias: float = 0.0
    he: bool = True

    def arguments(self, fan_in: int, options: Options) -> dict:
        """Keyword arguments for a Keras layer with `fan_in` inputs per output."""
        if options.initializer == "he":
            std = math.sqrt(2.0 / fan_in) if self.he else self.std or 0.01
            kernel = keras.initializers.RandomNormal(stddev=std)
            bias = keras.initializers.Zeros()
        elif self.std is None:
            limit = 1.0 / math.sqrt(fan_in)
            kernel = keras.initializers.RandomUniform(-limit, limit)
            bias = keras.initializers.RandomUniform(-limit, limit)
        else:
            kernel = keras.initializers.RandomNormal(stddev=self.std)
            bias = keras.initializers.Constant(self.bias)
        return {"kernel_initializer": kernel, "bias_initializer": bias}


@dataclasses.dataclass(frozen=True)
class SlimInit:
    """TF-Slim's initialisation: Glorot uniform or truncated normal kernels, and a constant bias."""

    std: float | None = None
    bias: float = 0.1
    he: bool = True

    def arguments(self, fan_in: int, options: Options) -> dict:
        """Keyword arguments for a Keras layer with `fan_in` inputs per output."""
        if options.initializer == "he":
            return Init(self.std or 0.01, self.bias, self.he).arguments(fan_in, options)
        kernel = (
            keras.initializers.GlorotUniform()
            if self.std is None
            else keras.initializers.TruncatedNormal(stddev=self.std)
        )
        return {
            "kernel_initializer": kernel,
            "bias_initializer": keras.initializers.Constant(self.bias),
        }


@dataclasses.dataclass(frozen=True)
class Conv:
    """A convolution without activation; pad is "valid" or ((top, bottom), (left, right))."""

    name: str
    filters: int
    kernel: int
    stride: int = 1
    pad: str | tuple = "valid"
    groups: int = 1
    init: InitSpec = Init()

    def apply(self, x, options: Options):
        fan_in = self.kernel * self.kernel * x.shape[-1] // self.groups
        return layers.GroupedConv2D(
            self.filters,
            self.kernel,
            strides=self.stride,
            padding=self.pad,
            groups=self.groups,
            name=self.name,
            **self.init.arguments(fan_in, options),
        )(x)

    def output_size(self, n: int) -> int:
        border = 0 if self.pad == "valid" else sum(self.pad[0])
        return (n + border - self.kernel) // self.stride + 1


@dataclasses.dataclass(frozen=True)
class Relu:
    """max(x, 0), as a separate layer."""

    name: str

    def apply(self, x, options: Options):
        return keras.layers.ReLU(name=self.name)(x)


@dataclasses.dataclass(frozen=True)
class Norm:
    """Response normalisation across channels; groups 2 keeps it inside each column."""

    name: str
    size: int = 5
    alpha: float = 1e-4
    beta: float = 0.75
    k: float = 2.0
    convention: str = "sum"
    groups: int = 1

    def apply(self, x, options: Options):
        return layers.LocalResponseNormalization(
            self.size,
            self.alpha,
            self.beta,
            self.k,
            alpha_convention=self.convention,
            groups=self.groups,
            name=self.name,
        )(x)


@dataclasses.dataclass(frozen=True)
class SpatialNorm:
    """Response normalisation within each map."""

    name: str
    size: int = 5
    scale: float = 1e-3
    beta: float = 0.75

    def apply(self, x, options: Options):
        return layers.SpatialResponseNormalization(
            self.size, self.scale, self.beta, name=self.name
        )(x)


@dataclasses.dataclass(frozen=True)
class Pool:
    """Max or average pooling; ceil rounds the number of windows up instead of down."""

    name: str
    size: int = 3
    stride: int = 2
    ceil: bool = False

    def apply(self, x, options: Options):
        kind = layers.CeilMaxPooling2D if self.ceil else layers.MaxPooling2D
        return kind(self.size, self.stride, name=self.name)(x)

    def output_size(self, n: int) -> int:
        # At least one full window: maps smaller than the pool are of no use.
        windows = (n - self.size) / self.stride + 1
        return math.ceil(windows) if self.ceil and n >= self.size else math.floor(windows)


@dataclasses.dataclass(frozen=True)
class Flatten:
    """Flattens maps in the order h, w, c; with columns, one column after the other."""

    name: str = "flatten"
    columns: int = 1

    def apply(self, x, options: Options):
        if self.columns > 1:
            _, h, w, c = x.shape
            split = (h, w, self.columns, c // self.columns)
            x = keras.layers.Reshape(split, name=f"{self.name}_split")(x)
            x = keras.layers.Permute((3, 1, 2, 4), name=f"{self.name}_columns")(x)
        return keras.layers.Flatten(name=self.name)(x)


@dataclasses.dataclass(frozen=True)
class Dense:
    """A fully connected layer without activation; units None means one per class."""

    name: str
    units: int | None = None
    columns: int = 1
    init: InitSpec = Init()

    def apply(self, x, options: Options):
        units = options.classes if self.units is None else self.units
        arguments = self.init.arguments(x.shape[-1] // self.columns, options)
        if self.columns > 1:
            return layers.GroupedDense(units, self.columns, name=self.name, **arguments)(x)
        return keras.layers.Dense(units, name=self.name, **arguments)(x)


@dataclasses.dataclass(frozen=True)
class Drop:
    """Dropout; a distinct index gives each dropout of a network different masks."""

    name: str
    index: int
    rate: float = 0.5
    scaling: str = "paper"

    def apply(self, x, options: Options):
        # Networks here have at most two dropouts, so 2 * seed + index is unique.
        seed = 2 * options.dropout_seed + self.index
        rate = self.rate if options.dropout is None else options.dropout
        return layers.Dropout(rate, seed, self.scaling, name=self.name)(x)


@dataclasses.dataclass(frozen=True)
class Variant:
    """A network.

    name: its public name. summary: one line. crop_size, channels: its input. mean, scale,
    channel_order: see `Preprocessing`. features: entries up to and including the last pool. top:
    entries from the flattening to the logits. classes: the published number. enlarges: whether the
    first entry pads smaller images to crop_size with a border.
    """

    name: str
    summary: str
    crop_size: int
    mean: tuple[float, ...]
    features: tuple
    top: tuple
    scale: tuple[float, ...] | float = 1.0
    channel_order: str = "rgb"
    channels: int = 3
    classes: int = 1000
    enlarges: bool = False

    def feature_size(self, n: int) -> int:
        """The side of the last map for an n x n image; less than 1 if the image is too small."""
        for entry in self.features:
            if hasattr(entry, "output_size"):
                n = entry.output_size(n)
                if n < 1:
                    break
        return n

    def smallest_input(self) -> int:
        """The smallest side of an image that gives feature maps of at least one pixel."""
        n = 1
        while self.feature_size(n) < 1:
            n += 1
        return n
