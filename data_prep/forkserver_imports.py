"""What the process imports that workers are forked from; see `runner.warm_up`."""

import gc
import importlib
import os

from alexnet_tf import quiet
from data_prep import runner

# Both before TensorFlow and NumPy are imported, which read it then. The cores are shared out
# already, a process each: NumPy's matrix products start no threads.
os.environ["OPENBLAS_NUM_THREADS"] = "1"
quiet.quiet_tensorflow()
runner.import_tensorflow()
importlib.import_module("data_prep.writer")
# A worker's collector need not look through what was imported: that takes it a quarter of a second.
gc.freeze()
