"""Lists of labels beside images, in the forms in which people have them."""

import csv
import io

import pytest


def counts(manifest):
    return manifest["counts"]


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
