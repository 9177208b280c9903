"""Table 2: one network and the average of five."""

import dataclasses

from alexnet_tf.experiments import networks, published
from alexnet_tf.experiments.results import ClaimRow, Context, Result, not_run, percent, spread_of
from alexnet_tf.models import catalog

MEMBERS = 5
_PRETRAINED = "needs pre-training on ImageNet Fall 2011 (21,841 classes)"


def run(context: Context) -> Result:
    """Trains five networks that differ in their seed; a smoke run trains two."""
    members = MEMBERS if context.scale.measures else 2
    first = context.seeds[0]
    several = dataclasses.replace(context, seeds=tuple(range(first, first + members)))
    workdirs = networks.networks(several, catalog.find_variant("alexnet_145"))
    single = [networks.both(networks.errors(several, [path], 10)) for path in workdirs]
    averaged = networks.errors(several, workdirs, 10)
    low, high = averaged["top1_error_interval_95"]
    rows = (
        ClaimRow(
            published.ONE_NETWORK_2012,
            percent(*networks.mean_errors(several, workdirs, 10)),
            context.data,
            several.seeds,
            "top-1: " + spread_of([top1 for top1, _ in single]),
            f"mean of the {members} networks by themselves",
        ),
        ClaimRow(
            published.FIVE_NETWORKS,
            percent(*networks.both(averaged)),
            context.data,
            several.seeds,
            f"top-1: 95 % interval over the images {percent(low)} to {percent(high)}",
        ),
        not_run(published.ONE_PRETRAINED, _PRETRAINED),
        not_run(published.SEVEN_NETWORKS, _PRETRAINED),
        not_run(published.SIFT_2012, "no network: the published number is for comparison"),
    )
    return Result(rows, {"single": single, "averaged": networks.both(averaged)})
