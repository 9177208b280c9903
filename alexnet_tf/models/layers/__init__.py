"""Layers that Keras lacks, or has in a form that is too slow or not reproducible.

Importing this package registers the layers with Keras, so that saved models with them load.
"""

from alexnet_tf.models.layers.dropout import Dropout, calls, count_call, drawn_for
from alexnet_tf.models.layers.grouped import GroupedConv2D, GroupedDense
from alexnet_tf.models.layers.pixels import PixelNormalization
from alexnet_tf.models.layers.pooling import CeilMaxPooling2D, MaxPooling2D
from alexnet_tf.models.layers.response_norm import (
    LocalResponseNormalization,
    SpatialResponseNormalization,
)

__all__ = [
    "CeilMaxPooling2D",
    "Dropout",
    "GroupedConv2D",
    "GroupedDense",
    "LocalResponseNormalization",
    "MaxPooling2D",
    "PixelNormalization",
    "SpatialResponseNormalization",
    "calls",
    "count_call",
    "drawn_for",
]
