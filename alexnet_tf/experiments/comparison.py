"""Compares the errors of two kinds of network seed by seed."""

import statistics
from collections.abc import Sequence

from alexnet_tf.experiments import networks
from alexnet_tf.experiments.published import Claim
from alexnet_tf.experiments.results import ClaimRow, Context, points, spread_of

# 97.5 % quantiles of Student's distribution with 1 to 9 degrees of freedom.
_STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


def difference(
    context: Context, claim: Claim, baseline: list[str], changed: list[str], crops: int = 10
) -> tuple[ClaimRow, list[tuple[float, float]]]:
    """Reports how much higher the errors of `changed` are than those of `baseline`.

    Args:
      context: data and seeds.
      claim: the published claim.
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
    top1 = [first for first, _ in differences]
    spread = "top-1: " + spread_of(top1) + verdict(top1)
    return ClaimRow(claim, points(*mean), context.data, context.seeds, spread), differences


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Student's two-sided 95 % confidence interval of the mean of at least two values."""
    mean, count = statistics.fmean(values), len(values)
    # For more than ten values the interval is slightly too wide.
    quantile = _STUDENT[min(count - 1, len(_STUDENT)) - 1]
    half = quantile * statistics.stdev(values) / count**0.5
    return mean - half, mean + half


def verdict(differences: Sequence[float]) -> str:
    """The confidence interval of the mean in words, and whether it includes zero."""
    if len(differences) < 2:
        return ""
    low, high = interval(differences)
    within = "; within noise" if low <= 0 <= high else ""
    return f"; 95 % interval of the mean {points(low)} to {points(high)}{within}"
