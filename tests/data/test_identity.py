"""A data set's fingerprint and class counts."""

import dataclasses
import shutil

import numpy as np

from alexnet_tf.data import identity
from alexnet_tf.data.records import open_dataset


def test_a_fingerprint_is_of_the_data_and_not_of_its_place(photo_records, make_dataset, tmp_path):
    whole = identity.fingerprint(open_dataset(photo_records))
    copy = tmp_path / "copy"
    shutil.copytree(photo_records, copy)
    assert identity.fingerprint(open_dataset(str(copy))) == whole
    statistics = dict(np.load(copy / "statistics.npz"))
    np.savez(copy / "statistics.npz", **{**statistics, "rgb_mean": statistics["rgb_mean"] + 1})
    assert identity.fingerprint(open_dataset(str(copy))) != whole
    # Of others' data sets there is no manifest: the same sizes, other pixels.
    one, two = (make_dataset(4, 32, labels=labels)[0] for labels in ([0, 1, 2, 3], [3, 2, 1, 0]))
    assert identity.fingerprint(open_dataset(one)) != identity.fingerprint(open_dataset(two))


def test_images_of_each_class_are_counted(make_dataset):
    found = open_dataset(make_dataset(9, 32, classes=3, labels=[0, 0, 1, 0, 1, 0, 0, 1, 0])[0])
    fields = ("shards", "counts", "shard_counts")
    train = {field: {"train": getattr(found, field)["validation"]} for field in fields}
    dataset = dataclasses.replace(found, **train)
    unknown_lengths = dataclasses.replace(dataset, shard_counts={})
    for one in (dataset, unknown_lengths):
        assert identity.class_counts(one).tolist() == [6, 3, 0]
