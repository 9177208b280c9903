"""A prepared data set of real photographs, and what training reads of it."""

import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.data import records
from alexnet_tf.data.pipeline import training_batches
from alexnet_tf.data.preprocessing import ColourNoise


@pytest.fixture(scope="session")
def dataset(photo_records):
    return records.open_dataset(photo_records)


@pytest.fixture(scope="session")
def stored_images(dataset):
    """Every stored training image with its label, decoded by plain TensorFlow."""
    images = []
    for serialized in tf.data.TFRecordDataset(list(dataset.shards["train"])):
        encoded, label = records.parse_example(serialized)
        image = tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")
        images.append((image.numpy(), int(label)))
    return images


@pytest.fixture
def noise(dataset):
    """noise(kind) is the data set's colour noise."""
    statistics = dataset.statistics()
    return lambda kind: ColourNoise.from_statistics(statistics, kind, statistics["rgb_mean"])


@pytest.fixture
def read_run():
    """read_run(dataset, augmentation, schedule): images and labels of a run, replicas joined."""

    def read(dataset, augmentation, schedule):
        batches = list(training_batches(dataset, augmentation, schedule).as_numpy_iterator())
        return np.concatenate([b[0] for b in batches]), np.concatenate([b[1] for b in batches])

    return read
