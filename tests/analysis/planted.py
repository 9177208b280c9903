"""A small network with units that are made to like something, and images that show it."""

import dataclasses

import keras
import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from alexnet_tf.data import records
from alexnet_tf.models import builder, catalog, knowledge
from alexnet_tf.models.spec import Conv, Dense, Flatten, Norm, Pool, Relu, Variant

SIDE = 32
CLASSES = ("red vertical", "red horizontal", "green vertical", "grey vertical", "<b>noise</b>")
# Units of conv1: a red vertical edge, the same twice as strong, a grey one, and one that is silent.
RED_EDGE, STRONGER, GREY_EDGE, SILENT = 2, 5, 3, 6
VARIANT = Variant(
    "planted",
    "two halves, for tests",
    SIDE,
    (0.0, 0.0, 0.0),
    features=(
        Conv("conv1", 8, 7, stride=2),  # (b, 13, 13, 8)
        Relu("relu1"),
        Norm("norm1"),
        Pool("pool1"),  # (b, 6, 6, 8)
        Conv("conv2", 8, 3, pad=((1, 1), (1, 1)), groups=2),
        Relu("relu2"),
        Pool("pool2", size=2),  # (b, 3, 3, 8)
    ),
    top=(
        Flatten(),
        Dense("fc6", 300),
        Relu("relu6"),
        Dense("fc7", 16),
        Relu("relu7"),
        Dense("fc8"),
    ),
    classes=len(CLASSES),
)
EDGE = np.where(np.arange(7) < 4, -1.0, 1.0) * np.array([4, 4, 4, 3, 4, 4, 4]) / 12


def network() -> keras.Model:
    """The network; units that are not planted begin at random."""
    catalog.add_variant(VARIANT)
    keras.utils.set_random_seed(3)
    model = builder.build(VARIANT, initializer="he")
    layer = model.get_layer("conv1")
    kernel = np.random.default_rng(0).normal(0, 0.01, layer.kernel.shape).astype(np.float32)
    bias = np.zeros(8, np.float32)
    edge = np.tile(EDGE, (7, 1))[..., None]
    kernel[..., RED_EDGE] = edge * [1.0, -0.5, -0.5]
    kernel[..., STRONGER] = 2 * kernel[..., RED_EDGE]
    kernel[..., GREY_EDGE] = edge * [0.299, 0.587, 0.114]
    kernel[..., SILENT], bias[SILENT] = 0, -1
    layer.kernel.assign(kernel)
    layer.bias.assign(bias)
    knowledge.write(model, {"class_names": list(CLASSES), "image_size": SIDE})
    return model


@dataclasses.dataclass(frozen=True)
class Planted:
    """Images (n, side, side, 3), labels (n,), and where each edge is: its first bright column."""

    images: np.ndarray
    labels: np.ndarray
    edges: np.ndarray


def images(count: int = 40) -> Planted:
    """Edges of a colour on black, each at another place; the last class is faint noise."""
    rng = np.random.default_rng(7)
    colours = {0: (220, 0, 0), 1: (220, 0, 0), 2: (0, 220, 0), 3: (200, 200, 200)}
    labels = np.arange(count) % len(CLASSES)
    edges = rng.integers(8, SIDE - 8, count)
    found = rng.integers(0, 12, (count, SIDE, SIDE, 3)).astype(np.uint8)
    for image, label, edge in zip(found, labels, edges, strict=True):
        if label in colours:
            (image.swapaxes(0, 1) if label != 1 else image)[edge:] = colours[label]
    return Planted(found, labels, edges)


def write_dataset(directory, planted: Planted) -> str:
    """A prepared data set of the images, in one shard of validation."""
    directory.mkdir(parents=True)
    channels = planted.images.shape[-1]
    path = directory / "imagenet-validation.tfrecord-00000-of-00001"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for number, (image, label) in enumerate(zip(planted.images, planted.labels, strict=True)):
            name = CLASSES[label]
            example = records.encode_example(image.tobytes(), int(label), f"{number}.png", name)
            writer.write(example)
    features = records.tfds_features(records.RecordFormat(SIDE, channels, "raw"), list(CLASSES))
    tfds.folder_dataset.write_metadata(data_dir=str(directory), features=features)
    return str(directory)
