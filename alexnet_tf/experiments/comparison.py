"""Errors of two kinds of network, seed by seed."""

from alexnet_tf.experiments import networks
from alexnet_tf.experiments.published import Claim
from alexnet_tf.experiments.results import ClaimRow, Context, points, spread_of


def difference(
    context: Context, claim: Claim, baseline: list[str], changed: list[str], crops: int = 10
) -> tuple[ClaimRow, list[tuple[float, float]]]:
    """A row that says how much higher the errors of `changed` are than those of `baseline`.

    Args:
      setting: data and seeds.
      claim: what was published.
      baseline, changed: workdirs of trained networks, one for each seed in the same order.
      crops: 1 or 10.

    Returns:
      (row, [(top-1, top-5) difference for each seed, as fractions]).
    """
    differences = []
    for before, after in zip(baseline, changed, strict=True):
        one = networks.both(networks.errors(context, [before], crops))
        other = networks.both(networks.errors(context, [after], crops))
        differences.append((other[0] - one[0], other[1] - one[1]))
    mean = [sum(column) / len(differences) for column in zip(*differences, strict=True)]
    spread = "top-1: " + spread_of([top1 for top1, _ in differences])
    return ClaimRow(claim, points(*mean), context.data, context.seeds, spread), differences
