"""Baseline from colour alone: logistic regression on colour histograms.

    python benchmarks/histogram_baseline.py --data_dir=demo/records

Scikit-learn's logistic regression with its defaults on plain frequencies of each channel. It prints
the validation top-1 accuracy and writes it as JSON with --output. It is a floor, not the best that
histograms can do: README says what a tuned one reaches.
"""

import json
import pathlib
import sys

import numpy as np
from absl import flags as absl_flags

from alexnet_tf import cli

BINS = 16  # per channel


def main(argv=None) -> int:
    """Runs the command; returns the exit code."""
    return cli.run(_define, _main, argv, doc=__doc__)


def _define(flags):
    absl_flags.DEFINE_string("data_dir", None, "A prepared data set.", flag_values=flags)
    absl_flags.DEFINE_string("output", None, "JSON file for the result.", flag_values=flags)


def _main(flags, args) -> int:
    if flags.data_dir is None:
        raise cli.UsageError("--data_dir is missing: name a prepared data set.")
    from alexnet_tf.data.records import open_dataset

    dataset = open_dataset(flags.data_dir)
    accuracy = histogram_accuracy(dataset)
    print(f"logistic regression on colour histograms: validation top-1 {accuracy:.1%}")
    if flags.output:
        content = {"data_dir": dataset.path, "bins_per_channel": BINS, "validation_top1": accuracy}
        pathlib.Path(flags.output).write_text(json.dumps(content, indent=2) + "\n")
    return 0


def histogram_accuracy(dataset) -> float:
    """Validation top-1 accuracy, 0..1, of a multinomial logistic regression (scikit-learn)."""
    from sklearn.linear_model import LogisticRegression

    train_x, train_y = _histograms(dataset, "train")
    validation_x, validation_y = _histograms(dataset, "validation")
    model = LogisticRegression(max_iter=2000).fit(train_x, train_y)
    return float(model.score(validation_x, validation_y))


def _histograms(dataset, split: str):
    import tensorflow as tf

    from alexnet_tf.data.evaluation_data import stored_image
    from alexnet_tf.data.records import parse_example

    dataset.require_split(split)
    rows, labels = [], []
    for serialized in tf.data.TFRecordDataset(list(dataset.shards[split])):
        encoded, label = parse_example(serialized)
        pixels = stored_image(encoded, dataset.format).numpy()
        bins = pixels.reshape(-1, pixels.shape[-1]) // (256 // BINS)
        counts = [np.bincount(channel, minlength=BINS) for channel in bins.T]
        rows.append(np.concatenate(counts) / len(bins))
        labels.append(int(label))
    return np.array(rows), np.array(labels)


if __name__ == "__main__":
    sys.exit(main())
