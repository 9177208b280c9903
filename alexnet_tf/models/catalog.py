"""All variants by name."""

import keras

from alexnet_tf.models import alexnet, builder, cifarnet, lenet, original
from alexnet_tf.models.spec import Variant

_VARIANTS = {
    variant.name: variant
    for room in (alexnet, original, lenet, cifarnet)
    for variant in room.VARIANTS
}


def list_models() -> list[str]:
    """The names that `build_model` knows."""
    return list(_VARIANTS)


def find_variant(name: str) -> Variant:
    """The description of a variant.

    Raises:
      ValueError: no variant has this name.
    """
    if name not in _VARIANTS:
        raise ValueError(f"There is no model {name!r}: expected one of {', '.join(_VARIANTS)}.")
    return _VARIANTS[name]


def crop_size(variant: str) -> int:
    """The side, in pixels, of the square pictures that the published network takes."""
    return find_variant(variant).crop_size


def preprocessing_layer(variant: str, mean=None):
    """A variant's first layer, around its published mean or around the mean of a data set.

    Args:
      variant: a name of `list_models`.
      mean: None, or c numbers or an array (h, w, c) of the network's input size, RGB, 0..255.

    Returns:
      A `PixelNormalization` for `build_model(variant, include_preprocessing=...)`, with the scale
      and the channel order that the variant's weights expect.
    """
    return builder.preprocessing_layer(find_variant(variant), mean)


def build_model(variant: str, **keywords) -> keras.Model:
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

    Returns:
      A functional `keras.Model`: float32 (b, height, width, channels) in, float32 (b, classes) out
      with the top. Layers have Caffe's names: conv1 norm1 pool1 ... fc6 fc7 fc8, then "prob".

    Raises:
      ValueError: an unknown name or value, said in one sentence.
    """
    return builder.build(find_variant(variant), **keywords)


def load_model(path, compile: bool = False) -> keras.Model:
    """Loads a `.keras` file of this package.

    `keras.models.load_model` does the same once `alexnet_tf.models` is imported; it is imported
    here.

    Raises:
      OSError: no such file. ValueError: not a Keras model.
    """
    return keras.models.load_model(path, compile=compile)
