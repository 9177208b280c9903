"""Starting from a trained network: its body, and its last layer where that still fits."""

import dataclasses

import keras
import numpy as np

from alexnet_tf.data.evaluation_data import MOST_CROPS_A_SIDE
from alexnet_tf.data.records import PreparedDataset
from alexnet_tf.models import Dropout, crop_size, preprocessing_layer
from alexnet_tf.models.catalog import find_variant
from alexnet_tf.models.saved_run import TrainedModel, open_model
from alexnet_tf.training.recipes import Recipe
from alexnet_tf.training.step import training_mean


def open_source(recipe: Recipe) -> TrainedModel | None:
    """The network that the recipe starts from, or None when it starts anew.

    Raises:
      FileNotFoundError, ValueError: it is not there, or no network (see `models.trained`).
    """
    recipe.require_complete()
    return open_model(recipe.weights) if recipe.weights else None


def as_network_sees(recipe: Recipe, dataset: PreparedDataset) -> PreparedDataset:
    """The data set with images of any size brought to the recipe's."""
    return dataset.viewed(recipe.image_size, find_variant(recipe.model).channels)


def with_crop_size(
    recipe: Recipe, dataset: PreparedDataset, source: TrainedModel | None = None
) -> Recipe:
    """The recipe with the network's input size as a number.

    Raises:
      ValueError: nobody asked for crops of this size, and they would show next to nothing.
    """
    if recipe.crop_size is not None:
        return recipe
    stored = dataset.format.image_size
    size = source.crop_size if source else crop_size(recipe.model, stored)
    if stored > MOST_CROPS_A_SIDE * size:
        share = (size / stored) ** 2
        better = size if find_variant(recipe.model).enlarges else round(size * 4 / 3)
        raise ValueError(
            f"{recipe.model} takes {size} pixels, and the images of {dataset.path} have {stored}: "
            f"a crop would show {share:.1%} of each. Prepare the data with --image_size={better} "
            "(others' images: give train that flag), or ask for such crops with "
            f"--crop_size={size}."
        )
    return dataclasses.replace(recipe, crop_size=size)


def network_mean(
    recipe: Recipe, dataset: PreparedDataset, source: TrainedModel | None = None
) -> np.ndarray:
    """What the network subtracts. A trained one goes on with its own: its body knows no other.

    Raises:
      ValueError: the source's first layer is not the one of the recipe's variant.
    """
    if source is None:
        return training_mean(recipe, dataset)
    try:
        first = source.model.get_layer("preprocessing")
    except ValueError:
        raise ValueError(
            f"{source.path} has no layer 'preprocessing', so what it subtracts is not known: build "
            "it with include_preprocessing=True, or import it with alexnet_tf.import_weights."
        ) from None
    expected = preprocessing_layer(recipe.model, first.mean)
    same_scale = np.array_equal(np.broadcast_to(first.scale, expected.scale.shape), expected.scale)
    if not same_scale or first.channel_order != expected.channel_order:
        raise ValueError(
            f"{source.path} takes pixels times {first.scale.tolist()} in {first.channel_order}, "
            f"but {recipe.model} takes them times {expected.scale.tolist()} in "
            f"{expected.channel_order}: use the --model that it was trained as."
        )
    return first.mean


def prepare_body(model: keras.Model, recipe: Recipe) -> list[str]:
    """Freezes the layers before the last, or names them where they only learn more slowly.

    Call it before the optimiser is built.

    Returns:
      Names for `make_optimizer(slow=)`; empty when they are frozen or learn at the full rate.

    Raises:
      ValueError: nothing is left to train.
    """
    last = last_layer(model)
    body = [layer for layer in model.layers if layer.trainable_variables and layer is not last]
    if recipe.body_learning_rate == 1:
        return []
    if recipe.body_learning_rate > 0:
        return [layer.name for layer in body]
    for layer in body:
        layer.trainable = False
    if not model.trainable_variables:
        raise ValueError(
            f"With body_learning_rate 0 nothing of {recipe.model} is left to train, because its "
            f"last layer {last.name!r} has no weights that learn: use more than 0."
        )
    return []


def take_weights(model: keras.Model, source: TrainedModel, class_names: tuple[str, ...]) -> str:
    """Copies a trained network's weights into `model`, layer by layer of the same name.

    The last layer stays as it is when the source tells apart other classes than `class_names`.
    Where the two drop out at other rates, or scale at another time, the kernels behind make up for
    it: at test the network is the function that the source is.

    Returns:
      A sentence that says what was taken.

    Raises:
      ValueError: a layer is missing in the source, or has another shape there.
    """
    same_count = source.classes == model.output_shape[-1]
    fits = same_count and source.class_names in (None, tuple(class_names))
    last = last_layer(model)
    taken = [layer for layer in model.layers if layer.weights and (fits or layer is not last)]
    theirs = {layer.name: layer for layer in source.model.layers}
    for layer in taken:
        wanted = [tuple(weight.shape) for weight in layer.weights]
        found = [tuple(weight.shape) for weight in getattr(theirs.get(layer.name), "weights", ())]
        if wanted != found:
            raise ValueError(
                f"{source.path} (network {source.model.name!r}) has weights {found} in layer "
                f"{layer.name!r}, but {model.name!r} at {model.input_shape[1]} pixels needs "
                f"{wanted}: use the --model and --crop_size that it was trained with."
            )
    old, new = _scales_at_test(source.model), _scales_at_test(model)
    rescaled = []
    for layer in taken:
        factor = old[layer.name] / new[layer.name]
        values = theirs[layer.name].get_weights()
        if factor != 1.0:
            rescaled.append(f"{layer.name} by {factor:.4g}")
            values = [
                value if weight.path.endswith("bias") else value * np.float32(factor)
                for weight, value in zip(layer.weights, values, strict=True)
            ]
        layer.set_weights(values)
    scaled = ""
    if rescaled:
        scaled = f" Kernels behind another dropout were multiplied: {', '.join(rescaled)}."
    if fits:
        return f"All weights are those of {source.path}.{scaled}"
    return (
        f"The weights are those of {source.path}, but for a new last layer {last.name!r}: "
        f"{source.classes} classes there, {len(class_names)} here.{scaled}"
    )


def _scales_at_test(model: keras.Model) -> dict[str, float]:
    """For each layer with weights, by what the dropouts before it multiply its input at test.

    ReLU, pools and whatever else is between them hand a positive factor on. The paper's dropout
    multiplies by 1 - rate; all others by 1.
    """
    found: dict[str, float] = {}
    behind: dict[str, float] = {}
    for layer in model.layers:
        before = [tensor._keras_history.operation for tensor in keras.tree.flatten(layer.input)]
        scale = min((behind[parent.name] for parent in before if parent is not layer), default=1.0)
        if layer.weights:
            found[layer.name], scale = scale, 1.0
        elif isinstance(layer, Dropout) and layer.scaling == "paper":
            scale *= 1.0 - layer.rate
        behind[layer.name] = scale
    return found


def last_layer(model: keras.Model) -> keras.layers.Layer:
    """The layer that gives the logits: the one before "prob"."""
    return model.get_layer("prob").input._keras_history.operation
