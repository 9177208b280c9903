"""The four-layer CIFAR-10 network with and without response normalisation (section 3.3).

At full scale both use cuda-convnet's schedule of 520 epochs, at small scale a shorter one. The
published errors average several views of a test image; cuda-convnet2 uses the nine that start at
0, 4 and 8 pixels in each direction, without mirrors.
"""

import dataclasses
import os

from alexnet_tf.analysis import plots
from alexnet_tf.data import records
from alexnet_tf.experiments import data, networks, published
from alexnet_tf.experiments.results import ClaimRow, Context, Result, percent, spread_of
from alexnet_tf.training import reports
from alexnet_tf.training.recipes import CIFARNET, CIFARNET_NO_NORM

SIZE = 32
VIEWS = (1, 9, 10)
_NETWORKS = ((CIFARNET_NO_NORM, published.CIFAR_NO_NORM), (CIFARNET, published.CIFAR_NORM))
_KEPT = ("count", "top1_error", "top1_error_interval_95")  # of an evaluation
_EXCHANGED = (
    "the two differ in more than the normalisation: without it local3 has 32 maps instead of 64"
)


def run(context: Context) -> Result:
    """Trains both networks for each seed; evaluates with one view and with several."""
    own = dataclasses.replace(context, data_dir=at_32_pixels(context))
    rows, numbers, curves = [], {}, {}
    for published_recipe, claim in _NETWORKS:
        recipe = dataclasses.replace(published_recipe, **context.scale.cifar10_recipe)
        workdirs = [
            networks.trained(own, f"{recipe.model}-seed{seed}", recipe, seed)
            for seed in context.seeds
        ]
        errors = {
            views: [networks.errors(own, [path], views) for path in workdirs] for views in VIEWS
        }
        metrics = [reports.read_metrics(path) for path in workdirs]
        curves |= {
            f"{recipe.model}, seed {seed}": plots.read_curves(path)
            for seed, path in zip(context.seeds, workdirs, strict=True)
        }
        numbers[recipe.model] = {
            "recipe": reports.as_json(dataclasses.asdict(recipe)),
            "errors": {
                f"{views}_views": [{name: one[name] for name in _KEPT} for one in errors[views]]
                for views in VIEWS
            },
            "epochs": metrics,
            "training_seconds": [sum(float(row["seconds"]) for row in rows) for rows in metrics],
        }
        rows.append(_row(context, claim, recipe, errors))
    image = os.path.join("images", "cifar10.png")
    plots.save_curves(context.path(image), curves)
    return Result(tuple(rows), numbers, (("CIFAR-10: test error, one view", image),))


def at_32_pixels(context: Context) -> str:
    """The directory of the context's data at 32 pixels; writes a copy if it has another size."""
    dataset = records.open_dataset(context.data_dir)
    if dataset.format.image_size == SIZE:
        return context.data_dir
    return data.derive(dataset, context.path("data", "pixels32"), image_size=SIZE)


def _row(context: Context, claim, recipe, errors: dict[int, list[dict]]) -> ClaimRow:
    top1 = {views: [one["top1_error"] for one in scored] for views, scored in errors.items()}
    means = {views: sum(values) / len(values) for views, values in top1.items()}
    text = ", ".join(
        f"{percent(means[views])} with {words}"
        for views, words in ((1, "one view"), (9, "nine"), (10, "ten"))
    )
    spread = "nine views: " + spread_of(top1[9])
    if len(context.seeds) == 1:
        low, high = errors[9][0]["top1_error_interval_95"]
        spread = f"one seed; 95 % interval over the images, nine views: {percent(low)} to "
        spread += percent(high)
    note = f"{recipe.epochs} epochs of the published 520; " if recipe.epochs != 520 else ""
    return ClaimRow(
        claim, text, context.data, context.seeds, spread, note + _EXCHANGED, narrowed=False
    )
