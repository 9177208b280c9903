"""Callbacks for a run that is wrong or slow: checked numerics, and TensorFlow's profiler."""

import os

import keras
import tensorflow as tf


class CheckNumerics(keras.callbacks.Callback):
    """Stops at the first operation of a step that gives NaN or infinity, and names it.

    From the first step on and not before: the input pipeline is an XLA program, which cannot be
    checked from inside.
    """

    def on_train_begin(self, logs=None):
        tf.debugging.enable_check_numerics()

    def on_train_end(self, logs=None):
        tf.debugging.disable_check_numerics()


class Profile(keras.callbacks.Callback):
    """Profiles `steps` steps, once, after the first ones, which trace and compile.

    Args:
      directory: a TensorBoard log directory; the profile lands below its plugins/profile.
      steps: how many steps.
      skip: steps before the first that counts.
    """

    def __init__(self, directory: str | os.PathLike, steps: int, skip: int = 5):
        super().__init__()
        if steps < 1:
            raise ValueError(f"steps is {steps}: expected 1 or more to profile.")
        self.directory = os.fspath(directory)
        self.first, self.last = skip, skip + steps
        self.seen = 0
        self.running = False

    def on_train_batch_end(self, batch, logs=None):
        self.seen += 1
        if self.seen == self.first:
            tf.profiler.experimental.start(self.directory)
            self.running = True
        elif self.seen == self.last:
            self._stop()

    def on_train_end(self, logs=None):
        self._stop()

    def _stop(self):
        if self.running:
            tf.profiler.experimental.stop()
        self.running = False
