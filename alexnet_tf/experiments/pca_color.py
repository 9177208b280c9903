"""Training with and without PCA colour noise (section 4.1)."""

from alexnet_tf.experiments import comparison, networks, published
from alexnet_tf.experiments.results import Context, Result
from alexnet_tf.models import catalog


def run(context: Context) -> Result:
    """Trains the authors' network with and without the noise; positive means the noise helps."""
    whole = catalog.find_variant("alexnet_145")
    noisy = networks.networks(context, whole)
    plain = networks.networks(context, whole, colour_noise="none")
    row, differences = comparison.difference(context, published.COLOUR_NOISE, noisy, plain)
    return Result((row,), {"gains": differences})
