"""Measures step, input, training and serving on this machine."""
