"""Colour noise along the principal components of RGB, and none (section 4.1)."""

from alexnet_tf.experiments import comparison, networks, published
from alexnet_tf.experiments.findings import Finding, Setting
from alexnet_tf.models import catalog


def run(setting: Setting) -> Finding:
    """Trains the authors' network with the noise and without; positive: the noise helps."""
    whole = catalog.find_variant("alexnet_145")
    noisy = networks.networks(setting, whole)
    plain = networks.networks(setting, whole, colour_noise="none")
    row, differences = comparison.difference(setting, published.COLOUR_NOISE, noisy, plain)
    return Finding((row,), {"gains": differences})
