"""Measures how strongly each unit responds to each image of a split, and where in the image."""

import dataclasses
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf.analysis.receptive_field import ReceptiveField
from alexnet_tf.data import evaluation_data, records
from alexnet_tf.models import saved_run

_BATCH = 32


@dataclasses.dataclass(frozen=True)
class Responses:
    """What was measured; n images.

    Attributes:
      labels: int64 (n,).
      responses: layer -> float32 (n, units): the largest value of the unit's map, or the value of
        a flat layer's unit.
      places: layer of maps -> int16 (n, units, 2): row and column of that value.
      hidden: float32 (n, d): what the last layer with weights reads.
      probabilities: float32 (n, classes).
    """

    labels: np.ndarray
    responses: dict[str, np.ndarray]
    places: dict[str, np.ndarray]
    hidden: np.ndarray
    probabilities: np.ndarray


def measure_responses(
    network: saved_run.TrainedModel,
    layers: Sequence[str],
    dataset: records.PreparedDataset,
    split: str,
    most: int,
    progress: Callable[[int], None] = lambda done: None,
) -> Responses:
    """Runs the centre crops of a split's first images through a network, once.

    Args:
      network: from `saved_run.open_model`.
      layers: names of its layers.
      dataset: a prepared data set, as `viewed` for the network.
      split: its split.
      most: maximum number of images.
      progress: called after each batch with its number of images.

    Raises:
      ValueError: a missing split, an image without a label, or images of another kind.
    """
    dataset.require_split(split)
    if dataset.format.channels != network.channels:
        raise ValueError(
            f"{dataset.path} stores {dataset.format.channels} channel(s), but the network takes "
            f"{network.channels}: name the kind of images that it was trained on."
        )
    model = network.model
    hidden = hidden_output(model, [*layers][-1])
    outputs = [model.get_layer(name).output for name in layers]
    part = keras.Model(model.input, [*outputs, hidden, model.output])

    @tf.function
    def call(images):
        *values, hidden, probabilities = part(tf.cast(images, tf.float32), training=False)
        found = [_largest(tf.cast(value, tf.float32)) for value in values]
        flat = tf.reshape(tf.cast(hidden, tf.float32), (tf.shape(hidden)[0], -1))
        return found, flat, probabilities

    rows: list = []
    count = min(most, dataset.counts[split])
    batches = evaluation_data.evaluation_batches(
        dataset, split, min(_BATCH, count), network.crop_size, image_size=network.image_size
    )
    for images, labels, indices in batches.take(-(-count // min(_BATCH, count))):
        real = int(min((indices.numpy() >= 0).sum(), count - sum(len(row[0]) for row in rows)))
        found, flat, probabilities = call(images[:, 0])
        for label in labels.numpy()[:real]:
            dataset.class_name(int(label))  # raises for an invalid label
        found = [(value.numpy()[:real], place.numpy()[:real]) for value, place in found]
        rows.append((labels.numpy()[:real], found, flat.numpy()[:real], probabilities[:real]))
        progress(real)
    joined = [
        (np.concatenate([row[1][n][0] for row in rows]), [row[1][n][1] for row in rows])
        for n in range(len(layers))
    ]
    return Responses(
        labels=np.concatenate([row[0] for row in rows]).astype(np.int64),
        responses={name: value for name, (value, _) in zip(layers, joined, strict=True)},
        places={
            name: np.concatenate(places).astype(np.int16)
            for name, output, (_, places) in zip(layers, outputs, joined, strict=True)
            if len(output.shape) == 4
        },
        hidden=np.concatenate([row[2] for row in rows]),
        probabilities=np.concatenate([row[3] for row in rows]),
    )


def hidden_output(model: keras.Model, last: str):
    """The tensor that the layer `last` reads, before any dropout: relu7's, in AlexNet."""
    tensor = model.get_layer(last).input
    while True:
        producer = next(one for one in model.layers if one.output is tensor)
        if "Dropout" not in type(producer).__name__:
            return tensor
        tensor = producer.input


@dataclasses.dataclass(frozen=True)
class Patch:
    """One of the images that excite a unit most.

    Attributes:
      image: its row in `Responses`.
      response: the unit's.
      box: (top, left, side) of what the unit saw, in pixels of the crop; it may reach over the
        border. None for the whole image.
    """

    image: int
    response: float
    box: tuple[int, int, int] | None


def top_patches(
    measured: Responses, layer: str, unit: int, field: ReceptiveField | None, count: int
) -> list[Patch]:
    """The images that excite a unit most, each with the patch where it does so.

    Args:
      measured: from `measure_responses`.
      layer: one of its layers.
      unit: the number of a map, or of a flat layer's unit.
      field: the layer's receptive field, from `receptive_fields`; None for the whole image.
      count: how many images, at most.

    Returns:
      The strongest first; equal responses in the order of the images.
    """
    responses = measured.responses[layer][:, unit]
    order = np.argsort(-responses, kind="stable")[:count]
    boxes: list = [None] * len(order)
    if field is not None and layer in measured.places:
        boxes = [field.box(*map(int, measured.places[layer][n, unit])) for n in order]
    return [Patch(int(n), float(responses[n]), box) for n, box in zip(order, boxes, strict=True)]


def _largest(values):
    """(b, units) values and (b, units, 2) places: of maps the largest, the first among equals."""
    if len(values.shape) == 2:
        return values, tf.zeros((tf.shape(values)[0], values.shape[1], 2), tf.int32)
    rows, columns, units = values.shape[1:]
    flat = tf.reshape(values, (-1, rows * columns, units))
    place = tf.argmax(flat, axis=1, output_type=tf.int32)
    return tf.reduce_max(flat, axis=1), tf.stack([place // columns, place % columns], axis=-1)
