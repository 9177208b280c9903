"""What TensorBoard shows, written without the package tensorboard: tensors, and plugins' names.

tf.summary.scalar, image and text need that package, which TensorFlow does not bring along.
"""

import importlib.util

import keras
import numpy as np
import tensorflow as tf

STEP_NAMES = ("loss", "top1_error", "top5_error")
_EVERY = 20  # steps


def how_to_look(directory: str) -> str:
    """The command that shows event files, and where TensorBoard is missing, what installs it."""
    command = f"tensorboard --logdir={directory}"
    if importlib.util.find_spec("tensorboard") is not None:
        return command
    return f"{command}, after pip install 'alexnet-tf[tensorboard]'"


def write_scalar(name: str, value: float) -> None:
    tf.summary.write(name, tf.constant(value, tf.float32), metadata=_metadata("scalars", 1))


def write_text(name: str, markdown: str) -> None:
    tf.summary.write(name, tf.constant([markdown]), metadata=_metadata("text", 2))


def write_images(name: str, images) -> None:
    """Draws (n, h, w, channels) of 0..1."""
    pixels = tf.cast(tf.clip_by_value(images, 0.0, 1.0) * 255.0 + 0.5, tf.uint8)
    height, width = pixels.shape[1:3]
    # The plugin expects width and height, as strings, before the images.
    content = [str(width).encode(), str(height).encode()]
    content += [tf.io.encode_png(image).numpy() for image in pixels]
    tf.summary.write(name, tf.constant(content), metadata=_metadata("images", 3))


def _metadata(plugin: str, data_class: int):
    metadata = tf.compat.v1.SummaryMetadata(data_class=data_class)
    metadata.plugin_data.plugin_name = plugin
    return metadata


def write_network(model: keras.Model) -> None:
    """The table of layers as a text, and the graph of a forward pass."""
    rows = ["layer | class | output | parameters", "--- | --- | --- | ---"]
    rows += [
        f"{layer.name} | {type(layer).__name__} | {_shape(layer.output.shape)} | "
        f"{layer.count_params():,}"
        for layer in model.layers
    ]
    write_text("network", "\n".join([*rows, f"in all | | | {model.count_params():,}"]))
    specs = [tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in model.inputs]
    forward = tf.function(lambda *inputs: model(list(inputs) if len(inputs) > 1 else inputs[0]))
    tf.summary.graph(forward.get_concrete_function(*specs).graph)


def _shape(shape) -> str:
    return " x ".join(str(side) for side in shape[1:])


class StepMeans:
    """Scalars `steps/...`: means over every 20 steps, so that a curve has points inside epochs."""

    def __init__(self):
        self._sums, self._count = np.zeros(len(STEP_NAMES)), 0

    def add(self, last: int, values: np.ndarray, **others: float) -> None:
        """Counts steps, and writes the means at each twentieth, to the default writer.

        Args:
          last: the number of the last step.
          values: (steps, 3): each step's loss, top-1 and top-5 error, per image.
          others: what the steps have in common, such as learning_rate, written beside the means.
        """
        for step, row in zip(range(last - len(values) + 1, last + 1), values, strict=True):
            self._sums += row
            self._count += 1
            if step % _EVERY:
                continue
            tf.summary.experimental.set_step(step)
            means = dict(zip(STEP_NAMES, self._sums / self._count, strict=True))
            for name, value in {**means, **others}.items():
                write_scalar(f"steps/{name}", value)
            self._sums, self._count = np.zeros(len(STEP_NAMES)), 0
