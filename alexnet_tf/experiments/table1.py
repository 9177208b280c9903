"""Table 1: one network with ten crops and with one."""

from alexnet_tf.experiments import networks, published, verdict
from alexnet_tf.experiments.results import ClaimRow, Context, Result, not_run, percent, spread_of
from alexnet_tf.models import catalog

_OTHERS = "no network: the published number is for comparison"


def run(context: Context) -> Result:
    """Trains the authors' network for each seed and evaluates it with ten crops and with one."""
    workdirs = networks.networks(context, catalog.find_variant("alexnet_145"))
    rows, numbers = [], {}
    for crops, claim in ((10, published.ONE_NETWORK_2010), (1, published.ONE_CROP_2010)):
        pairs = [networks.both(networks.errors(context, [path], crops)) for path in workdirs]
        numbers[f"{crops}_crops"] = pairs
        rows.append(
            ClaimRow(
                claim,
                percent(*networks.mean_errors(context, workdirs, crops)),
                context.data,
                context.seeds,
                "top-1: " + spread_of([top1 for top1, _ in pairs]),
            )
        )
    for workdir in workdirs:
        scores = {crops: networks.errors(context, [workdir], crops) for crops in (1, 10)}
        print(f"Written: {verdict.write(context, workdir, scores)}", flush=True)
    rows += [not_run(claim, _OTHERS) for claim in (published.SPARSE_CODING, published.SIFT)]
    return Result(tuple(rows), numbers)
