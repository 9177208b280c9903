"""Predictions drawn with their images, as in the left half of the paper's Figure 4."""

import tensorflow as tf

from alexnet_tf.analysis import plots
from alexnet_tf.data import preprocessing

_SHOWN_SIZE = 256
MOST = 24


def draw_predictions(predictions, output: str) -> int:
    """Draws the first 24 predictions that are of files.

    Args:
      predictions: objects with `source` (a path), `classes` and `scores`; the title is the path.
      output: path of the PNG, SVG or PDF.

    Returns:
      How many were drawn.

    Raises:
      ValueError: there is none to draw.
    """
    shown = []
    for prediction in predictions[:MOST]:
        image = preprocessing.decode(tf.io.read_file(prediction.source))
        square = preprocessing.evaluation_crop(image, _SHOWN_SIZE, _SHOWN_SIZE)
        shown.append(
            plots.Shown(
                image=tf.cast(tf.round(square), tf.uint8).numpy(),
                truth=prediction.source.rsplit("/", 1)[-1],
                classes=prediction.classes,
                scores=prediction.scores,
            )
        )
    plots.save_panel(output, shown)
    return len(shown)
