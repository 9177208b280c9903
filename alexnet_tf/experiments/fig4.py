"""Figure 4: what the network says about some pictures, and which pictures it finds alike."""

import os

from alexnet_tf.analysis import features, overview
from alexnet_tf.data import records
from alexnet_tf.experiments import networks, published
from alexnet_tf.experiments.findings import Finding, Row, Setting, percent, spread_of
from alexnet_tf.models import catalog, trained

LAYER = "relu7"  # the 4096 numbers of section 6.1


def run(setting: Setting) -> Finding:
    """Draws both halves of the figure; the measure is how often near pictures share a class."""
    dataset = records.open_dataset(setting.data_dir)
    workdirs = networks.networks(setting, catalog.find_variant("alexnet_145"))
    shares, pictures = [], []
    for seed, workdir in zip(setting.seeds, workdirs, strict=True):
        network = trained.open_model(workdir)
        page = os.path.join("pictures", f"fig4-predictions-seed{seed}.png")
        overview.draw_run(workdir, setting.data_dir, setting.path(page))
        near = os.path.join("pictures", f"fig4-neighbours-seed{seed}.png")
        found = features.draw_neighbours(
            network, LAYER, dataset, "validation", setting.path(near), 6
        )
        shares.append(found["same_class"])
        pictures += [
            (f"Figure 4, predictions, seed {seed}", page),
            (f"Figure 4, each picture and those nearest to it, seed {seed}", near),
        ]
    counts = dataset.counts["validation"]
    row = Row(
        published.LIKE_PICTURES,
        f"{percent(sum(shares) / len(shares))} of the 6 nearest are of the query's class",
        setting.data,
        setting.seeds,
        spread_of(shares),
        f"a query per class, among {counts:,} pictures; chance is {percent(1 / dataset.classes)}",
    )
    return Finding((row,), {"same_class": shares}, tuple(pictures))
