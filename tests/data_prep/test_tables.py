"""Parquet files and TFDS data sets: columns found by type or name, images without labels named."""

import itertools
import json

import pytest
import tensorflow as tf
import tensorflow_datasets as tfds


def counts(manifest):
    return manifest["counts"]


def write_parquet(path, columns, metadata=None):
    import pyarrow
    import pyarrow.parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    table = pyarrow.table(columns)
    if metadata:
        features = json.dumps({"info": {"features": metadata}})
        table = table.replace_schema_metadata({"huggingface": features})
    pyarrow.parquet.write_table(table, path)


LABELS = [0, 1, 0, 1]
NAMED = {"_type": "ClassLabel", "names": ["cat", "dog"]}


@pytest.mark.parametrize("metadata", [True, False])
@pytest.mark.parametrize(
    "image, label, plain, labels",
    [
        ("image", "labels", False, LABELS),
        ("img", "fine_label", False, LABELS),
        ("image", "label", True, LABELS),
        ("image", "label", False, ["cat", "dog", "cat", "dog"]),
    ],
)
def test_columns_of_a_table(image, label, plain, labels, metadata, jpg, converted, tmp_path):
    contents = [jpg(n) for n in range(8)]
    images = contents
    if not plain:
        images = [{"bytes": c, "path": f"{n}.jpg"} for n, c in enumerate(contents)]
    known = None
    if metadata:
        known = {image: {"_type": "Image"}, "id": {"_type": "Value"}}
        known[label] = NAMED if isinstance(labels[0], int) else {"_type": "Value"}
    for split, part in (("train", images[:4]), ("validation", images[4:])):
        path = tmp_path / "source" / "data" / f"{split}-00000-of-00001.parquet"
        write_parquet(path, {image: part, label: labels}, known)
    manifest, stored, _ = converted(tmp_path / "source")
    assert counts(manifest) == {"train": 4, "validation": 4}
    expected = ["0000", "0001"] if isinstance(labels[0], int) and not metadata else ["cat", "dog"]
    assert sorted({synset for _, synset, _ in stored}) == expected


def test_an_ambiguous_table_asks_for_its_column(jpg, converted, refused, tmp_path):
    images = [jpg(n) for n in range(4)]
    columns = {"img": images, "fine_label": LABELS, "coarse_label": [5, 5, 5, 5]}
    write_parquet(tmp_path / "source" / "train.parquet", columns)
    error = refused(tmp_path / "source")
    assert "fine_label, coarse_label" in error and "--label_column=fine_label" in error
    manifest, _, _ = converted(tmp_path / "source", "--label_column=fine_label")
    assert manifest["classes"] == 2
    assert "no label column 'nothing'" in refused(tmp_path / "source", "--label_column=nothing")
    write_parquet(tmp_path / "other" / "train.parquet", {"text": ["a"], "label": [0]})
    assert "no column of images" in refused(tmp_path / "other")


def test_hugging_faces_converted_branch_and_null_labels(jpg, converted, refused, tmp_path):
    images = [{"bytes": jpg(n), "path": None} for n in range(4)]
    home = tmp_path / "source" / "default"
    write_parquet(home / "train" / "0000.parquet", {"image": images, "label": [0, 1, None, 1]})
    write_parquet(home / "test" / "0000.parquet", {"image": images, "label": [-1] * 4})
    error = refused(tmp_path / "source")
    assert "default/train/0000.parquet:2 cannot be used: it has no label (None)" in error
    manifest, _, report = converted(tmp_path / "source", "--max_bad=1")
    assert counts(manifest) == {"train": 3}
    assert "not used: default/test/0000.parquet (4 images): test images without labels" in report
    write_parquet(tmp_path / "source" / "small" / "train" / "0000.parquet", {"image": images})
    assert "several data sets, in default, small" in refused(tmp_path / "source")


def test_a_label_beyond_the_classes(jpg, refused, tmp_path):
    columns = {"image": [jpg(n) for n in range(4)], "label": [0, 1, 2, 0]}
    known = {"image": {"_type": "Image"}, "label": NAMED}
    write_parquet(tmp_path / "source" / "train.parquet", columns, known)
    assert "row 2 has the label 2: expected 0..1" in refused(tmp_path / "source")


def write_tfds(folder, jpg, splits):
    """A TFDS data set: split -> labels."""
    folder.mkdir()
    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
            "label": tfds.features.ClassLabel(names=["cat", "dog"]),
        }
    )
    image = itertools.count()
    for split, labels in splits.items():
        path = folder / f"mine-{split}.tfrecord-00000-of-00001"
        with tf.io.TFRecordWriter(str(path)) as writer:
            for label in labels:
                feature = {
                    "image": tf.train.Feature(
                        bytes_list=tf.train.BytesList(value=[jpg(next(image))])
                    ),
                    "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
                }
                example = tf.train.Example(features=tf.train.Features(feature=feature))
                writer.write(example.SerializeToString())
    tfds.folder_dataset.write_metadata(data_dir=str(folder), features=features, check_data=False)
    return f"tfds:{folder}"


def test_tfds_images_without_a_label(jpg, converted, refused, tmp_path):
    splits = {"train": [0, 1, -1, 1], "test": [-1, -1], "validation": [1, 0], "more": [0]}
    source = write_tfds(tmp_path / "source", jpg, splits)
    error = refused(source, "--max_bad=1")
    assert "split more" in error and "--allow_unused" in error
    error = refused(source, "--allow_unused")
    assert "split train:train_00000002 cannot be used: it has no label (-1)" in error
    manifest, stored, report = converted(source, "--max_bad=1", "--allow_unused")
    assert counts(manifest) == {"train": 3, "validation": 2}
    assert ("train", "dog", "train_00000002") not in stored
    assert "not used: split test (2 images): test images without labels" in report
