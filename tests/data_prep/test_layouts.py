"""Each layout is built as people have it, out of real pictures, and found by looking."""

import csv
import io
import json
import os
import tarfile

import numpy as np
import pytest
import scipy.io
import tensorflow_datasets as tfds

from alexnet_tf.data import preprocessing, records
from data_prep import layouts, listing, preparation

# Devkit ids are in an order of their own: not that of the sorted synsets.
SYNSETS = {1: "n02119789", 2: "n02100735", 3: "n01440764"}
SORTED = sorted(SYNSETS.values())
VALIDATION_IDS = [3, 1, 2, 2, 3, 1]


@pytest.fixture(scope="module")
def pictures(real):
    """(synset, file name, JPEG bytes) of training and (number, synset, bytes) of validation."""
    names = dict(zip(SYNSETS.values(), ("chelsea", "coffee", "motorcycle_left"), strict=True))
    train = [
        (synset, f"{synset}_{number}.JPEG", real.jpeg(real.photograph(name, 60, 80 + number)))
        for synset, name in names.items()
        for number in (7, 12, 133)
    ]
    validation = [
        (number, SYNSETS[i], real.jpeg(real.photograph(names[SYNSETS[i]], 90 + number, 70)))
        for number, i in enumerate(VALIDATION_IDS, 1)
    ]
    return train, validation


def val_name(number, year=2012):
    return f"ILSVRC{year}_val_{number:08d}.JPEG"


def tar_of(entries, mode="w"):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:
        for name, content in entries:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def devkit_files(year=2012):
    dtype = [(f"ILSVRC{year}_ID", "O"), ("WNID", "O"), ("words", "O")]
    synsets = np.array([(i, wnid, f"words of {wnid}") for i, wnid in SYNSETS.items()], dtype)
    meta = io.BytesIO()
    scipy.io.savemat(meta, {"synsets": synsets})
    truth = "".join(f"{i}\n" for i in VALIDATION_IDS).encode()
    return {"meta.mat": meta.getvalue(), f"ILSVRC{year}_validation_ground_truth.txt": truth}


def write_train_folders(root, train, real):
    for synset, name, content in train:
        real.write(root / synset / name, content)


def write_tars(root, pictures, real, year=2012, devkit="archive"):
    train, validation = pictures
    kind = "img" if year == 2012 else "images"
    inner = [
        (f"{synset}.tar", tar_of([(n, c) for s, n, c in train if s == synset]))
        for synset in SYNSETS.values()
    ]
    real.write(root / f"ILSVRC{year}_{kind}_train.tar", tar_of(inner))
    flat = [(val_name(number, year), content) for number, _, content in validation]
    # Members in another order than their numbers: labels must follow the numbers.
    real.write(root / f"ILSVRC{year}_{kind}_val.tar", tar_of(flat[::-1]))
    files = devkit_files(year)
    if devkit == "archive":
        folder = "ILSVRC2012_devkit_t12" if year == 2012 else "devkit-1.0"
        name = f"{folder}.tar.gz" if year == 2012 else "ILSVRC2010_devkit-1.0.tar.gz"
        entries = [(f"{folder}/data/{n}", c) for n, c in files.items()]
        real.write(root / name, tar_of(entries, "w:gz"))
    elif devkit:
        for name, content in files.items():
            real.write(root / devkit / "data" / name, content)


def tars_2012(root, pictures, real):
    write_tars(root, pictures, real)


def tars_2012_with_devkit_folder(root, pictures, real):
    write_tars(root, pictures, real, devkit="ILSVRC2012_devkit_t12")


def tars_2010(root, pictures, real):
    write_tars(root, pictures, real, 2010)


def folders(root, pictures, real):
    write_train_folders(root / "train", pictures[0], real)
    for number, synset, content in pictures[1]:
        real.write(root / "val" / synset / val_name(number), content)
    real.write(root / "train" / SORTED[0] / ".DS_Store", b"hidden")
    real.write(root / "train" / SORTED[0] / "readme.txt", b"no picture")


def flat_with_devkit(root, pictures, real, year=2012):
    write_train_folders(root / "train", pictures[0], real)
    for number, _, content in pictures[1]:
        real.write(root / "val" / val_name(number, year), content)
    for name, content in devkit_files(year).items():
        real.write(root / "devkit" / "data" / name, content)


def flat_2010(root, pictures, real):
    flat_with_devkit(root, pictures, real, 2010)


def flat_with_caffe_list(root, pictures, real):
    write_train_folders(root / "train", pictures[0], real)
    lines = []
    for number, synset, content in pictures[1]:
        real.write(root / "val" / val_name(number), content)
        lines.append(f"{val_name(number)} {SORTED.index(synset)}\n")
    real.write(root / "val.txt", "".join(lines).encode())


def flat_with_synset_list(root, pictures, real):
    write_train_folders(root / "train", pictures[0], real)
    for number, _, content in pictures[1]:
        real.write(root / "val" / val_name(number), content)
    lines = "".join(f"{synset}\n" for _, synset, _ in pictures[1])
    real.write(root / "synset_labels.txt", lines.encode())


def kaggle(root, pictures, real):
    data = root / "ILSVRC" / "Data" / "CLS-LOC"
    write_train_folders(data / "train", pictures[0], real)
    table = io.StringIO()
    rows = csv.writer(table)
    rows.writerow(["ImageId", "PredictionString"])
    for number, synset, content in reversed(pictures[1]):
        real.write(data / "val" / val_name(number), content)
        rows.writerow([val_name(number)[:-5], f"{synset} 1 2 30 40 {synset} 5 6 70 80 "])
    real.write(data / "test" / "ILSVRC2012_test_00000001.JPEG", pictures[0][0][2])
    real.write(root / "LOC_val_solution.csv", table.getvalue().encode())
    words = "".join(f"{s} some words\n" for s in SORTED)
    real.write(root / "LOC_synset_mapping.txt", words.encode())


def parquet(root, pictures, real):
    import pyarrow
    import pyarrow.parquet

    (root / "data").mkdir(parents=True)
    features = {
        "image": {"_type": "Image"},
        "label": {"_type": "ClassLabel", "names": SORTED},
    }
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    train = [(s, n, c) for s, n, c in pictures[0]]
    validation = [(s, val_name(number), c) for number, s, c in pictures[1]]
    parts = {
        "train-00000-of-00002": train[:5],
        "train-00001-of-00002": train[5:],
        "validation-00000-of-00001": validation,
    }
    for name, rows in parts.items():
        table = pyarrow.table(
            {
                "image": [{"bytes": c, "path": n} for _, n, c in rows],
                "label": [SORTED.index(s) for s, _, _ in rows],
            }
        ).replace_schema_metadata(metadata)
        pyarrow.parquet.write_table(table, root / "data" / f"{name}.parquet")


IMAGENET_LAYOUTS = {
    "tars": [tars_2012, tars_2012_with_devkit_folder, tars_2010],
    "folders": [folders],
    "flat": [flat_with_devkit, flat_2010, flat_with_caffe_list, flat_with_synset_list],
    "kaggle": [kaggle],
    "parquet": [parquet],
}


@pytest.mark.parametrize(
    "name, build", [(name, build) for name, builds in IMAGENET_LAYOUTS.items() for build in builds]
)
def test_every_layout_of_imagenet_gives_the_same_data_set(name, build, pictures, real, tmp_path):
    build(tmp_path / "source", pictures, real)
    assert layouts.find(listing.Listing(str(tmp_path / "source"))).name == name
    output = str(tmp_path / "out")
    preparation.prepare(
        str(tmp_path / "source"), output, preparation.Settings(image_size=32), workers=1
    )
    builder = tfds.builder_from_directory(output)
    assert builder.info.features["label"].names == SORTED
    stored = {
        split: sorted(
            (row["synset"].decode(), int(row["label"]), row["file_name"].decode(), row["image"])
            for row in tfds.as_numpy(
                builder.as_dataset(split=split, decoders={"image": tfds.decode.SkipDecoding()})
            )
        )
        for split in ("train", "validation")
    }
    from data_prep import images

    conversion = images.Conversion(image_size=32)

    def expected(synset, file_name, content):
        encoded = images.convert_picture(content, file_name, conversion).encoded
        return synset, SORTED.index(synset), file_name, encoded

    year = 2010 if "2010" in build.__name__ else 2012
    train, validation = pictures
    assert stored["train"] == sorted(expected(*picture) for picture in train)
    assert stored["validation"] == sorted(
        expected(synset, val_name(number, year), content) for number, synset, content in validation
    )
    assert not os.path.exists(f"{output}.partial")
    assert not os.path.exists(os.path.join(output, "unpacked"))


def test_a_tree_of_classes_without_splits_is_training(pictures, real, tmp_path):
    write_train_folders(tmp_path / "source", pictures[0], real)
    found = layouts.find(listing.Listing(str(tmp_path / "source")))
    assert found.name == "folders"
    assert {p.split for p in found.pictures(listing.Listing(str(tmp_path / "source")), "")} == {
        "train"
    }


def test_a_tfds_data_set_is_copied_without_decoding(pictures, real, tmp_path):
    folders(tmp_path / "folders", pictures, real)
    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    preparation.prepare(str(tmp_path / "folders"), first, preparation.Settings(image_size=64), 1)
    # A picture of the right size is only re-encoded; stored raw, its pixels are the stored ones.
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


def test_missing_pieces_are_all_listed(pictures, real, tmp_path):
    write_tars(tmp_path / "no_kit", pictures, real, devkit=None)
    with pytest.raises(FileNotFoundError) as caught:
        preparation.prepare(str(tmp_path / "no_kit"), str(tmp_path / "out"), workers=1)
    for name in ("ILSVRC2012_devkit_t12.tar.gz", "ILSVRC2012_devkit_t12/data/meta.mat"):
        assert f"{tmp_path}/no_kit/{name}" in str(caught.value)
    tars_2012(tmp_path / "no_val", pictures, real)
    os.remove(tmp_path / "no_val" / "ILSVRC2012_img_val.tar")
    with pytest.raises(FileNotFoundError, match=f"{tmp_path}/no_val/ILSVRC2012_img_val.tar"):
        preparation.prepare(str(tmp_path / "no_val"), str(tmp_path / "out"), workers=1)
    kaggle(tmp_path / "no_csv", pictures, real)
    os.remove(tmp_path / "no_csv" / "LOC_val_solution.csv")
    with pytest.raises(FileNotFoundError, match=r"LOC_val_solution\.csv"):
        preparation.prepare(str(tmp_path / "no_csv"), str(tmp_path / "out"), workers=1)


def test_two_plausible_layouts_are_asked_about(pictures, real, tmp_path):
    source = tmp_path / "both"
    tars_2012(source, pictures, real)
    folders(source, pictures, real)
    with pytest.raises(ValueError, match=r"--layout=tars or --layout=folders"):
        preparation.prepare(str(source), str(tmp_path / "out"), workers=1)
    settings = preparation.Settings("tars", image_size=32)
    with pytest.raises(ValueError, match=r"train/ \(9 images\); val/ \(6 images\)"):
        preparation.prepare(str(source), str(tmp_path / "out"), settings, 1)
    settings = preparation.Settings("tars", image_size=32, allow_unused=True)
    manifest = preparation.prepare(str(source), str(tmp_path / "out"), settings, 1)
    assert manifest["counts"] == {"train": 9, "validation": 6}


def test_a_tar_that_was_cut_off(pictures, real, tmp_path):
    tars_2012(tmp_path / "cut", pictures, real)
    path = tmp_path / "cut" / "ILSVRC2012_img_train.tar"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match="no whole, uncompressed tar"):
        preparation.prepare(str(tmp_path / "cut"), str(tmp_path / "out"), workers=1)


def test_a_list_that_does_not_belong_to_the_pictures(pictures, real, tmp_path):
    flat_with_synset_list(tmp_path / "short", pictures, real)
    (tmp_path / "short" / "synset_labels.txt").write_text(f"{SORTED[0]}\n")
    with pytest.raises(ValueError, match="has 1 lines but there is a picture"):
        preparation.prepare(str(tmp_path / "short"), str(tmp_path / "out"), workers=1)


def test_repairs_in_a_tar_are_told_by_archive_and_name(pictures, real, nasty, tmp_path):
    train, validation = pictures
    odd = (SORTED[0], f"{SORTED[0]}_2933.JPEG", nasty["png_as.jpg"])
    tars_2012(tmp_path / "source", ([*train, odd], validation), real)
    manifest = preparation.prepare(str(tmp_path / "source"), str(tmp_path / "out"), workers=1)
    assert manifest["repairs"] == [
        [f"ILSVRC2012_img_train.tar:{SORTED[0]}_2933.JPEG", "PNG named as JPEG"]
    ]
