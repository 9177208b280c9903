"""Figure 3: the first layer's kernels, and whether its two groups specialise in colour."""

import os

from alexnet_tf.analysis import filters, plots
from alexnet_tf.experiments import networks, published
from alexnet_tf.experiments.results import ClaimRow, Context, Result, spread_of
from alexnet_tf.models import catalog, saved_run


def run(context: Context) -> Result:
    """Draws each seed's kernels and measures the difference in colour selectivity between groups.

    Normalisation across the groups would couple them; a random kernel has 2/3 in both.
    """
    workdirs = networks.networks(context, catalog.find_variant("alexnet_145"))
    found, images = {}, []
    for seed, workdir in zip(context.seeds, workdirs, strict=True):
        kernels = plots.first_kernels(saved_run.open_model(workdir).model)
        image = os.path.join("images", f"fig3-seed{seed}.png")
        found[seed] = filters.draw_filters(kernels, context.path(image), groups=2)
        images.append((f"Figure 3, seed {seed}", image))
    means = {
        seed: [group["mean_colour_selectivity"] for group in numbers["groups"]]
        for seed, numbers in found.items()
    }
    gaps = [max(groups) - min(groups) for groups in means.values()]
    text = "; ".join(
        f"seed {seed}: " + " and ".join(f"{mean:.2f}" for mean in sorted(groups))
        for seed, groups in means.items()
    )
    row = ClaimRow(
        published.COLOUR_GROUPS,
        f"mean colour selectivity of the groups {text}",
        context.data,
        context.seeds,
        "gap between the groups: " + spread_of(gaps, "", 1),
        "0 is grey, 1 is colour, 0.67 is noise",
    )
    return Result((row,), {"group_means": list(means.values())}, tuple(images))
