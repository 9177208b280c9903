"""What every run starts from: data, sizes, mean, network, optimiser, and the source's weights."""

import dataclasses
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf.data.augmentation import Augmentation
from alexnet_tf.data.evaluation_data import MOST_CROPS_A_SIDE
from alexnet_tf.data.pipeline import Schedule, steps_per_epoch, training_inputs
from alexnet_tf.data.preprocessing import ColourNoise, central_crop
from alexnet_tf.data.records import PreparedDataset, open_dataset
from alexnet_tf.models import Dropout, build_model, crop_size, preprocessing_layer
from alexnet_tf.models.builder import dtype_policy
from alexnet_tf.models.catalog import find_variant
from alexnet_tf.models.saved_run import TrainedModel, open_model
from alexnet_tf.training import class_weights, distribution
from alexnet_tf.training.optimizers import SharedLossScale
from alexnet_tf.training.recipes import Recipe
from alexnet_tf.training.run import Run
from alexnet_tf.training.schedules import make_optimizer
from alexnet_tf.training.step import Steps


@dataclasses.dataclass(frozen=True)
class Setup:
    """A run, ready to train.

    Attributes:
      run: its recipe has the crop size as a number.
      strategy: of the run.
      dataset: as the network sees it.
      source: the trained network that the run starts from, or None.
      class_weights: float32 (classes,), or None.
      augmentation: what training does to an image; `augment` is its function, compiled or not.
      steps_per_epoch: global batches.
      model, optimizer: freshly initialised, built in the strategy's scope.
      jit_compile: whether XLA compiles the step.
      steps: the strategy's training steps.
    """

    run: Run
    strategy: tf.distribute.Strategy
    dataset: PreparedDataset
    source: TrainedModel | None
    class_weights: np.ndarray | None
    augmentation: Augmentation
    augment: Callable
    steps_per_epoch: int
    model: keras.Model
    optimizer: keras.optimizers.Optimizer
    jit_compile: bool
    steps: Steps

    def first_images(self, count: int) -> tf.Tensor:
        """Up to `count` augmented images, float32 0..255, to look at."""
        size = min(count, self.run.recipe.batch_size)
        schedule = Schedule(size, epochs=1, seed=self.run.seed, shuffle_buffer=size)
        batches = training_inputs(self.dataset, self.augmentation, schedule)
        images, _, draws = next(iter(batches))
        return self.augment(images, draws)


def prepare(run: Run, strategy: tf.distribute.Strategy, verbose: bool) -> Setup:
    """Opens a run's data and source, and builds what it trains.

    Args:
      run: from the user.
      strategy: see `distribution.make_strategy`.
      verbose: print a table of the classes on standard error.

    Raises:
      ValueError, OSError: recipe, data set, source and strategy do not fit together.
    """
    dataset = open_dataset(run.data_dir, run.first_label)
    dataset = dataset.viewed(run.recipe.image_size, find_variant(run.recipe.model).channels)
    source = open_source(run.recipe)
    recipe = with_crop_size(run.recipe, dataset, source)
    distribution.require_trainable(strategy, recipe, run.jit_compile)
    steps = steps_per_epoch(dataset, recipe.batch_size)
    weights = class_weights.of_run(recipe, dataset, verbose)
    mean = network_mean(recipe, dataset, source)
    augmentation = make_augmentation(recipe, dataset, mean)
    # XLA's output cannot be checked from inside.
    augment = augmentation.apply if run.debug_numerics else augmentation.compiled
    shape = (dataset.classes, dataset.format.channels)
    model, optimizer = build(strategy, recipe, shape, mean, run.seed, steps)
    jit_compile = not run.debug_numerics and distribution.compiles(
        strategy, run.jit_compile, recipe.epochs * steps * recipe.batch_size
    )
    return Setup(
        run=dataclasses.replace(run, recipe=recipe),
        strategy=strategy,
        dataset=dataset,
        source=source,
        class_weights=weights,
        augmentation=augmentation,
        augment=augment,
        steps_per_epoch=steps,
        model=model,
        optimizer=optimizer,
        jit_compile=jit_compile,
        steps=distribution.make_steps(
            strategy, recipe, model, optimizer, augment, jit_compile, weights
        ),
    )


def build(
    strategy: tf.distribute.Strategy,
    recipe: Recipe,
    shape: tuple[int, int],
    mean: np.ndarray,
    seed: int = 0,
    steps_per_epoch: int = 1,
) -> tuple[keras.Model, keras.optimizers.Optimizer]:
    """The recipe's network for `shape`, (classes, channels), and its optimiser, built."""
    with strategy.scope():
        model = make_network(recipe, *shape, mean, seed)
        slow = prepare_body(model, recipe)
        optimizer = make_optimizer(recipe, steps_per_epoch, slow, model)
        if recipe.precision == "mixed_float16":
            optimizer = SharedLossScale(optimizer)
        # Built now: restoring needs the velocities to exist.
        optimizer.build(model.trainable_variables)
    return model, optimizer


def open_source(recipe: Recipe) -> TrainedModel | None:
    """The network that the recipe starts from, or None.

    Raises:
      FileNotFoundError, ValueError: see `models.saved_run.open_model`.
    """
    recipe.require_complete()
    return open_model(recipe.weights) if recipe.weights else None


def input_size(recipe: Recipe) -> int:
    """Height and width of the network's input, in pixels."""
    return recipe.crop_size or crop_size(recipe.model)


def with_crop_size(
    recipe: Recipe, dataset: PreparedDataset, source: TrainedModel | None = None
) -> Recipe:
    """The recipe with the network's input size as a number.

    Raises:
      ValueError: the images are so much larger that a default crop would show little of them.
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
            "(for others' images: give train that flag), or ask for such crops with "
            f"--crop_size={size}."
        )
    return dataclasses.replace(recipe, crop_size=size)


def training_mean(recipe: Recipe, dataset: PreparedDataset) -> np.ndarray:
    """The recipe's mean: float32 (channels,), or (crop, crop, channels) with mean="image".

    The original program subtracts the central window of the mean image from every crop, wherever
    the crop was taken (convdata_jpeg.py).
    """
    if recipe.mean == "published":
        return np.asarray(find_variant(recipe.model).mean, np.float32)
    statistics = dataset.statistics()
    if recipe.mean == "rgb":
        return np.asarray(statistics["rgb_mean"], np.float32)
    mean_image = tf.constant(statistics["mean_image"], tf.float32)
    return central_crop(mean_image, input_size(recipe)).numpy()


def network_mean(
    recipe: Recipe, dataset: PreparedDataset, source: TrainedModel | None = None
) -> np.ndarray:
    """The mean that the network subtracts: the source's own where there is one.

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


def make_augmentation(recipe: Recipe, dataset: PreparedDataset, mean: np.ndarray) -> Augmentation:
    """The recipe's augmentation, with the data set's colour noise around the network's mean."""
    noise = None
    if recipe.colour_noise != "none":
        noise = ColourNoise.from_statistics(dataset.statistics(), recipe.colour_noise, mean)
    return Augmentation(
        crop_size=input_size(recipe),
        border=recipe.border,
        mirror=recipe.mirror,
        crop_group=recipe.crop_group,
        noise=noise,
        noise_epochs=recipe.colour_noise_epochs,
    )


def make_network(
    recipe: Recipe, classes: int, channels: int, mean: np.ndarray, seed: int
) -> keras.Model:
    """The recipe's network, freshly initialised, around the given mean.

    Call it inside the strategy's scope. The same seed gives the same weights under any strategy.
    """
    keras.utils.set_random_seed(seed)
    size = input_size(recipe)
    with dtype_policy(recipe.precision):
        return build_model(
            recipe.model,
            classes=classes,
            input_shape=(size, size, channels),
            include_preprocessing=preprocessing_layer(recipe.model, mean),
            initializer=recipe.initializer,
            dropout_seed=seed,
            dropout=recipe.dropout,
        )


def prepare_body(model: keras.Model, recipe: Recipe) -> list[str]:
    """Freezes all layers but the last if their rate is 0. Call before building the optimiser.

    Returns:
      Layer names for `make_optimizer(slow=)`, where the body learns at a lower rate; else empty.

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
            f"last layer {last.name!r} has no trainable weights: use more than 0."
        )
    return []


def take_weights(model: keras.Model, source: TrainedModel, class_names: tuple[str, ...]) -> str:
    """Copies a trained network's weights into `model`, by layer name.

    The last layer keeps its own when the source has other classes than `class_names`. Kernels are
    rescaled where the two networks' dropout scales differently, so that inference is unchanged.

    Returns:
      A sentence that says what was copied.

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
        scaled = f" Kernels after another dropout were multiplied: {', '.join(rescaled)}."
    if fits:
        return f"All weights are those of {source.path}.{scaled}"
    return (
        f"The weights are those of {source.path}, except for a new last layer {last.name!r}: "
        f"{source.classes} classes there, {len(class_names)} here.{scaled}"
    )


def _scales_at_test(model: keras.Model) -> dict[str, float]:
    """For each layer with weights, the factor of the dropouts before it at inference.

    The paper's dropout multiplies by 1 - rate, all others by 1. The layers between (ReLU, pooling)
    are positively homogeneous, so they pass the factor on.
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
