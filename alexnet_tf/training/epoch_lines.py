"""A line per epoch: the errors in training and validation."""

import sys

import keras

from alexnet_tf.progress import tqdm


class EpochLines(keras.callbacks.Callback):
    """Prints a line at the end of each epoch, above the progress bar.

    Args:
      epochs: of the whole run.
    """

    def __init__(self, epochs: int):
        super().__init__()
        self.epochs = epochs

    def on_epoch_end(self, epoch, logs=None):
        tqdm.write(line(epoch + 1, self.epochs, logs or {}), file=sys.stderr)


def line(epoch: int, epochs: int, row: dict) -> str:
    """A row of metrics in words; errors are fractions in it, and epochs count from 1."""
    text = f"epoch {epoch}/{epochs}: loss {row['loss']:.3f}, training error {row['top1_error']:.1%}"
    if row["validation_top1_error"] is not None:
        text += (
            f", validation error {row['validation_top1_error']:.1%} "
            f"(top-5 {row['validation_top5_error']:.1%})"
        )
    return f"{text}, rate {row['learning_rate']:.2g}, {row['images_per_second']:,.0f} images/s"
