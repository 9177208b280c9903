"""The eight-layer family as described by the paper, Caffe and torchvision.

`alexnet_2012.py` has the networks that the authors' program ran, which differ from their paper.

Sources. [P] Krizhevsky, Sutskever, Hinton, "ImageNet Classification with Deep Convolutional Neural
Networks", NIPS 2012. [C] BVLC/caffe, models/bvlc_alexnet and models/bvlc_reference_caffenet,
train_val.prototxt. [O] onnx/models, vision/classification/alexnet. [TV] pytorch/vision,
torchvision/models/alexnet.py, after Krizhevsky, arXiv 1404.5997. [S] google-research/tf-slim,
tf_slim/nets/alexnet.py, after the same.
"""

import dataclasses
import os
from typing import Any

import keras

from alexnet_tf.models.builder import build
from alexnet_tf.models.layers import PixelNormalization
from alexnet_tf.models.spec import (
    CAFFE,
    SLIM,
    TORCHVISION,
    Conv,
    Dense,
    Drop,
    Flatten,
    Init,
    Norm,
    Pool,
    Relu,
    SlimInit,
    Variant,
)

# The commonly used RGB mean of ILSVRC-2012's training set (the VGG networks' "mean pixel"). The
# authors subtracted a mean per pixel; training computes it from its data set.
IMAGENET_MEAN = (123.68, 116.779, 103.939)

# 224 pixels give the paper's 55x55 maps only as in the authors' program: the last windows of conv1
# extend 3 pixels past the bottom and right edge, where they read zeros, the mean.
OVERHANG = ((0, 3), (0, 3))
FIRST = LAST = Init(0.01, 0.0, he=False)


def _same(kernel: int) -> tuple:
    border = kernel // 2
    return ((border, border), (border, border))


def _paper_top(bias: float, fc_std: float, scaling: str) -> tuple:
    hidden = Init(fc_std, bias)
    return (
        Flatten(),
        Dense("fc6", 4096, init=hidden),
        Relu("relu6"),
        Drop("drop6", 0, scaling=scaling),
        Dense("fc7", 4096, init=hidden),
        Relu("relu7"),
        Drop("drop7", 1, scaling=scaling),
        Dense("fc8", init=LAST),
    )


def _upper_convolutions(bias: float) -> tuple:
    return (
        Conv("conv3", 384, 3, pad=_same(3), init=Init(0.01, 0.0)),  # (b, 13, 13, 384)
        Relu("relu3"),
        Conv("conv4", 384, 3, pad=_same(3), groups=2, init=Init(0.01, bias)),
        Relu("relu4"),
        Conv("conv5", 256, 3, pad=_same(3), groups=2, init=Init(0.01, bias)),
        Relu("relu5"),
    )


ALEXNET = Variant(
    name="alexnet",
    summary="the paper's text",
    crop_size=224,
    mean=IMAGENET_MEAN,
    features=(
        Conv("conv1", 96, 11, 4, OVERHANG, init=FIRST),  # (b, 55, 55, 96)
        Relu("relu1"),
        Norm("norm1"),
        Pool("pool1"),  # (b, 27, 27, 96)
        Conv("conv2", 256, 5, pad=_same(5), groups=2, init=Init(0.01, 1.0)),
        Relu("relu2"),
        Norm("norm2"),
        Pool("pool2"),  # (b, 13, 13, 256)
        *_upper_convolutions(bias=1.0),
        Pool("pool5"),  # (b, 6, 6, 256)
    ),
    top=_paper_top(bias=1.0, fc_std=0.01, scaling="paper"),
)

_CAFFE_NORM: dict[str, Any] = {"k": 1.0, "convention": "mean"}

ALEXNET_CAFFE = Variant(
    name="alexnet_caffe",
    summary="Caffe's bvlc_alexnet",
    crop_size=227,
    mean=CAFFE.mean,
    channel_order=CAFFE.channel_order,
    features=(
        Conv("conv1", 96, 11, 4, init=FIRST),
        Relu("relu1"),
        Norm("norm1", **_CAFFE_NORM),
        Pool("pool1", ceil=True),
        Conv("conv2", 256, 5, pad=_same(5), groups=2, init=Init(0.01, 0.1)),
        Relu("relu2"),
        Norm("norm2", **_CAFFE_NORM),
        Pool("pool2", ceil=True),
        *_upper_convolutions(bias=0.1),
        Pool("pool5", ceil=True),
    ),
    top=_paper_top(bias=0.1, fc_std=0.005, scaling="inverted"),
)

# The ONNX model zoo's graph has Caffe's weights, but 224 pixels, pools rounded down (maps of 54, 26
# and 12 instead of 55, 27 and 13) and an end pad at the last pool, which restores its 6x6 maps.
ALEXNET_ONNX = dataclasses.replace(
    ALEXNET_CAFFE,
    name="alexnet_onnx",
    summary="the ONNX model zoo's bvlcalexnet",
    crop_size=224,
    features=tuple(
        dataclasses.replace(entry, ceil=entry.name == "pool5") if isinstance(entry, Pool) else entry
        for entry in ALEXNET_CAFFE.features
    ),
)

CAFFENET = Variant(
    name="caffenet",
    summary="Caffe's bvlc_reference_caffenet: pooling before normalisation",
    crop_size=227,
    mean=CAFFE.mean,
    channel_order=CAFFE.channel_order,
    features=(
        Conv("conv1", 96, 11, 4, init=FIRST),
        Relu("relu1"),
        Pool("pool1", ceil=True),
        Norm("norm1", **_CAFFE_NORM),
        Conv("conv2", 256, 5, pad=_same(5), groups=2, init=Init(0.01, 1.0)),
        Relu("relu2"),
        Pool("pool2", ceil=True),
        Norm("norm2", **_CAFFE_NORM),
        *_upper_convolutions(bias=1.0),
        Pool("pool5", ceil=True),
    ),
    top=_paper_top(bias=1.0, fc_std=0.005, scaling="inverted"),
)

_FRAMEWORK = Init(std=None)
_FRAMEWORK_END = Init(std=None, he=False)

ALEXNET_OWT = Variant(
    name="alexnet_owt",
    summary="torchvision's AlexNet: one tower, no normalisation",
    crop_size=224,
    mean=TORCHVISION.mean,
    scale=TORCHVISION.scale,
    features=(
        Conv("conv1", 64, 11, 4, ((2, 2), (2, 2)), init=_FRAMEWORK_END),  # (b, 55, 55, 64)
        Relu("relu1"),
        Pool("pool1"),
        Conv("conv2", 192, 5, pad=_same(5), init=_FRAMEWORK),  # (b, 27, 27, 192)
        Relu("relu2"),
        Pool("pool2"),
        Conv("conv3", 384, 3, pad=_same(3), init=_FRAMEWORK),  # (b, 13, 13, 384)
        Relu("relu3"),
        Conv("conv4", 256, 3, pad=_same(3), init=_FRAMEWORK),
        Relu("relu4"),
        Conv("conv5", 256, 3, pad=_same(3), init=_FRAMEWORK),
        Relu("relu5"),
        Pool("pool5"),  # (b, 6, 6, 256)
    ),
    top=(
        Flatten(),
        Drop("drop6", 0, scaling="inverted"),
        Dense("fc6", 4096, init=_FRAMEWORK),
        Relu("relu6"),
        Drop("drop7", 1, scaling="inverted"),
        Dense("fc7", 4096, init=_FRAMEWORK),
        Relu("relu7"),
        Dense("fc8", init=_FRAMEWORK_END),
    ),
)

ALEXNET_SLIM = Variant(
    name="alexnet_slim",
    summary="TF-Slim's alexnet_v2: one tower, conv1 without padding, conv4 of 384",
    crop_size=224,
    mean=SLIM.mean,
    features=(
        Conv("conv1", 64, 11, 4, init=SlimInit(he=False)),  # (b, 54, 54, 64)
        Relu("relu1"),
        Pool("pool1"),  # (b, 26, 26, 64)
        Conv("conv2", 192, 5, pad=_same(5), init=SlimInit()),
        Relu("relu2"),
        Pool("pool2"),  # (b, 12, 12, 192)
        Conv("conv3", 384, 3, pad=_same(3), init=SlimInit()),
        Relu("relu3"),
        Conv("conv4", 384, 3, pad=_same(3), init=SlimInit()),
        Relu("relu4"),
        Conv("conv5", 256, 3, pad=_same(3), init=SlimInit()),
        Relu("relu5"),
        Pool("pool5"),  # (b, 5, 5, 256)
    ),
    top=(
        Flatten(),
        Dense("fc6", 4096, init=SlimInit(0.005)),
        Relu("relu6"),
        Drop("drop6", 0, scaling="inverted"),
        Dense("fc7", 4096, init=SlimInit(0.005)),
        Relu("relu7"),
        Drop("drop7", 1, scaling="inverted"),
        Dense("fc8", init=SlimInit(0.005, 0.0, he=False)),
    ),
)

VARIANTS = (ALEXNET, ALEXNET_CAFFE, ALEXNET_ONNX, CAFFENET, ALEXNET_OWT, ALEXNET_SLIM)


def AlexNet(
    include_top: bool = True,
    weights: str | os.PathLike | None = None,
    input_shape: tuple[int | None, int | None, int] | None = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    include_preprocessing: bool | PixelNormalization = True,
    name: str = "alexnet",
    **options: Any,
) -> keras.Model:
    """AlexNet as described in its paper: 60,965,224 parameters.

    | layer | kernels          | stride | groups | output, then                    |
    |-------|------------------|--------|--------|---------------------------------|
    | conv1 | 96 of 11x11x3    | 4      | 1      | 55x55x96, LRN, pool to 27x27    |
    | conv2 | 256 of 5x5x48    | 1      | 2      | 27x27x256, LRN, pool to 13x13   |
    | conv3 | 384 of 3x3x256   | 1      | 1      | 13x13x384                       |
    | conv4 | 384 of 3x3x192   | 1      | 2      | 13x13x384                       |
    | conv5 | 256 of 3x3x192   | 1      | 2      | 13x13x256, pool to 6x6          |
    | fc6   | 9216 -> 4096     |        |        | dropout 0.5                     |
    | fc7   | 4096 -> 4096     |        |        | dropout 0.5                     |
    | fc8   | 4096 -> classes  |        |        | softmax                         |

    ReLU after every layer except fc8; LRN with k=2, n=5, alpha=1e-4 (on the plain sum), beta=0.75;
    max pools of 3 with stride 2; weights from N(0, 0.01**2), biases 1 in conv2, conv4, conv5, fc6
    and fc7, else 0; dropout scaled by 0.5 at test time. 224 pixels give 55x55 maps because the last
    windows extend 3 pixels past the bottom and right edge, as in the authors' program.

    Source: Krizhevsky, Sutskever, Hinton, NIPS 2012, sections 3 to 5. The network that their
    program ran is `alexnet_145`. Keywords are those of `alexnet_tf.build_model`.
    """
    return build(ALEXNET, **_keywords(locals()))


def CaffeNet(
    include_top: bool = True,
    weights: str | os.PathLike | None = None,
    input_shape: tuple[int | None, int | None, int] | None = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    include_preprocessing: bool | PixelNormalization = True,
    name: str = "caffenet",
    **options: Any,
) -> keras.Model:
    """Caffe's reference network, bvlc_reference_caffenet: 60,965,224 parameters.

    Differs from `AlexNet`: 227x227 input without padding, BGR; conv, ReLU, pool, LRN
    instead of conv, ReLU, LRN, pool; LRN with k=1 and alpha=1e-4 divided by the window's 5; fc6 and
    fc7 from N(0, 0.005**2); dropout scaled in training. `alexnet_caffe` is Caffe's AlexNet, with
    the paper's order and biases of 0.1.

    Published: 57.4 % top-1 and 80.4 % top-5 accuracy, centre crop, ILSVRC-2012 validation.
    Source: BVLC/caffe, models/bvlc_reference_caffenet. Keywords are those of
    `alexnet_tf.build_model`.
    """
    return build(CAFFENET, **_keywords(locals()))


def AlexNetOWT(
    include_top: bool = True,
    weights: str | os.PathLike | None = None,
    input_shape: tuple[int | None, int | None, int] | None = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    include_preprocessing: bool | PixelNormalization = True,
    name: str = "alexnet_owt",
    **options: Any,
) -> keras.Model:
    """torchvision's AlexNet, the single tower of "One weird trick": 61,100,840 parameters.

    | layer | kernels          | stride, padding | output, then          |
    |-------|------------------|-----------------|-----------------------|
    | conv1 | 64 of 11x11x3    | 4, 2            | 55x55x64, pool to 27  |
    | conv2 | 192 of 5x5x64    | 1, 2            | 27x27x192, pool to 13 |
    | conv3 | 384 of 3x3x192   | 1, 1            | 13x13x384             |
    | conv4 | 256 of 3x3x384   | 1, 1            | 13x13x256             |
    | conv5 | 256 of 3x3x256   | 1, 1            | 13x13x256, pool to 6  |
    | fc6   | dropout, 9216 -> 4096 |            |                       |
    | fc7   | dropout, 4096 -> 4096 |            |                       |
    | fc8   | 4096 -> classes  |                 | softmax               |

    No LRN, no groups, dropout before fc6 and fc7 (so also on pool5's output), PyTorch's default
    initialisation, pixels scaled to unit variance. torchvision's adaptive pool is the identity at
    224 pixels, the only size at which the two networks agree.

    Published: 56.522 % top-1 and 79.066 % top-5 accuracy, centre crop, ILSVRC-2012 validation.
    Source: pytorch/vision, torchvision/models/alexnet.py; Krizhevsky, arXiv 1404.5997. Keywords are
    those of `alexnet_tf.build_model`.
    """
    return build(ALEXNET_OWT, **_keywords(locals()))


def _keywords(given: dict) -> dict:
    return {**{k: v for k, v in given.items() if k != "options"}, **given["options"]}
