"""A smaller copy of a data set: fewer images, or smaller ones."""

import os

import numpy as np
import tensorflow as tf

from alexnet_tf import files
from alexnet_tf.data import evaluation_data, preprocessing, records

_DONE = "derived.json"


def derive(
    dataset: records.PreparedDataset,
    directory: str,
    limit: dict[str, int] | None = None,
    image_size: int | None = None,
) -> str:
    """Writes the first images of a data set's splits, resized, as another data set.

    Args:
      dataset: the source, with training images.
      directory: the output directory; an existing copy is kept.
      limit: split -> maximum number of images; None for all. Records are shuffled when they are
        written, so the first ones are a random sample.
      image_size: side of the copies in pixels; None keeps the source's.

    Returns:
      directory. Its mean is computed from its own images; its principal components are the
      source's, which are estimated from more images.
    """
    if os.path.exists(os.path.join(directory, _DONE)):
        return directory
    import tensorflow_datasets as tfds

    size = image_size or dataset.format.image_size
    os.makedirs(directory, exist_ok=True)
    counts = {}
    for split in ("train", "validation"):
        if not dataset.counts.get(split):
            continue
        wanted = min(dataset.counts[split], (limit or {}).get(split, dataset.counts[split]))
        name = f"{records.DATASET_NAME}-{split}.tfrecord-00000-of-00001"
        total = np.zeros((size, size, dataset.format.channels))
        with tf.io.TFRecordWriter(os.path.join(directory, name)) as writer:
            for number, (image, label) in enumerate(_images(dataset, split, wanted, size)):
                total += image
                example = records.encode_example(
                    image.tobytes(), label, f"{split}_{number}", dataset.synsets[label]
                )
                writer.write(example)
        counts[split] = wanted
        if split == "train":
            mean = total / wanted
    form = records.RecordFormat(size, dataset.format.channels, "raw")
    features = records.tfds_features(form, list(dataset.synsets))
    tfds.folder_dataset.write_metadata(data_dir=directory, features=features)
    components = {
        name: dataset.statistics()[name] for name in ("principal_components", "principal_stddevs")
    }
    np.savez(
        os.path.join(directory, records.STATISTICS_FILE),
        mean_image=mean.astype(np.float32),
        rgb_mean=mean.mean(axis=(0, 1)),
        **components,
    )
    # Written last, so that an interrupted copy starts again.
    files.write_json(os.path.join(directory, _DONE), {"source": dataset.path, "counts": counts})
    return directory


def _images(dataset, split: str, count: int, size: int):
    """The first `count` (uint8 (size, size, channels), label) of a split."""
    stored = dataset.format.image_size
    shrink = tf.function(lambda image: preprocessing.evaluation_crop(image, size, size))
    seen = 0
    for images, labels, indices in evaluation_data.evaluation_batches(dataset, split, 64, stored):
        for image, label, index in zip(images[:, 0], labels, indices.numpy(), strict=True):
            if seen == count or index < 0:
                return
            small = image if size == stored else shrink(image)
            yield tf.cast(tf.round(tf.cast(small, tf.float32)), tf.uint8).numpy(), int(label)
            seen += 1
