"""The experiments' networks: derived variants, each trained and evaluated once."""

import dataclasses
import gc
import os
import shutil
from collections.abc import Sequence

from alexnet_tf import evaluation
from alexnet_tf.data import records
from alexnet_tf.experiments import data, milestones
from alexnet_tf.experiments.results import Context
from alexnet_tf.models import catalog, crop_size, spec
from alexnet_tf.training import loop, recipes

# Pixels. CROP is the smallest input that every ablation accepts: pools of 2 by 2 need most.
ENLARGED, CROP = 80, 72


def without(variant: spec.Variant, layer: str) -> spec.Variant:
    """The variant without a convolution and its ReLU ("conv3": conv3 and relu3).

    If that convolution is the one that reads all columns, the next one does so instead:
    otherwise the columns would also be joined later, and two changes would be measured at once.

    Raises:
      ValueError: the variant has no such layer.
    """
    gone = {layer, layer.replace("conv", "relu")}
    features = [entry for entry in variant.features if entry.name not in gone]
    if len(variant.features) - len(features) != 2:
        have = ", ".join(e.name for e in variant.features if isinstance(e, spec.Conv))
        raise ValueError(f"{variant.name} has no layer {layer!r} to remove: it has {have}.")
    removed = next(entry for entry in variant.features if entry.name == layer)
    if removed.groups == 1:
        behind = [entry.name for entry in variant.features].index(layer)
        later = range(behind, len(features))
        reader = next(i for i in later if isinstance(features[i], spec.Conv))
        features[reader] = dataclasses.replace(features[reader], groups=1)
    return dataclasses.replace(
        variant,
        name=f"{variant.name}_no_{layer}",
        summary=f"{variant.summary}, without {layer}",
        features=tuple(features),
    )


def narrowed(variant: spec.Variant, divisor: int) -> spec.Variant:
    """The variant with each layer's maps and units divided by `divisor`; classes are unchanged."""
    if divisor == 1:
        return variant

    def narrow(entry):
        if isinstance(entry, spec.Conv):
            return dataclasses.replace(entry, filters=_share(entry.filters, divisor, entry.groups))
        if isinstance(entry, spec.Dense) and entry.units is not None:
            return dataclasses.replace(entry, units=_share(entry.units, divisor, entry.columns))
        return entry

    return dataclasses.replace(
        variant,
        name=f"{variant.name}_narrow{divisor}",
        summary=f"{variant.summary}, maps and units divided by {divisor}",
        features=tuple(narrow(entry) for entry in variant.features),
        top=tuple(narrow(entry) for entry in variant.top),
    )


def _share(count: int, divisor: int, groups: int) -> int:
    # At least two per group: columns that read each other's maps are split again further up.
    step = 2 * groups
    return max(step, count // divisor // step * step)


def at_network_size(context: Context) -> Context:
    """The context, with images large enough for AlexNet's crop.

    Images smaller than the network's crop are enlarged to ENLARGED pixels, and the network takes
    crops of CROP pixels, at a tenth of the computation.
    """
    dataset = records.open_dataset(context.data_dir)
    if dataset.format.image_size >= crop_size("alexnet_145"):
        return context
    enlarged = data.derive(dataset, context.path("data", "enlarged"), image_size=ENLARGED)
    scale = context.scale
    fields = {"crop_size": CROP, "colour_noise": "none", **scale.enlarged_recipe}
    scale = dataclasses.replace(scale, recipe={**scale.recipe, **fields})
    text = f"{context.data}, enlarged to {ENLARGED} pixels"
    return dataclasses.replace(context, data_dir=enlarged, data=text, scale=scale)


def recipe(context: Context, variant: spec.Variant, **changes) -> recipes.Recipe:
    """The authors' recipe at the context's scale, with an experiment's changes."""
    fields = {**context.scale.recipe, "model": variant.name, **changes}
    return dataclasses.replace(recipes.SOURCE_145, **fields)


def network(context: Context, variant: spec.Variant, seed: int, **changes) -> str:
    """Trains a network at the context's scale unless it exists already; returns its workdir.

    Args:
      context: data, scale, workdir.
      variant: the published network; the scale may narrow it.
      seed: seed of weights, order, crops and dropout.
      **changes: recipe fields that differ from the authors'.
    """
    variant = narrowed(variant, context.scale.narrowing)
    tag = "".join(f"-{name}-{value}" for name, value in sorted(changes.items()))
    catalog.add_variant(variant)
    name = f"{variant.name}{tag}-seed{seed}"
    own = recipe(context, variant, **changes)
    classes = records.open_dataset(context.data_dir).classes
    callbacks = [milestones.Compare(classes, context.planned_seconds(variant.name))]
    return trained(context, name, own, seed, callbacks if context.scale.measures else ())


def trained(
    context: Context, name: str, recipe: recipes.Recipe, seed: int, callbacks: Sequence = ()
) -> str:
    """Trains with a recipe unless a network of this name exists; returns its workdir."""
    workdir = context.path("networks", name)
    done = [os.path.join(workdir, name) for name in ("model.keras", "results.json")]
    if not all(os.path.exists(path) for path in done):
        run = loop.Run(recipe=recipe, data_dir=context.data_dir, workdir=workdir, seed=seed)
        loop.train(run, callbacks=callbacks)
        # A network and its graphs form a cycle: without this, the next one's memory adds to it.
        gc.collect()
    # The network is finished: its checkpoints take three times its size and are no longer needed.
    shutil.rmtree(os.path.join(workdir, "checkpoints"), ignore_errors=True)
    return workdir


def errors(context: Context, workdirs: list[str], crops: int) -> dict:
    """`evaluation.evaluate` on the validation split for one or several networks; cached."""
    names = "+".join(os.path.basename(path) for path in workdirs)
    view = evaluation.EvaluationSettings("validation", crops, min(128, 16 * crops))
    return context.remembered(
        f"errors-{crops}-crops-{names}",
        lambda: evaluation.evaluate(workdirs, context.data_dir, view),
    )


def both(scored: dict) -> tuple[float, float]:
    """(top-1, top-5) error of a result of `errors`, as fractions."""
    return scored["top1_error"], scored["top5_error"]


def mean_errors(context: Context, workdirs: list[str], crops: int) -> tuple[float, float]:
    """(top-1, top-5) error of single networks, averaged over the networks."""
    pairs = [both(errors(context, [path], crops)) for path in workdirs]
    return tuple(sum(column) / len(pairs) for column in zip(*pairs, strict=True))


def networks(context: Context, variant: spec.Variant, **changes) -> list[str]:
    """Workdirs of one trained network for each of the context's seeds."""
    return [network(context, variant, seed, **changes) for seed in context.seeds]
