"""Section 3.2: the network in two halves against one column, and the kernels of each half."""

import os

from alexnet_tf.analysis import filters, plots
from alexnet_tf.experiments import comparison, networks, published
from alexnet_tf.experiments.results import Context, Result
from alexnet_tf.models import catalog, saved_run


def run(context: Context) -> Result:
    """Trains the network of two halves and the one-column network; compares them seed by seed.

    The network of two halves is trained on one device: with --strategy=towers the same seed gives
    the same network, which a test verifies.
    """
    two = networks.networks(context, catalog.find_variant("alexnet_145"))
    one = networks.networks(context, catalog.find_variant("alexnet_145_half"))
    row, differences = comparison.difference(context, published.ONE_COLUMN, two, one)
    kernels, images = {}, []
    for seed, workdir in zip(context.seeds, two, strict=True):
        image = os.path.join("images", f"two_gpus-seed{seed}.png")
        first = plots.first_kernels(saved_run.open_model(workdir).model)
        kernels[seed] = filters.draw_filters(first, context.path(image), groups=2)
        caption = f"First kernels of both halves, one above the other, seed {seed}"
        images.append((caption, image))
    return Result((row,), {"differences": differences, "kernels": kernels}, tuple(images))
