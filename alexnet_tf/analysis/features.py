"""Layer activations of a split, and nearest neighbours in them (paper, section 6.1)."""

import os

import numpy as np
import tensorflow as tf

from alexnet_tf import files
from alexnet_tf.analysis import activations, plots, stimuli
from alexnet_tf.data import evaluation_data, records
from alexnet_tf.data.options import with_options
from alexnet_tf.models import layer_names, saved_run

# 4096 numbers of as many images are 134 MB in float64; those of 50,000 would be 1.6 GB.
_ROWS = 4096


def layer_features(
    network: saved_run.TrainedModel, layer: str, dataset: records.PreparedDataset, split: str
) -> tuple[np.ndarray, np.ndarray]:
    """A layer's output for the centre crop of each image of a split.

    Args:
      network: from `saved_run.open_model`.
      layer: a layer's name, such as "relu7": the last hidden layer after its ReLU.
      dataset: a prepared data set.
      split: its split.

    Returns:
      (float32 (n, ...), int64 (n,)): features in the records' order, and labels.

    Raises:
      ValueError: no such layer or split, or images of another number of channels.
    """
    have = [one.name for one in network.model.layers]
    layers = layer_names.find_layers([layer], have, network.path)
    images = stimuli.DatasetStimuli(dataset, split, network)
    found = [
        rows[layer]
        for batch, rows in activations.activation_batches(network, layers, images, batch_size=64)
    ]
    return np.concatenate(found), images.labels


def nearest(features: np.ndarray, queries: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The nearest other images of some images, by Euclidean distance.

    Args:
      features: float (n, ...), a row per image; what follows is flattened.
      queries: int (q,), rows of `features`.
      count: neighbours to find, fewer than n.

    Returns:
      (int64 (q, count), float64 (q, count)): rows, nearest first, and their distances. The query
      itself is left out; equal distances keep the order of the rows.

    Raises:
      ValueError: not enough images.
    """
    rows = np.asarray(features).reshape(len(features), -1)
    if len(rows) < 2:
        raise ValueError("One image has no neighbours: name a split of at least two.")
    if not 1 <= count < len(rows):
        raise ValueError(f"{len(rows)} images have no {count} neighbours each: ask for fewer.")
    distances = np.stack([_distances(rows, rows[query]) for query in queries])
    distances[np.arange(len(queries)), queries] = np.inf
    order = np.argsort(distances, axis=1, kind="stable")[:, :count]
    return order, np.take_along_axis(distances, order, axis=1)


def _distances(rows: np.ndarray, query: np.ndarray) -> np.ndarray:
    """Euclidean distances of the rows from one, in float64, some rows at a time.

    From differences, not by the expansion of the square: that one loses small distances.
    """
    query = query.astype(np.float64)
    parts = (rows[start : start + _ROWS] for start in range(0, len(rows), _ROWS))
    return np.concatenate([np.sqrt(((part - query) ** 2).sum(axis=1)) for part in parts])


def draw_neighbours(
    network: saved_run.TrainedModel,
    layer: str,
    dataset: records.PreparedDataset,
    split: str,
    output: str,
    neighbours: int = 6,
) -> dict:
    """Draws a row per class: its first image, then the images nearest to it, with their distances.

    As the right half of the paper's Figure 4.

    Returns:
      {"layer", "images", "same_class": share of neighbours with the query's class, "rows"}.

    Raises:
      ValueError: see `layer_features` and `nearest`; or images without labels.
    """
    from matplotlib.figure import Figure

    features, labels = layer_features(network, layer, dataset, split)
    for label in np.unique(labels):
        dataset.class_name(int(label))  # raises for an invalid label
    _, queries = np.unique(labels, return_index=True)
    queries = np.sort(queries)[:8]
    neighbours = min(neighbours, len(features) - 1)
    found, distances = nearest(features, queries, neighbours)
    wanted = {int(n) for n in (*queries, *found.ravel())}
    images = _images(dataset, split, wanted)
    figure = Figure(
        figsize=(1.5 * (neighbours + 1), 1.76 * len(queries) + 0.3), dpi=110, layout="constrained"
    )
    grid = figure.subplots(len(queries), neighbours + 1, squeeze=False)
    for row, query in enumerate(queries):
        for column, number in enumerate((query, *found[row])):
            axes = grid[row, column]
            image = images[int(number)].squeeze()
            axes.imshow(image, cmap="gray" if image.ndim == 2 else None, vmin=0, vmax=255)
            axes.set_xticks([])
            axes.set_yticks([])
            name = plots.shortened(dataset.synsets[labels[number]], 17)
            right = labels[number] == labels[query]
            axes.set_title(
                name,
                fontsize=8,
                fontweight="bold" if column == 0 else None,
                color="black" if right else "#B03A2E",
            )
            if column > 0:
                axes.set_xlabel(f"{distances[row, column - 1]:#.3g}", fontsize=7, labelpad=2)
            axes.spines[:].set_visible(column == 0)
            axes.spines[:].set_linewidth(2)
    figure.supxlabel(
        f"An image (bold), then the images nearest to it in {layer}. Below each its Euclidean "
        "distance; red: another class.",
        fontsize=8,
    )
    plots.save_figure(figure, output)
    return {
        "layer": layer,
        "images": len(features),
        "same_class": float((labels[found] == labels[queries][:, None]).mean()),
        "rows": [
            {"query": int(query), "neighbours": row.tolist(), "distances": far.tolist()}
            for query, row, far in zip(queries, found, distances, strict=True)
        ],
    }


def require_ending(output: str) -> str:
    """The ending of a file of features, ".npy" or ".tfrecord".

    Raises:
      ValueError: another ending.
    """
    ending = os.path.splitext(output)[1]
    if ending not in (".npy", ".tfrecord"):
        raise ValueError(
            f"{output} should end in .npy or .tfrecord: features are written as a NumPy array or "
            "as records."
        )
    return ending


def save_features(features: np.ndarray, labels: np.ndarray, output: str) -> None:
    """Writes features by the name's ending.

    NAME.npy is the array, with the labels beside it as NAME-labels.npy. NAME.tfrecord holds a
    `tf.train.Example` per image: "features" (floats, row-major), "shape" and "label" (int64).

    Args:
      features: float32 (n, ...).
      labels: int (n,).
      output: path of the file.

    Raises:
      ValueError: another ending.
    """
    if require_ending(output) == ".tfrecord":
        with files.replacing(output) as aside:
            _write_records(aside, features, labels)
        return
    root = os.path.splitext(output)[0]
    for path, array in ((output, features), (f"{root}-labels.npy", labels)):
        with files.replacing(path) as aside:
            np.save(aside, array)


def _write_records(path: str, features: np.ndarray, labels: np.ndarray) -> None:
    def integers(values):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

    with tf.io.TFRecordWriter(path) as writer:
        for row, label in zip(features, labels, strict=True):
            floats = tf.train.FloatList(value=row.ravel())
            named = {
                "features": tf.train.Feature(float_list=floats),
                "shape": integers(row.shape),
                "label": integers([int(label)]),
            }
            example = tf.train.Example(features=tf.train.Features(feature=named))
            writer.write(example.SerializeToString(deterministic=True))


def _images(dataset, split, wanted: set[int]) -> dict[int, np.ndarray]:
    found = {}
    shards = tf.data.TFRecordDataset(list(dataset.shards[split]))
    for number, serialized in enumerate(with_options(shards)):
        if number in wanted:
            encoded, _ = records.parse_example(serialized, dataset.keys)
            found[number] = evaluation_data.stored_image(encoded, dataset.format).numpy()
    return found
