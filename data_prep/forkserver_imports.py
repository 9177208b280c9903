"""Imports of the fork server that starts the workers; see `runner.warm_up`."""

import gc
import importlib
import os

from alexnet_tf import quiet
from data_prep import runner

# Before NumPy and TensorFlow read them on import. One process per core already: no threads.
os.environ["OPENBLAS_NUM_THREADS"] = "1"
quiet.quiet_tensorflow()
runner.import_tensorflow()
importlib.import_module("data_prep.writer")
# Keep imports out of the workers' GC: a full pass costs 0.25 s.
gc.freeze()
