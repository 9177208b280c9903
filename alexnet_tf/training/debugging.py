"""Checked numerics, and TensorFlow's profiler."""

import contextlib
import os
from collections.abc import Iterator

import keras
import tensorflow as tf


@contextlib.contextmanager
def numerics_checked() -> Iterator[None]:
    """Inside, the first operation that gives NaN or infinity raises an error that names it.

    Functions traced before and code compiled by XLA are not checked.
    """
    tf.debugging.enable_check_numerics()
    try:
        yield
    finally:
        tf.debugging.disable_check_numerics()


class Profile(keras.callbacks.Callback):
    """Profiles some steps, after the first ones, which trace and compile.

    Args:
      directory: a TensorBoard log directory; the profile goes to its plugins/profile.
      steps: how many steps to profile.
      skip: steps before the first of them.
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
