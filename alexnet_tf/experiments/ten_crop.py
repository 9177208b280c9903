"""The gain from averaging over ten crops (section 4.1)."""

from alexnet_tf.experiments import networks, published
from alexnet_tf.experiments.results import ClaimRow, Context, Result, points, spread_of
from alexnet_tf.models import catalog


def run(context: Context) -> Result:
    """Evaluates the same networks with one crop and with ten."""
    workdirs = networks.networks(context, catalog.find_variant("alexnet_145"))
    gains = []
    for path in workdirs:
        one, ten = (networks.both(networks.errors(context, [path], crops)) for crops in (1, 10))
        gains.append((one[0] - ten[0], one[1] - ten[1]))
    mean = [sum(column) / len(gains) for column in zip(*gains, strict=True)]
    row = ClaimRow(
        published.TEN_CROP_GAIN,
        points(*mean),
        context.data,
        context.seeds,
        "top-1: " + spread_of([top1 for top1, _ in gains]),
    )
    return Result((row,), {"gains": gains})
