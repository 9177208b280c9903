"""Figure 4: predictions on some images, and nearest neighbours in feature space."""

import os

from alexnet_tf.analysis import features, overview
from alexnet_tf.data import records
from alexnet_tf.experiments import networks, published
from alexnet_tf.experiments.results import ClaimRow, Context, Result, percent, spread_of
from alexnet_tf.models import catalog, saved_run

LAYER = "relu7"  # the 4096 numbers of section 6.1


def run(context: Context) -> Result:
    """Draws both halves of the figure; measures how often nearest neighbours share a class."""
    dataset = records.open_dataset(context.data_dir)
    workdirs = networks.networks(context, catalog.find_variant("alexnet_145"))
    shares, images = [], []
    for seed, workdir in zip(context.seeds, workdirs, strict=True):
        network = saved_run.open_model(workdir)
        page = os.path.join("images", f"fig4-predictions-seed{seed}.png")
        overview.draw_run(workdir, context.data_dir, context.path(page))
        near = os.path.join("images", f"fig4-neighbours-seed{seed}.png")
        found = features.draw_neighbours(
            network, LAYER, dataset, "validation", context.path(near), 6
        )
        shares.append(found["same_class"])
        images += [
            (f"Figure 4, predictions, seed {seed}", page),
            (f"Figure 4, each image and those nearest to it, seed {seed}", near),
        ]
    counts = dataset.counts["validation"]
    row = ClaimRow(
        published.LIKE_PICTURES,
        f"{percent(sum(shares) / len(shares))} of the 6 nearest are of the query's class",
        context.data,
        context.seeds,
        spread_of(shares),
        f"a query per class, among {counts:,} images; chance is {percent(1 / dataset.classes)}",
    )
    return Result((row,), {"same_class": shares}, tuple(images))
