"""Inspection of trained networks: features, filters, saliency, plots."""
