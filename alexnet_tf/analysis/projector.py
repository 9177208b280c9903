"""Files for TensorBoard's embedding projector: vectors, what they are of, and small images.

The projector reads projector_config.pbtxt in the log directory, whether or not there are event
files. Source: tensorflow/tensorboard, plugins/projector/projector_config.proto and
projector_plugin.py.
"""

import os
import re

import numpy as np
import tensorflow as tf

from alexnet_tf import files
from alexnet_tf.analysis.activations import Activations
from alexnet_tf.analysis.stimuli import Stimuli

LARGEST = 10_000  # images: the vectors of fc7 are then 164 MB, which a browser still takes
_SPRITE = 8192  # pixels: textures in a browser are not larger
_THUMBNAIL = 64
_CONFIG = """embeddings {{
  tensor_name: "{name}"
  tensor_shape: {count}
  tensor_shape: {width}
  tensor_path: "vectors.bytes"
  metadata_path: "metadata.tsv"
  sprite {{
    image_path: "sprite.png"
    single_image_dim: {side}
    single_image_dim: {side}
  }}
}}
"""


def require_size(count: int) -> None:
    """Raises ValueError for more images than a browser takes."""
    if count > LARGEST:
        raise ValueError(
            f"TensorBoard's projector is for at most {LARGEST:,} images, and these are {count:,}: "
            "choose fewer."
        )


def save(activations: Activations, layer: str, directory: str, stimuli: Stimuli) -> None:
    """Writes what `tensorboard --logdir=directory` shows under Projector.

    Args:
      activations: from `activations.extracted`.
      layer: the array of it to show; maps are flattened.
      directory: made if need be. Its file projector_config.pbtxt is written last.
      stimuli: of which they are, for the thumbnails.
    """
    os.makedirs(directory, exist_ok=True)
    vectors = activations.arrays[layer].reshape(len(activations.names), -1)
    with (
        files.replacing(os.path.join(directory, "vectors.bytes")) as aside,
        open(aside, "wb") as file,
    ):
        for first in range(0, len(vectors), 256):
            vectors[first : first + 256].astype("<f4").tofile(file)
    files.write_text(os.path.join(directory, "metadata.tsv"), _metadata(activations))
    columns = int(np.ceil(np.sqrt(len(vectors))))
    side = min(_THUMBNAIL, _SPRITE // columns)
    sprite = _sprite(activations.names, stimuli, columns, side)
    with files.replacing(os.path.join(directory, "sprite.png")) as aside:
        tf.io.write_file(aside, tf.io.encode_png(sprite))
    name = re.sub(r'["\\\n]', "_", layer)
    config = _CONFIG.format(name=name, count=len(vectors), width=vectors.shape[1], side=side)
    files.write_text(os.path.join(directory, "projector_config.pbtxt"), config)


def _metadata(activations: Activations) -> str:
    # A column alone has no header, several have one.
    names = [
        re.sub(r"\s", " ", name).encode("utf-8", "replace").decode() for name in activations.names
    ]
    if activations.labels is None:
        return "".join(f"{name}\n" for name in names)
    rows = zip(names, activations.labels, strict=True)
    return "file_name\tlabel\n" + "".join(f"{name}\t{label}\n" for name, label in rows)


def _sprite(names, stimuli: Stimuli, columns: int, side: int) -> np.ndarray:
    """uint8 (columns * side, columns * side, 3): thumbnails row by row, black where none is."""
    sheet = np.zeros((columns, columns, side, side, 3), np.uint8)
    number = 0
    for batch in stimuli.batches(0, 64):
        if len(batch.positions):
            small = tf.image.resize(batch.images, (side, side), method="area").numpy()
            for thumbnail in np.clip(np.rint(small), 0, 255).astype(np.uint8):
                sheet[number // columns, number % columns] = thumbnail
                number += 1
    if number != len(names):
        raise ValueError("The images changed while their activations were written: start again.")
    return sheet.transpose(0, 2, 1, 3, 4).reshape(columns * side, columns * side, 3)
