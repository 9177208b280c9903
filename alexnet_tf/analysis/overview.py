"""One page about a run: curves, first kernels, predictions on some images."""

import os

import numpy as np
import tensorflow as tf

from alexnet_tf.analysis import plots
from alexnet_tf.data import evaluation_data, records
from alexnet_tf.models import saved_run


def draw_run(workdir: str, data_dir: str, output: str, images: int = 8) -> None:
    """Writes the page as a PNG or SVG.

    Args:
      workdir: a run that train() finished.
      data_dir: a prepared data set with the run's classes and a validation split.
      output: path of the image.
      images: predictions to show, one of each class as far as the classes go, at most eight.

    Raises:
      FileNotFoundError: no run or no data there.
      ValueError: the two do not have the same classes.
    """
    dataset = records.open_dataset(data_dir)
    dataset.require_split("validation")
    metrics = plots.read_metrics(workdir)
    network = saved_run.open_model(workdir)
    if network.class_names != dataset.synsets:
        raise ValueError(
            f"{workdir} was trained on other classes than {data_dir} has: name the data set that "
            f"{os.path.join(workdir, saved_run.CONFIG_FILE)} names."
        )
    dataset = dataset.viewed(network.image_size, network.channels, network.apply_exif)
    shown = []
    for image, label in _one_of_each_class(dataset, images):
        view = evaluation_data.evaluation_views(image, network.crop_size, 1, network.image_size)
        scores = np.asarray(network.model(view, training=False))[0]
        best = np.argsort(-scores, kind="stable")[:5]
        shown.append(
            plots.Shown(
                image=image.numpy().squeeze(),
                truth=dataset.class_name(label),
                classes=[dataset.synsets[i] for i in best],
                scores=[float(scores[i]) for i in best],
            )
        )
    kernels, groups = plots.first_kernels(network.model), plots.kernel_groups(network.model)
    plots.save_page(output, metrics, kernels, shown, groups)


def _one_of_each_class(dataset: records.PreparedDataset, count: int):
    """Images and labels of validation: the first of each class in the records' order."""
    seen: set[int] = set()
    for serialized in tf.data.TFRecordDataset(list(dataset.shards["validation"])):
        encoded, label = records.parse_example(serialized, dataset.keys)
        if int(label) not in seen:
            seen.add(int(label))
            yield evaluation_data.stored_image(encoded, dataset.format), int(label)
        if len(seen) == count:
            return
