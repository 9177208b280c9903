"""One page about a run: curves, first kernels, predictions on some images."""

import os
import textwrap

import numpy as np
import tensorflow as tf

from alexnet_tf.analysis import plots
from alexnet_tf.data import evaluation_data, records
from alexnet_tf.data.options import with_options
from alexnet_tf.models import saved_run

_LINE = 140  # characters of a line above the page


def draw_run(workdir: str, data_dir: str, output: str, images: int = 8, note: str = "") -> None:
    """Writes the page as a PNG, SVG or PDF.

    Args:
      workdir: a run that train() finished.
      data_dir: a prepared data set with the run's classes and a validation split.
      output: path of the image.
      images: predictions to show, one of each class as far as the classes go, at most eight.
      note: what a reader should know, below the error.

    Raises:
      FileNotFoundError: no run or no data there.
      ValueError: the two do not have the same classes.
    """
    dataset = records.open_dataset(data_dir)
    dataset.require_split("validation")
    metrics = plots.read_curves(workdir)
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
    caption = textwrap.fill(_error_in_words(metrics, dataset), _LINE)
    if note:
        caption += "\n" + textwrap.fill(note, _LINE)
    plots.save_page(output, metrics, kernels, shown, groups, caption)


def _error_in_words(metrics: dict[str, np.ndarray], dataset: records.PreparedDataset) -> str:
    """The last validation error, beside that of guessing."""
    error, epochs = metrics["validation_top1_error"][-1], int(metrics["epoch"][-1])
    if np.isnan(error):
        return f"{epochs} epochs, not validated."
    return (
        f"After {epochs} epochs the network is wrong for {error:.1%} of "
        f"{dataset.counts['validation']:,} validation images; guessing among {dataset.classes} "
        f"classes is wrong for {1 - 1 / dataset.classes:.1%}."
    )


def _one_of_each_class(dataset: records.PreparedDataset, count: int):
    """Images and labels of validation: the first of each class in the records' order."""
    seen: set[int] = set()
    shards = tf.data.TFRecordDataset(list(dataset.shards["validation"]))
    for serialized in with_options(shards):
        encoded, label = records.parse_example(serialized, dataset.keys)
        if int(label) not in seen:
            seen.add(int(label))
            yield evaluation_data.stored_image(encoded, dataset.format), int(label)
        if len(seen) == count:
            return
