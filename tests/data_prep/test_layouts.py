"""Each layout is built as people have it, out of real images, and found by looking."""

import os

import pytest
import tensorflow_datasets as tfds

from alexnet_tf.data import preprocessing, records
from data_prep import layouts, listing, preparation

IMAGENET_LAYOUTS = {
    "tars": ["tars_2012", "tars_2012_with_devkit_folder", "tars_2010"],
    "folders": ["folders", "wrapped"],
    "flat": [
        *("flat_with_devkit", "flat_2010", "flat_with_caffe_list", "flat_with_synset_list"),
        "csv_beside_images",
    ],
    "kaggle": ["kaggle"],
    "parquet": ["parquet"],
}


@pytest.mark.parametrize(
    "name, build", [(name, build) for name, builds in IMAGENET_LAYOUTS.items() for build in builds]
)
def test_every_layout_of_imagenet_gives_the_same_data_set(
    name, build, images, sources, real, tmp_path
):
    getattr(sources, build)(tmp_path / "source", images, real)
    assert layouts.find(listing.Listing(str(tmp_path / "source"))).name == name
    output = str(tmp_path / "out")
    preparation.prepare(
        str(tmp_path / "source"), output, preparation.Settings(image_size=32), workers=1
    )
    builder = tfds.builder_from_directory(output)
    assert builder.info.features["label"].names == sources.SORTED
    stored = {
        split: sorted(
            (row["synset"].decode(), int(row["label"]), row["file_name"].decode(), row["image"])
            for row in tfds.as_numpy(
                builder.as_dataset(split=split, decoders={"image": tfds.decode.SkipDecoding()})
            )
        )
        for split in ("train", "validation")
    }
    from data_prep.images import Conversion, convert_image

    conversion = Conversion(image_size=32)

    def expected(synset, file_name, content):
        encoded = convert_image(content, file_name, conversion).encoded
        return synset, sources.SORTED.index(synset), file_name, encoded

    year = 2010 if "2010" in build else 2012
    train, validation = images
    assert stored["train"] == sorted(expected(*image) for image in train)
    assert stored["validation"] == sorted(
        expected(synset, sources.val_name(number, year), content)
        for number, synset, content in validation
    )
    assert not os.path.exists(f"{output}.partial")
    assert not os.path.exists(os.path.join(output, "unpacked"))


def test_a_tree_of_classes_without_splits_is_training(images, sources, real, tmp_path):
    sources.write_train_folders(tmp_path / "source", images[0], real)
    found = layouts.find(listing.Listing(str(tmp_path / "source")))
    assert found.name == "folders"
    assert {p.split for p in found.images(listing.Listing(str(tmp_path / "source")), "")} == {
        "train"
    }


def test_a_tfds_data_set_is_copied_without_decoding(images, sources, real, tmp_path):
    sources.folders(tmp_path / "folders", images, real)
    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    preparation.prepare(str(tmp_path / "folders"), first, preparation.Settings(image_size=64), 1)
    # An image of the right size is only re-encoded; stored raw, its pixels are the stored ones.
    settings = preparation.Settings(image_size=64, encoding="raw")
    preparation.prepare(f"tfds:{first}", second, settings, workers=1)

    def read(folder):
        return sorted(
            (row["file_name"], row["synset"], int(row["label"]), row["image"].tobytes())
            for row in tfds.as_numpy(tfds.builder_from_directory(folder).as_dataset(split="train"))
        )

    decoded = sorted(
        (
            row["file_name"],
            row["synset"],
            int(row["label"]),
            preprocessing.decode(row["image"]).numpy().tobytes(),
        )
        for row in tfds.as_numpy(
            tfds.builder_from_directory(first).as_dataset(
                split="train", decoders={"image": tfds.decode.SkipDecoding()}
            )
        )
    )
    assert read(second) == decoded
    assert records.open_dataset(second).counts == {"train": 9, "validation": 6}


def test_an_unknown_tfds_data_set(tmp_path):
    with pytest.raises(ValueError, match="TFDS cannot provide no_such_set"):
        preparation.prepare("tfds:no_such_set", str(tmp_path / "out"), workers=1)
    assert os.listdir(tmp_path) == []


def test_missing_pieces_are_all_listed(images, sources, real, tmp_path):
    sources.write_tars(tmp_path / "no_kit", images, real, devkit=None)
    with pytest.raises(FileNotFoundError) as caught:
        preparation.prepare(str(tmp_path / "no_kit"), str(tmp_path / "out"), workers=1)
    for name in ("ILSVRC2012_devkit_t12.tar.gz", "ILSVRC2012_devkit_t12/data/meta.mat"):
        assert f"{tmp_path}/no_kit/{name}" in str(caught.value)
    sources.tars_2012(tmp_path / "no_val", images, real)
    os.remove(tmp_path / "no_val" / "ILSVRC2012_img_val.tar")
    with pytest.raises(FileNotFoundError, match=f"{tmp_path}/no_val/ILSVRC2012_img_val.tar"):
        preparation.prepare(str(tmp_path / "no_val"), str(tmp_path / "out"), workers=1)
    sources.kaggle(tmp_path / "no_csv", images, real)
    os.remove(tmp_path / "no_csv" / "LOC_val_solution.csv")
    with pytest.raises(FileNotFoundError, match=r"LOC_val_solution\.csv"):
        preparation.prepare(str(tmp_path / "no_csv"), str(tmp_path / "out"), workers=1)


def test_two_plausible_layouts_are_asked_about(images, sources, real, tmp_path):
    source = tmp_path / "both"
    sources.tars_2012(source, images, real)
    sources.folders(source, images, real)
    with pytest.raises(ValueError, match=r"--layout=tars or --layout=folders"):
        preparation.prepare(str(source), str(tmp_path / "out"), workers=1)
    settings = preparation.Settings("tars", image_size=32)
    with pytest.raises(ValueError, match=r"train/ \(9 images\); val/ \(6 images\)"):
        preparation.prepare(str(source), str(tmp_path / "out"), settings, 1)
    settings = preparation.Settings("tars", image_size=32, allow_unused=True)
    manifest = preparation.prepare(str(source), str(tmp_path / "out"), settings, 1)
    assert manifest["counts"] == {"train": 9, "validation": 6}


def test_a_tar_that_was_cut_off(images, sources, real, tmp_path):
    sources.tars_2012(tmp_path / "cut", images, real)
    path = tmp_path / "cut" / "ILSVRC2012_img_train.tar"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match="no whole, uncompressed tar"):
        preparation.prepare(str(tmp_path / "cut"), str(tmp_path / "out"), workers=1)


def test_a_list_that_does_not_belong_to_the_images(images, sources, real, tmp_path):
    sources.flat_with_synset_list(tmp_path / "short", images, real)
    (tmp_path / "short" / "synset_labels.txt").write_text(f"{sources.SORTED[0]}\n")
    with pytest.raises(ValueError, match="has 1 lines but there is an image"):
        preparation.prepare(str(tmp_path / "short"), str(tmp_path / "out"), workers=1)


def test_repairs_in_a_tar_are_told_by_archive_and_name(images, sources, real, nasty, tmp_path):
    train, validation = images
    odd = (sources.SORTED[0], f"{sources.SORTED[0]}_2933.JPEG", nasty["png_as.jpg"])
    sources.tars_2012(tmp_path / "source", ([*train, odd], validation), real)
    manifest = preparation.prepare(str(tmp_path / "source"), str(tmp_path / "out"), workers=1)
    assert manifest["repairs"] == [
        [f"ILSVRC2012_img_train.tar:{sources.SORTED[0]}_2933.JPEG", "PNG named as JPEG"]
    ]
