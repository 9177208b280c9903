"""All variants by name."""

import os
from typing import Any

import keras
import numpy.typing as npt

from alexnet_tf.models import (
    alexnet,
    alexnet_2012,
    builder,
    cifarnet,
    hub,
    keras_files,
    lenet,
    pixel_range,
)
from alexnet_tf.models.layers import PixelNormalization
from alexnet_tf.models.spec import Variant

_VARIANTS = {
    variant.name: variant
    for module in (alexnet, alexnet_2012, lenet, cifarnet)
    for variant in module.VARIANTS
}


# Variants added by a program; not part of the published list.
_ADDED: dict[str, Variant] = {}


def list_models() -> list[str]:
    """The names of the published variants."""
    return list(_VARIANTS)


def add_variant(variant: Variant) -> None:
    """Registers a user-defined variant by name for `build_model`, recipes and training.

    Args:
      variant: a description, such as `dataclasses.replace(find_variant("alexnet"), name=...)`.

    Raises:
      ValueError: another variant has that name.
    """
    known = {**_VARIANTS, **_ADDED}.setdefault(variant.name, variant)
    if known != variant:
        raise ValueError(
            f"There is another model {variant.name!r} already: give this variant another name."
        )
    if variant.name not in _VARIANTS:
        _ADDED[variant.name] = variant


def find_variant(name: str) -> Variant:
    """The description of a variant.

    Raises:
      ValueError: no variant has this name.
    """
    if name in _ADDED:
        return _ADDED[name]
    if name not in _VARIANTS:
        raise ValueError(f"There is no model {name!r}: expected one of {', '.join(_VARIANTS)}.")
    return _VARIANTS[name]


def crop_size(variant: str, stored: int | None = None) -> int:
    """The side, in pixels, of the square images that the published network takes.

    Args:
      variant: a name of `list_models`.
      stored: the side of the images at hand. LeNet-5 puts smaller ones, such as MNIST's 28
        pixels, on its 32 by itself: then the network is built for the stored size.
    """
    found = find_variant(variant)
    if stored is not None and found.enlarges:
        return min(stored, found.crop_size)
    return found.crop_size


def preprocessing_layer(variant: str, mean: npt.ArrayLike | None = None) -> PixelNormalization:
    """A variant's first layer, around its published mean or around the mean of a data set.

    Args:
      variant: a name of `list_models`.
      mean: None, or c numbers or an array (h, w, c) of the network's input size, RGB, 0..255.

    Returns:
      A `PixelNormalization` for `build_model(variant, include_preprocessing=...)`, with the scale
      and the channel order that the variant's weights expect.
    """
    return builder.preprocessing_layer(find_variant(variant), mean)


def build_model(variant: str, **keywords: Any) -> keras.Model:
    """Builds a network by name.

    Args:
      variant: a name of `list_models`.
      include_top: True for the whole network, False for its maps after the last pool.
      weights: None, or the path of a file with weights: `.keras`, `.weights.h5`, `.onnx`, `.pth`,
        `.safetensors` (see `alexnet_tf.models.weights`).
      input_shape: (height, width, channels); None for the published size. Without the top, height
        and width may be None.
      pooling: without the top, None for the maps, "avg" or "max" for their mean or maximum.
      classes: number of outputs; None for the published number.
      classifier_activation: activation of the last layer, "prob"; None for the logits of fc8.
        Always float32.
      include_preprocessing: True for a first layer that takes RGB pixels of 0..255 and does what
        the published network's authors did to them; a `PixelNormalization` to use instead; False
        for a network that takes what its original takes (Caffe: BGR minus mean; torchvision:
        scaled RGB).
      name: the model's name; None for the variant's.
      initializer: "published" for the weights and biases that the publication begins with; "he" for
        zero biases and kernels from N(0, 2 / fan-in) in all layers but the first and the last,
        which keep the published 0.01: it begins to learn much sooner.
      dropout_seed: int, chooses the stream of dropout masks.
      dropout: the rate of all dropout layers; None for the published ones.
      input_tensor: a Keras tensor (b, height, width, channels), such as the output of other layers,
        to use as the network's input; the model then begins with what that came from.

    Returns:
      A functional `keras.Model`: float32 (b, height, width, channels) in, float32 (b, classes) out
      with the top. Layers have Caffe's names: conv1 norm1 pool1 ... fc6 fc7 fc8, then "prob".

    Raises:
      ValueError: an unknown name or value. TypeError: an unknown keyword.
    """
    return builder.build(find_variant(variant), **keywords)


def load_model(path: str | os.PathLike, compile: bool = False) -> keras.Model:
    """Loads a `.keras` file of this package, without its optimiser unless `compile`.

    `hf://OWNER/NAME` is fetched from the Hugging Face Hub, where Keras' `model.save` put it.

    `keras.models.load_model` does the same once `alexnet_tf.models` is imported, as it is here, but
    does not check the file first, see `keras_files`. An untrusted file cannot run code, read other
    files or take more memory than its length.

    Raises:
      FileNotFoundError: no such file. ValueError: the file is damaged, or no Keras model.
    """
    path = os.fspath(path)
    if hub.is_remote(path):
        path = hub.local_file(path)
    if not os.path.isfile(path):
        raise FileNotFoundError(f"There is no model file {path}: expected a .keras file.")
    try:
        elements = keras_files.require_harmless(path, compile)
        with keras_files.no_more_variables_than(elements):
            return pixel_range.watch(keras.models.load_model(path, compile=compile))
    # What Keras, json and h5py raise on a damaged or hostile file is not documented and changes
    # with their versions; every kind means that the file is not what it should be.
    except Exception as error:
        if isinstance(error, PermissionError):
            raise
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise ValueError(
            f"{path} cannot be read as a Keras model ({reason:.300}): expected a .keras file that "
            "was saved by this package; export or train it again."
        ) from error
