"""Ablations: the authors' network with one feature changed at a time."""

import dataclasses

from alexnet_tf.experiments import comparison, networks, published
from alexnet_tf.experiments.results import Context, Result, not_run
from alexnet_tf.models import catalog
from alexnet_tf.models.spec import Variant
from alexnet_tf.training.errors import Diverged

# The catalogue's ablations are the authors' layer files; a removed layer is derived from the spec.
_VARIANTS = {
    "alexnet_145_half": published.ONE_COLUMN,
    "alexnet_145_no_norm": published.NO_NORM,
    "alexnet_145_pool2": published.NO_OVERLAP,
    "alexnet_145_no_cross": published.NO_CROSSING,
}
_REMOVED = {"conv4": published.NO_CONV4, "conv5": published.NO_CONV5}
_NOTES = {
    published.NO_CONV4: "the same network as without conv3, if conv4 then reads both halves instead"
}


def whole() -> Variant:
    """The authors' network, from which each ablation differs in one feature."""
    return catalog.find_variant("alexnet_145")


def changed() -> list[tuple[Variant, published.Claim]]:
    """The ablations, each with the published claim about it."""
    named = [(catalog.find_variant(name), claim) for name, claim in _VARIANTS.items()]
    return named + [(networks.without(whole(), layer), claim) for layer, claim in _REMOVED.items()]


def run(context: Context) -> Result:
    """Trains each ablation with the full network's recipe and compares errors seed by seed."""
    context = networks.at_network_size(context)
    baseline = networks.networks(context, whole())
    rows, numbers = [], {}
    for variant, claim in changed():
        try:
            workdirs = networks.networks(context, variant)
        except Diverged as error:  # which says something too; the others go on
            rows.append(not_run(claim, f"a network diverged: {str(error).partition(':')[0]}"))
            continue
        row, numbers[variant.name] = comparison.difference(context, claim, baseline, workdirs)
        rows.append(dataclasses.replace(row, note=_NOTES.get(claim, row.note)))
    return Result(tuple(rows), numbers)
