"""The one builder: a `Variant` and the keywords of `keras.applications` in, a functional model
out."""

import contextlib
import difflib
import inspect
import os
from collections.abc import Iterator
from typing import Any

import keras
import numpy.typing as npt

from alexnet_tf.models import layers, pixel_range
from alexnet_tf.models.spec import INITIALIZERS, Options, Variant

_POOLINGS = (None, "avg", "max")


def preprocessing_layer(
    variant: Variant, mean: npt.ArrayLike | None = None
) -> layers.PixelNormalization:
    """The variant's first layer, around its published mean or around `mean`.

    Args:
      variant: the network.
      mean: None, or the mean of a data set in RGB order, 0..255: c numbers, or (h, w, c) of the
        network's input size.
    """
    return layers.PixelNormalization(
        variant.mean if mean is None else mean,
        variant.scale,
        variant.channel_order,
        name="preprocessing",
    )


@contextlib.contextmanager
def dtype_policy(policy) -> Iterator[None]:
    """Inside, Keras builds layers of this dtype policy; afterwards, of the one before."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def build(
    variant: Variant,
    *,
    include_top: bool = True,
    weights: str | os.PathLike | None = None,
    input_shape: tuple[int | None, int | None, int] | None = None,
    pooling: str | None = None,
    classes: int | None = None,
    classifier_activation: str | None = "softmax",
    include_preprocessing: bool | layers.PixelNormalization = True,
    name: str | None = None,
    initializer: str = "published",
    dropout_seed: int = 0,
    dropout: float | None = None,
    input_tensor: keras.KerasTensor | None = None,
    **unknown: Any,
) -> keras.Model:
    """Builds a variant; `alexnet_tf.models.build_model` documents the keywords."""
    if unknown:
        raise TypeError(_unknown_keyword(variant.name, next(iter(unknown))))
    if weights == "imagenet":
        raise ValueError(
            "weights is 'imagenet': this package ships no trained weights. Give the path of your "
            "own file, or import one: python -m alexnet_tf.import_weights --source=FILE "
            f"--model={variant.name} --output={variant.name}.keras (ONNX, PyTorch, safetensors), "
            f"then weights='{variant.name}.keras'."
        )
    classes = variant.classes if classes is None else classes
    if initializer not in INITIALIZERS:
        raise ValueError(f"initializer is {initializer!r}: expected one of {list(INITIALIZERS)}.")
    if pooling not in _POOLINGS:
        raise ValueError(f"pooling is {pooling!r}: expected None, 'avg' or 'max'.")
    if not isinstance(classes, int) or isinstance(classes, bool) or classes < 1:
        raise ValueError(f"classes is {classes!r}: expected a positive number of classes.")
    options = Options(classes, initializer, dropout_seed, dropout)

    if input_tensor is not None and input_shape is None:
        input_shape = tuple(input_tensor.shape)[1:]
    shape = _input_shape(variant, input_shape, include_top)
    # The pixels stay float32 under a mixed policy: the preprocessing layer rounds, after the mean.
    inputs = x = _input(input_tensor, shape)
    if input_tensor is not None:
        sources = keras.utils.get_source_inputs(x)
        inputs = sources[0] if len(sources) == 1 else sources
    first = _preprocessing(variant, include_preprocessing)
    if first is not None:
        x = first(x)
    for entry in variant.features:
        x = entry.apply(x, options)
    if include_top:
        for entry in variant.top:
            x = entry.apply(x, options)
        activation = keras.activations.get(classifier_activation)
        x = keras.layers.Activation(activation, dtype="float32", name="prob")(x)
    elif pooling == "avg":
        x = keras.layers.GlobalAveragePooling2D(name="avg_pool")(x)
    elif pooling == "max":
        x = keras.layers.GlobalMaxPooling2D(name="max_pool")(x)
    model = keras.Model(inputs, x, name=name or variant.name)
    if weights is not None:
        from alexnet_tf.models import weights as weight_files

        weight_files.load(model, weights)
    return pixel_range.watch(model)


def logits_model(model: keras.Model) -> keras.Model:
    """The same network (the same weights) without the activation of its last layer "prob".

    Raises:
      ValueError: a model without a layer "prob", such as one that was built without its top.
    """
    try:
        prob = model.get_layer("prob")
    except ValueError:
        raise ValueError(
            f"The model {model.name!r} has no layer 'prob': expected a network of alexnet_tf that "
            "was built with include_top=True."
        ) from None
    return keras.Model(model.input, prob.input, name=f"{model.name}_logits")


def _unknown_keyword(variant: str, name: str) -> str:
    known = [*list(inspect.signature(build).parameters)[1:-1]]
    meant = [one for one in known if one in name] or difflib.get_close_matches(name, known, n=1)
    advice = f"did you mean {meant[0]}?" if meant else f"expected one of {', '.join(known)}."
    return f"{variant} has no argument {name!r}: {advice}"


def _input(tensor: keras.KerasTensor | None, shape: tuple[int | None, ...]):
    if tensor is None:
        return keras.Input(shape, dtype="float32", name="input")
    if not keras.utils.is_keras_tensor(tensor):
        return keras.Input(tensor=tensor, name="input")
    if tuple(tensor.shape)[1:] != tuple(shape):
        raise ValueError(
            f"input_tensor has images of {tuple(tensor.shape)[1:]}, and input_shape is {shape}: "
            "leave input_shape out."
        )
    return tensor


def _preprocessing(variant: Variant, include_preprocessing):
    if isinstance(include_preprocessing, layers.PixelNormalization):
        # A copy under the contract's name: a Keras layer must not be part of two models by
        # accident.
        # The metadata of another network does not apply to this one.
        config = {**include_preprocessing.get_config(), "name": "preprocessing", "knowledge": None}
        return layers.PixelNormalization.from_config(config)
    if not isinstance(include_preprocessing, bool):
        raise ValueError(
            f"include_preprocessing is {include_preprocessing!r}: expected True, False or an "
            "alexnet_tf.models.layers.PixelNormalization."
        )
    return preprocessing_layer(variant) if include_preprocessing else None


def _input_shape(variant: Variant, input_shape, include_top):
    if input_shape is None:
        return (variant.crop_size, variant.crop_size, variant.channels)
    shape = tuple(input_shape)
    smallest = variant.smallest_input()
    expected = (
        f"expected (height, width, {variant.channels}) with sides of at least {smallest} pixels"
    )
    if len(shape) != 3 or shape[2] != variant.channels:
        raise ValueError(f"input_shape of {variant.name} is {shape}: {expected}.")
    if include_top and None in shape:
        raise ValueError(
            f"input_shape of {variant.name} is {shape}: {expected}; only include_top=False takes "
            "images of unknown size."
        )
    if any(side is not None and side < smallest for side in shape[:2]):
        raise ValueError(f"input_shape of {variant.name} is {shape}: {expected}.")
    return shape
