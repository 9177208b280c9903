"""Benchmarks of training step, input, training and serving on this machine."""
