"""The networks that the original program trained for the paper's results.

The program was published in 2025 by the Computer History Museum (computerhistory/AlexNet-Source-Code,
folder `layers`). Network #145 gave the paper's single-network results: 37.5 % / 17.0 % error on
ILSVRC-2010's test set, 40.7 % / 18.2 % on ILSVRC-2012's validation set. It differs from the network in
the paper's text:

| place      | the paper's text           | network #145                                            |
|------------|----------------------------|---------------------------------------------------------|
| layer 1    | conv, ReLU, LRN, pool      | conv, LRN of the signed values, pool, ReLU              |
| layer 2    | conv, ReLU, LRN, pool      | conv, ReLU, LRN, a spatial normalisation, pool          |
| layer 5    | conv, ReLU, pool           | conv, pool, ReLU (the same result)                      |
| LRN        | alpha 1e-4 on the sum      | 1e-4 divided by the window's 5                          |
| LRN        | over all maps of a layer   | each column (GPU) by itself                             |
| conv3 to 5 | weights from N(0, 0.01**2) | N(0, 0.03**2)                                           |

In layer 2 the second normalisation divides by (1 + 1e-3 / 25 * S) ** 0.75, with S the sum of squares
in the 5x5 window of the same map.

The first half of the channels is always the first GPU's. The original reads both halves in the order
b, a in some layers (half b of the second fully connected layer, conv6b); here the order is always a, b,
which only permutes the weights.

The variants and the authors' notes on them (error with ten views; validation set of 2012 unless said):

| name                | number | difference                                       | top-1, top-5      |
|---------------------|--------|--------------------------------------------------|-------------------|
| alexnet_145         | #145   |                                                  | 40.66 %, 18.21 %  |
| alexnet_145_half    | half   | one column; conv5 with 256 maps, fc 4096         | 39.17 %, 18.23 % (2010 test; #145: 37.47 %, 17.00 %) |
| alexnet_145_pool2   | #147   | pools of 2 by 2; conv2 pads 1, conv5 pads 0      | 41.06 %, 18.51 %  |
| alexnet_145_no_norm | #148   | no normalisation                                 | 42.03 %, 19.36 %  |
| alexnet_145_no_cross| #150   | columns meet in fc8 only; conv2 with 320 maps    | 41.83 %, 19.33 %  |
| alexnet_146         | #146   | a sixth convolution after pool5; pre-trained     | 38.99 %, 16.62 %  |
"""  # noqa: E501 - a table

from alexnet_tf.models.alexnet import IMAGENET_MEAN, OVERHANG
from alexnet_tf.models.spec import (
    Conv,
    Dense,
    Drop,
    Flatten,
    Init,
    Norm,
    Pool,
    Relu,
    SpatialNorm,
    Variant,
)

_ENDS = Init(0.01, 0.0, he=False)  # conv1 and fc8
_CONV2 = Init(0.01, 1.0)
_CONV3 = Init(0.03, 0.0)
_CONV45 = Init(0.03, 1.0)
_FC = Init(0.01, 1.0)
_PAD1 = ((1, 1), (1, 1))
_PAD2 = ((2, 2), (2, 2))


def _norm(name: str, columns: int) -> Norm:
    return Norm(name, convention="mean", groups=columns)


def _features(
    columns: int = 2,
    conv2_maps: int = 256,
    conv3_groups: int = 1,
    normalized: bool = True,
    overlapping: bool = True,
) -> tuple:
    """Layers 1 to 5 of #145, with the changes of its ablations."""
    pool = {"size": 3, "stride": 2} if overlapping else {"size": 2, "stride": 2}
    half = 1 if columns == 1 else 2
    entries = (
        Conv("conv1", 48 * half, 11, 4, OVERHANG, init=_ENDS),  # (b, 55, 55, 96)
        _norm("norm1", columns),
        Pool("pool1", **pool, ceil=True),  # (b, 27, 27, 96)
        Relu("relu1"),
        Conv(
            "conv2",
            conv2_maps // 2 * half,
            5,
            pad=_PAD2 if overlapping else _PAD1,
            groups=columns,
            init=_CONV2,
        ),
        Relu("relu2"),
        _norm("norm2", columns),
        SpatialNorm("cnorm2"),
        Pool("pool2", **pool, ceil=True),  # (b, 13, 13, 256)
        Conv("conv3", 192 * half, 3, pad=_PAD1, groups=conv3_groups, init=_CONV3),
        Relu("relu3"),
        Conv("conv4", 192 * half, 3, pad=_PAD1, groups=columns, init=_CONV45),
        Relu("relu4"),
        Conv(
            "conv5",
            256,
            3,
            pad=_PAD1 if overlapping else "valid",
            groups=columns,
            init=_CONV45,
        ),
        Pool("pool5", **pool, ceil=True),  # (b, 6, 6, 256)
        Relu("relu5"),
    )
    if normalized:
        return entries
    return tuple(entry for entry in entries if not isinstance(entry, Norm | SpatialNorm))


def _top(fc6_units: int = 4096, columns: int = 1) -> tuple:
    return (
        Flatten(columns=columns),
        Dense("fc6", fc6_units, columns, init=_FC),
        Relu("relu6"),
        Drop("drop6", 0),
        Dense("fc7", 4096, columns, init=_FC),
        Relu("relu7"),
        Drop("drop7", 1),
        Dense("fc8", init=_ENDS),
    )


def _variant(name: str, summary: str, features: tuple, top: tuple) -> Variant:
    return Variant(name, summary, 224, IMAGENET_MEAN, features, top)


ALEXNET_145 = _variant("alexnet_145", "what the authors' program ran (#145)", _features(), _top())

ALEXNET_145_HALF = _variant(
    "alexnet_145_half", "#145 with one of its two columns", _features(columns=1), _top()
)

ALEXNET_145_NO_NORM = _variant(
    "alexnet_145_no_norm", "#145 without normalisation (#148)", _features(normalized=False), _top()
)

ALEXNET_145_POOL2 = _variant(
    "alexnet_145_pool2",
    "#145 with pools that do not overlap (#147)",
    _features(overlapping=False),
    _top(),
)

# The columns are separate networks up to fc8: fc6 has 4096 units per column, fc7 2048.
ALEXNET_145_NO_CROSS = _variant(
    "alexnet_145_no_cross",
    "#145 whose columns meet only in fc8 (#150)",
    _features(conv2_maps=320, conv3_groups=2),
    _top(fc6_units=8192, columns=2),
)

ALEXNET_146 = _variant(
    "alexnet_146",
    "#145 with a sixth convolution, the paper's pre-trained entries",
    (
        *_features(),
        Conv("conv6", 256, 3, pad=_PAD1, init=_CONV45),  # reads both columns
        Relu("relu_conv6"),  # relu6 is fc6's
    ),
    _top(),
)

VARIANTS = (
    ALEXNET_145,
    ALEXNET_145_HALF,
    ALEXNET_145_NO_NORM,
    ALEXNET_145_POOL2,
    ALEXNET_145_NO_CROSS,
    ALEXNET_146,
)
