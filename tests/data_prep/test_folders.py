"""Class folders as people report them: converted to the last image, or refused in one sentence."""

import io
import json
import unicodedata

import numpy as np
import pytest
from PIL import Image

from alexnet_tf.data import records
from data_prep import checks, convert


def counts(manifest):
    return manifest["counts"]


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


def test_images_with_an_orientation_are_spoken_of(plant, converted, real):
    source = plant(train__cat=2)
    exif = Image.Exif()
    exif[0x0112] = 6
    real.write(source / "train" / "cat" / "turned.jpg", encoded("JPEG", exif=exif))
    _, _, report = converted(source)
    assert "1 images have an EXIF orientation and were not turned: --apply_exif" in report
    _, _, report = converted(source, "--apply_exif")
    assert "EXIF orientation" not in report


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


def test_tfrecords_are_pointed_to_training(tmp_path, refused, real):
    real.write(tmp_path / "source" / "train-00000-of-00001.tfrecord", b"record")
    error = refused(tmp_path / "source")
    assert "TFRecords" in error and "--data_dir" in error and "tfds:" in error


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
