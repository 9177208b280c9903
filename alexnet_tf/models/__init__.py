"""The networks: builders, layers, weights.

Importing this package registers its layers with Keras, so that `keras.models.load_model` reads the
files that these networks save.
"""

from alexnet_tf.models.alexnet import AlexNet, AlexNetOWT, CaffeNet
from alexnet_tf.models.builder import logits_model
from alexnet_tf.models.catalog import (
    build_model,
    crop_size,
    list_models,
    load_model,
    preprocessing_layer,
)
from alexnet_tf.models.cifarnet import CifarNet
from alexnet_tf.models.layers import (
    Dropout,
    GroupedConv2D,
    LocalResponseNormalization,
    PixelNormalization,
)
from alexnet_tf.models.lenet import LeNet5

__all__ = [
    "AlexNet",
    "AlexNetOWT",
    "CaffeNet",
    "CifarNet",
    "Dropout",
    "GroupedConv2D",
    "LeNet5",
    "LocalResponseNormalization",
    "PixelNormalization",
    "build_model",
    "crop_size",
    "list_models",
    "load_model",
    "logits_model",
    "preprocessing_layer",
]
