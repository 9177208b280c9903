"""Sources as people report them: converted to the last image, or refused in one sentence."""

import csv
import io
import itertools
import json
import os
import unicodedata

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

from alexnet_tf.data import records
from data_prep import checks, convert


@pytest.fixture(scope="module")
def jpg(real):
    """A function: number -> a small JPEG, another for each number."""
    photo = real.photograph("chelsea", 60, 80)
    return lambda number: real.jpeg(photo[number : number + 30, number : number + 40])


@pytest.fixture
def plant(tmp_path, real, jpg):
    """Writes images: folder -> how many; returns the source."""

    def plant(**folders):
        source = tmp_path / "source"
        number = 0
        for folder, count in folders.items():
            for n in range(count):
                real.write(source / folder.replace("__", "/") / f"p{n}.jpg", jpg(number % 25))
                number += 1
        return source

    return plant


@pytest.fixture
def converted(tmp_path, capsys):
    """Converts a source; returns the manifest, the stored images and the report."""

    def convert_(source, *flags, verify=True):
        output = tmp_path / f"out{len(os.listdir(tmp_path))}"
        done = convert.main(
            [f"--source={source}", f"--output={output}", "--image_size=16", "--workers=1", *flags]
        )
        printed = capsys.readouterr()
        assert done == 0, printed.err
        manifest = records.read_manifest(str(output))
        if verify:
            assert checks.verify(str(output), 1, source=str(source))["problems"] == []
        stored = {
            (shard["split"], *(row[key].bytes_list.value[0].decode() for key in KEYS))
            for shard in manifest["shards"]
            for record in tf.data.TFRecordDataset(str(output / shard["file"]))
            for row in [tf.train.Example.FromString(record.numpy()).features.feature]
        }
        assert len(stored) == sum(manifest["counts"].values()), "two images have one name"
        return manifest, stored, printed.out

    return convert_


KEYS = ("synset", "file_name")


@pytest.fixture
def refused(tmp_path, capsys):
    def refused(source, *flags):
        output = tmp_path / "refused"
        done = convert.main([f"--source={source}", f"--output={output}", "--workers=1", *flags])
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert done == 1 and error.startswith("error: ") and "Traceback" not in error
        assert not output.exists() and not os.path.exists(f"{output}.partial")
        return error

    return refused


def counts(manifest):
    return manifest["counts"]


# 1. Folders below a class, folders around everything.


def test_images_below_a_class_belong_to_it(plant, converted):
    source = plant(train__cat=3, train__cat__more=2, train__dog__greg__vision309=2, val__cat=1)
    manifest, stored, _ = converted(source)
    assert counts(manifest) == {"train": 7, "validation": 1}
    # Names that occur twice in a class are paths below it.
    assert ("train", "cat", "more/p0.jpg") in stored and ("train", "cat", "p0.jpg") in stored
    assert ("train", "dog", "p1.jpg") in stored


@pytest.mark.parametrize(
    "folders, classes",
    [
        ({"dataset__train__cat": 2, "dataset__train__dog": 2, "dataset__val__cat": 1}, 2),
        ({"dataset__cat": 2, "dataset__dog": 2}, 2),
        ({"a__b__cat": 2, "a__b__dog": 2}, 2),
        ({"train__images__cat": 2, "train__images__dog": 2, "val__images__cat": 1}, 2),
        ({"cat": 3}, 1),
    ],
)
def test_a_folder_around_everything_is_no_class(plant, converted, folders, classes):
    manifest, stored, _ = converted(plant(**folders))
    assert manifest["classes"] == classes
    assert sum(counts(manifest).values()) == sum(folders.values())
    assert {synset for _, synset, _ in stored} <= {"cat", "dog"}


def test_one_folder_with_images_and_folders_of_images_is_refused(plant, refused):
    assert "holds images and also folders of images" in refused(plant(data=2, data__cat=2))


def test_splits_inside_classes_are_refused(plant, refused):
    error = refused(plant(cat__train=2, cat__val=1, dog__train=2, dog__val=1))
    assert "cat/train is named as a split but is inside a class" in error


def test_a_folder_beside_the_splits(plant, converted, refused):
    source = plant(train__cat=2, val__cat=1, extra=3)
    assert "extra/ (3 images)" in refused(source)
    manifest, _, report = converted(source, "--allow_unused")
    assert counts(manifest) == {"train": 2, "validation": 1}
    assert "not used: extra/ (3 files, 3 images)" in report


# 2. Tiny ImageNet.


def test_tiny_imagenet(sources, images, real, tmp_path, converted):
    source = tmp_path / "source"
    sources.tiny_imagenet(source, images, real)
    manifest, stored, report = converted(source)
    assert counts(manifest) == {"train": 9, "validation": 6} and manifest["classes"] == 3
    train, validation = images
    assert {row for row in stored if row[0] == "train"} == {("train", s, n) for s, n, _ in train}
    assert {row for row in stored if row[0] == "validation"} == {
        ("validation", synset, f"val_{number}.JPEG") for number, synset, _ in validation
    }
    assert "not used: test/ (6 files, 6 images): test images without labels" in report


# 3. How people spell the splits.


@pytest.mark.parametrize(
    "train, validation",
    [
        *(("train", "Val"), ("Training", "valid"), ("TRAIN", "Validation"), ("train_set", "dev")),
        ("Train", "VAL"),
    ],
)
def test_spellings_of_the_splits(plant, converted, train, validation):
    manifest, _, _ = converted(
        plant(**{f"{train}__cat": 2, f"{validation}__cat": 1, "Test__cat": 1})
    )
    assert counts(manifest) == {"train": 2, "validation": 1, "test": 1}


def test_two_folders_of_one_split_are_refused(plant, refused):
    assert "two folders for the validation split" in refused(plant(train__a=2, val__a=1, dev__a=1))


def test_classes_on_the_top_level_are_training(plant, converted):
    manifest, _, _ = converted(plant(healthy=6, sick=6, test__healthy=2, test__sick=1))
    assert counts(manifest) == {"train": 12, "test": 3}


# 4. Test splits that nobody has labels for.


@pytest.mark.parametrize("folder", ["test", "test__images", "test__unknown__deep"])
def test_an_unlabelled_test_split_is_left_out(plant, converted, folder):
    manifest, _, report = converted(plant(train__cat=2, val__cat=1, **{folder: 4}))
    assert counts(manifest) == {"train": 2, "validation": 1}
    [entry] = manifest["source"]["unused"]
    assert (entry["path"], entry["images"]) == ("test/", 4) and "without labels" in entry["reason"]
    assert "test/ (4 files, 4 images)" in report


def test_kaggles_imagenet(sources, images, real, tmp_path, converted):
    sources.kaggle(tmp_path / "source", images, real)
    text = b"ImageId,PredictionString\nILSVRC2012_test_00000001,n01440764 1 2 3 4\n"
    real.write(tmp_path / "source" / "LOC_sample_submission.csv", text)
    real.write(tmp_path / "source/ILSVRC/Annotations/CLS-LOC/train/a/1.xml", b"<xml/>")
    manifest, _, report = converted(tmp_path / "source")
    assert counts(manifest) == {"train": 9, "validation": 6}
    assert "ILSVRC/Data/CLS-LOC/test/ (1 images): test images without labels" in report
    assert "ILSVRC/Annotations/ (0 images): no image" in report


# 5. and 6. Tables.


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


# 7. Labels beside the images.


LISTS = {
    "val.csv": ("path,label", "{name},{label}"),
    "val_labels.csv": ("filename,width,class", "{name},7,{label}"),
    "labels.csv": (None, "val/{name},{label}"),
    "val.txt": (None, "{name} {label}"),
    "validation.txt": (None, "val/{name} {index}"),
    "val/val_annotations.txt": (None, "{name}\t{label}\t0\t0\t9\t9"),
    "LOC_val_solution.csv": ("ImageId,PredictionString", "{stem},{label}"),
    "val.tsv": ("image\tlabel", "{name}\t{label}"),
}


@pytest.mark.parametrize("name", LISTS)
def test_lists_of_labels_for_a_flat_validation_folder(name, plant, converted, real):
    header, line = LISTS[name]
    source = plant(train__cat=2, train__dog=2, val=3)
    rows = [
        line.format(name=f"p{n}.jpg", stem=f"p{n}", label=label, index=("cat", "dog").index(label))
        for n, label in enumerate(("dog", "cat", "dog"))
    ]
    real.write(source / name, "\n".join([*([header] if header else []), *rows]).encode())
    manifest, stored, _ = converted(source)
    assert counts(manifest) == {"train": 4, "validation": 3}
    assert {row[1:] for row in stored if row[0] == "validation"} == {
        ("dog", "p0.jpg"),
        ("cat", "p1.jpg"),
        ("dog", "p2.jpg"),
    }
    assert list(manifest["source"]["used"]) == [name]


def test_a_flat_validation_folder_without_labels(plant, converted, refused):
    source = plant(train__cat=2, val=3)
    error = refused(source)
    for known in ("val.csv", "val.txt", "LOC_val_solution.csv", "synset_labels.txt", "kit"):
        assert known in error
    manifest, _, _ = converted(source, "--allow_unused")
    assert counts(manifest) == {"train": 2}


def test_a_list_that_lacks_an_image_or_has_a_wrong_number(plant, converted, refused, real):
    source = plant(train__cat=2, val=3)
    real.write(source / "val.txt", b"p0.jpg 0\np1.jpg 0\n")
    assert "val/p2.jpg cannot be used: no list has a label for it" in refused(source)
    assert counts(converted(source, "--max_bad=1")[0]) == {"train": 2, "validation": 2}
    for label in (b"-1", b"1"):
        real.write(source / "val.txt", b"p0.jpg 0\np1.jpg " + label + b"\np2.jpg 0\n")
        assert f"the label {label.decode()}: expected a class or a number of 0..0" in refused(
            source
        )
    real.write(source / "val.txt", b"p0.jpg 0\np0.jpg 0\np1.jpg\n")
    assert "expected an image and a label" in refused(source)


def test_training_images_with_a_table(plant, converted, real):
    """As in Kaggle's dog breeds: train/ID.jpg, labels.csv, and a test folder without labels."""
    source = plant(train=4, test=2)
    real.write(source / "labels.csv", b"id,breed\np0,pug\np1,boxer\np2,pug\np3,boxer\n")
    real.write(source / "sample_submission.csv", b"id,breed\np0,pug\np1,pug\n")
    manifest, stored, _ = converted(source)
    # Both folders have p0.jpg: the table's split is nowhere said, so it is training's.
    assert counts(manifest)["train"] == 4 and ("train", "pug", "p2.jpg") in stored


def test_a_table_with_several_columns_asks_for_the_labels(plant, converted, refused, real):
    source = plant(train=2)
    real.write(source / "labels.csv", b"id,age,diagnosis\np0,7,ill\np1,8,well\n")
    error = refused(source)
    assert "the columns id, age, diagnosis" in error and "--label_column=NAME" in error
    _, stored, _ = converted(source, "--label_column=diagnosis")
    assert {synset for _, synset, _ in stored} == {"ill", "well"}


def test_paths_from_another_system_and_from_the_root(plant, converted, real):
    source = plant(images=2)
    text = f"path,label\nimages\\p0.jpg,a\n{source}/images/p1.jpg,b\n"
    real.write(source / "labels.csv", text.encode())
    _, stored, _ = converted(source)
    assert {row[1:] for row in stored} == {("a", "p0.jpg"), ("b", "p1.jpg")}


def test_images_that_no_table_speaks_of(plant, refused, real):
    source = plant(images=3)
    real.write(source / "labels.csv", b"path,label\nimages/p0.jpg,a\nimages/p1.jpg,b\n")
    assert "images/p2.jpg cannot be used: no list has a label for it" in refused(
        source, "--layout=flat"
    )
    real.write(source / "train.csv", b"path,label\nimages/p0.jpg,a\nimages/p2.jpg,a\n")
    real.write(source / "val.csv", b"path,label\nimages/p0.jpg,a\n")
    error = refused(source, "--layout=flat")
    assert "images/p0.jpg is in" in error and "different splits" in error


# 9. Other formats, and names that look the same.


def encoded(kind, **options):
    out = io.BytesIO()
    Image.fromarray(np.arange(32 * 32 * 3, dtype=np.uint8).reshape(32, 32, 3)).save(
        out, kind, **options
    )
    return out.getvalue()


def test_images_of_other_formats(plant, converted, real):
    source = plant(train__cat=2)
    for name, kind in (("a.avif", "AVIF"), ("b.tif", "TIFF"), ("c.jp2", "JPEG2000")):
        real.write(source / "train" / "cat" / name, encoded(kind))
    assert counts(converted(source)[0]) == {"train": 5}
    heic = b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(64)
    real.write(source / "train" / "cat" / "d.heic", heic)
    manifest, _, report = converted(source, "--max_bad=1")
    assert counts(manifest) == {"train": 5}
    assert "left out: train/cat/d.heic: it is a HEIC file, which Pillow cannot decode" in report


def test_class_names_in_two_normal_forms_are_one_class(plant, converted):
    composed, decomposed = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    assert composed != decomposed
    source = plant(**{f"train__{composed}": 2, f"train__{decomposed}": 2, f"val__{decomposed}": 1})
    manifest, stored, _ = converted(source)
    assert counts(manifest) == {"train": 4, "validation": 1} and manifest["classes"] == 1
    assert {synset for _, synset, _ in stored} == {composed}


# 8. What is said about EXIF at conversion.


def test_images_with_an_orientation_are_spoken_of(plant, converted, real):
    source = plant(train__cat=2)
    exif = Image.Exif()
    exif[0x0112] = 6
    real.write(source / "train" / "cat" / "turned.jpg", encoded("JPEG", exif=exif))
    _, _, report = converted(source)
    assert "1 images have an EXIF orientation and were not turned: --apply_exif" in report
    _, _, report = converted(source, "--apply_exif")
    assert "EXIF orientation" not in report


# 10. A share of training for validation.


def test_a_validation_share(plant, converted, refused):
    source = plant(cat=10, dog=5, rare=1)
    _, _, report = converted(source)
    assert "There is no validation split: --validation_share=0.1" in report
    manifest, stored, report = converted(source, "--validation_share=0.4")
    assert counts(manifest) == {"train": 10, "validation": 6}
    assert "--validation_share" not in report
    assert manifest["settings"]["validation_share"] == 0.4
    by_class = [(split, synset) for split, synset, _ in stored]
    assert by_class.count(("validation", "cat")) == 4
    assert by_class.count(("validation", "dog")) == 2
    assert by_class.count(("train", "rare")) == 1  # every class keeps an image
    assert converted(source, "--validation_share=0.4")[1] == stored
    assert converted(source, "--validation_share=0.4", "--seed=1")[1] != stored


def test_a_validation_share_of_a_source_that_has_validation(plant, refused):
    error = refused(plant(train__cat=4, val__cat=2), "--validation_share=0.5")
    assert "without a validation split" in error and "2 validation" in error
    assert convert.main(["--source=x", "--output=y", "--validation_share=1.5"]) == 2


def test_a_manifest_without_a_setting_has_its_default(plant, tmp_path, capsys):
    flags = [f"--source={plant(cat=4)}", f"--output={tmp_path}/out", "--workers=1"]
    assert convert.main(flags) == 0
    manifest = records.read_manifest(f"{tmp_path}/out")
    for setting in ("validation_share", "allow_unused", "image_column", "label_column"):
        del manifest["settings"][setting]
    del manifest["source"]
    (tmp_path / "out" / "manifest.json").write_text(json.dumps(manifest))
    assert convert.main(flags) == 0
    assert checks.verify(f"{tmp_path}/out", 1)["problems"] == []
    assert convert.main([*flags, "--validation_share=0.5"]) == 1
    assert "validation_share=None, expected 0.5" in capsys.readouterr().err


# 11. Records as a source.


def test_tfrecords_are_pointed_to_training(tmp_path, refused, real):
    real.write(tmp_path / "source" / "train-00000-of-00001.tfrecord", b"record")
    error = refused(tmp_path / "source")
    assert "TFRecords" in error and "--data_dir" in error and "tfds:" in error


# --dry_run.


def test_a_dry_run_writes_nothing(plant, tmp_path, capsys, real):
    source = plant(train__cat=4, train__dog=2, val__cat=1, extra=2)
    real.write(source / "loose.jpg", b"x")
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    assert convert.main([f"--source={source}", "--dry_run"]) == 0
    text = capsys.readouterr().out
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before
    assert "the layout folders (train/<class>/* and val/<class>/*" in text
    assert "6 train, 1 validation images of 2 classes; 10 files" in text
    assert (
        "cat: 4 train, 1 validation: train/cat/p0.jpg, train/cat/p1.jpg, train/cat/p2.jpg" in text
    )
    assert "not used: extra/ (2 files, 2 images)" in text
    assert "The conversion would stop" in text and "--allow_unused" in text
    assert "loose.jpg cannot be used" in text


def test_a_table_in_another_order(tmp_path, real, jpg, converted):
    """Columns are found by their names, and quoted as CSV allows."""
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(["label", "comment", "path"])
    for n, label in enumerate(("a b", "c")):
        real.write(tmp_path / "source" / f"im,{n}.jpg", jpg(n))
        rows.writerow([label, "x, y", f"im,{n}.jpg"])
    real.write(tmp_path / "source" / "labels.csv", text.getvalue().encode())
    _, stored, _ = converted(tmp_path / "source")
    assert stored == {("train", "a b", "im,0.jpg"), ("train", "c", "im,1.jpg")}
