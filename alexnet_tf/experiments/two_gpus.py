"""Section 3.2: the network in two halves against one column, and what each half's kernels show."""

import os

from alexnet_tf.analysis import filters, plots
from alexnet_tf.experiments import comparison, networks, published
from alexnet_tf.experiments.findings import Finding, Setting
from alexnet_tf.models import catalog, trained


def run(setting: Setting) -> Finding:
    """Trains the network of two halves and the one-column network, and compares seed by seed.

    The network of two halves is trained in one piece: under --strategy=towers the same seed gives
    the same network, which a test holds.
    """
    two = networks.networks(setting, catalog.find_variant("alexnet_145"))
    one = networks.networks(setting, catalog.find_variant("alexnet_145_half"))
    row, differences = comparison.difference(setting, published.ONE_COLUMN, two, one)
    kernels, pictures = {}, []
    for seed, workdir in zip(setting.seeds, two, strict=True):
        picture = os.path.join("pictures", f"two_gpus-seed{seed}.png")
        first = plots.first_kernels(trained.open_model(workdir).model)
        kernels[seed] = filters.draw_filters(first, setting.path(picture), groups=2)
        caption = f"First kernels of both halves, one above the other, seed {seed}"
        pictures.append((caption, picture))
    return Finding((row,), {"differences": differences, "kernels": kernels}, tuple(pictures))
