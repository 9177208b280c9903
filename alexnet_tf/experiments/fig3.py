"""Figure 3: the first layer's kernels, and whether its two groups share out colour."""

import os

from alexnet_tf.analysis import filters, plots
from alexnet_tf.experiments import networks, published
from alexnet_tf.experiments.findings import Finding, Row, Setting, spread_of
from alexnet_tf.models import catalog, trained


def run(setting: Setting) -> Finding:
    """Draws each seed's kernels; the measure is the gap between the groups' colour selectivity.

    Normalisation across the groups would tie them together, and a random kernel has 2/3 in both.
    """
    workdirs = networks.networks(setting, catalog.find_variant("alexnet_145"))
    found, pictures = {}, []
    for seed, workdir in zip(setting.seeds, workdirs, strict=True):
        kernels = plots.first_kernels(trained.open_model(workdir).model)
        picture = os.path.join("pictures", f"fig3-seed{seed}.png")
        found[seed] = filters.draw_filters(kernels, setting.path(picture), groups=2)
        pictures.append((f"Figure 3, seed {seed}", picture))
    means = {
        seed: [group["mean_colour_selectivity"] for group in numbers["groups"]]
        for seed, numbers in found.items()
    }
    gaps = [max(groups) - min(groups) for groups in means.values()]
    text = "; ".join(
        f"seed {seed}: " + " and ".join(f"{mean:.2f}" for mean in sorted(groups))
        for seed, groups in means.items()
    )
    row = Row(
        published.COLOUR_GROUPS,
        f"mean colour selectivity of the groups {text}",
        setting.data,
        setting.seeds,
        "gap between the groups: " + spread_of(gaps, "", 1),
        "0 is grey, 1 is colour, 0.67 is noise",
    )
    return Finding((row,), {"group_means": list(means.values())}, tuple(pictures))
