"""Sources as people have them, one function each: (root, images, real) -> files below root.

`images` are the fixture's of conftest.py: (synset, file name, JPEG bytes) of training and
(number, synset, bytes) of validation; `real` are its helpers.
"""

import csv
import gzip
import io
import json
import pickle
import struct
import tarfile

import cv2
import numpy as np
import scipy.io

# Devkit ids are in an order of their own: not that of the sorted synsets.
SYNSETS = {1: "n02119789", 2: "n02100735", 3: "n01440764"}
SORTED = sorted(SYNSETS.values())
VALIDATION_IDS = [3, 1, 2, 2, 3, 1]


def images(real):
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


def write_tars(root, images, real, year=2012, devkit="archive"):
    train, validation = images
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


def tars_2012(root, images, real):
    write_tars(root, images, real)


def tars_2012_with_devkit_folder(root, images, real):
    write_tars(root, images, real, devkit="ILSVRC2012_devkit_t12")


def tars_2010(root, images, real):
    write_tars(root, images, real, 2010)


def folders(root, images, real):
    write_train_folders(root / "train", images[0], real)
    for number, synset, content in images[1]:
        real.write(root / "val" / synset / val_name(number), content)
    real.write(root / "train" / SORTED[0] / ".DS_Store", b"hidden")
    real.write(root / "train" / SORTED[0] / "readme.txt", b"no image")


def flat_with_devkit(root, images, real, year=2012):
    write_train_folders(root / "train", images[0], real)
    for number, _, content in images[1]:
        real.write(root / "val" / val_name(number, year), content)
    for name, content in devkit_files(year).items():
        real.write(root / "devkit" / "data" / name, content)


def flat_2010(root, images, real):
    flat_with_devkit(root, images, real, 2010)


def flat_with_caffe_list(root, images, real):
    write_train_folders(root / "train", images[0], real)
    lines = []
    for number, synset, content in images[1]:
        real.write(root / "val" / val_name(number), content)
        lines.append(f"{val_name(number)} {SORTED.index(synset)}\n")
    real.write(root / "val.txt", "".join(lines).encode())


def flat_with_synset_list(root, images, real):
    write_train_folders(root / "train", images[0], real)
    for number, _, content in images[1]:
        real.write(root / "val" / val_name(number), content)
    lines = "".join(f"{synset}\n" for _, synset, _ in images[1])
    real.write(root / "synset_labels.txt", lines.encode())


def kaggle(root, images, real):
    data = root / "ILSVRC" / "Data" / "CLS-LOC"
    write_train_folders(data / "train", images[0], real)
    table = io.StringIO()
    rows = csv.writer(table)
    rows.writerow(["ImageId", "PredictionString"])
    for number, synset, content in reversed(images[1]):
        real.write(data / "val" / val_name(number), content)
        rows.writerow([val_name(number)[:-5], f"{synset} 1 2 30 40 {synset} 5 6 70 80 "])
    real.write(data / "test" / "ILSVRC2012_test_00000001.JPEG", images[0][0][2])
    real.write(root / "LOC_val_solution.csv", table.getvalue().encode())
    words = "".join(f"{s} some words\n" for s in SORTED)
    real.write(root / "LOC_synset_mapping.txt", words.encode())


def parquet(root, images, real):
    import pyarrow
    import pyarrow.parquet

    (root / "data").mkdir(parents=True)
    features = {
        "image": {"_type": "Image"},
        "label": {"_type": "ClassLabel", "names": SORTED},
    }
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    train = [(s, n, c) for s, n, c in images[0]]
    validation = [(s, val_name(number), c) for number, s, c in images[1]]
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


def _planes(encoded, size):
    """(pixels (n, size, size, 3), labels) of training and of validation."""

    def decoded(contents):
        images = [cv2.imdecode(np.frombuffer(c, np.uint8), cv2.IMREAD_COLOR) for c in contents]
        return np.stack([cv2.resize(image, (size, size))[..., ::-1] for image in images])

    train, validation = encoded
    return (
        (decoded([c for _, _, c in train]), [SORTED.index(s) for s, _, _ in train]),
        (decoded([c for _, _, c in validation]), [SORTED.index(s) for _, s, _ in validation]),
    )


def mnist(root, images, real):
    for prefix, (pixels, labels) in zip(("train", "t10k"), _planes(images, 28), strict=True):
        for what, ending, magic, values in (
            ("images", "idx3-ubyte", 2051, pixels[..., 0]),
            ("labels", "idx1-ubyte", 2049, np.array(labels, np.uint8)),
        ):
            content = struct.pack(f">{1 + values.ndim}I", magic, *values.shape) + values.tobytes()
            real.write(root / f"{prefix}-{what}-{ending}.gz", gzip.compress(content))


def cifar10(root, images, real):
    (train, labels), (test, test_labels) = _planes(images, 32)
    parts = [(f"data_batch_{n + 1}", train[n::5], labels[n::5]) for n in range(5)]
    for name, pixels, numbers in [*parts, ("test_batch", test, test_labels)]:
        planes = pixels.transpose(0, 3, 1, 2).reshape(len(numbers), 3072)
        batch = {b"data": planes, b"labels": numbers}
        real.write(root / "cifar-10-batches-py" / name, pickle.dumps(batch, protocol=2))


def tiny_imagenet(root, images, real):
    train, validation = images
    for synset, name, content in train:
        real.write(root / "train" / synset / "images" / name, content)
        real.write(
            root / "train" / synset / f"{synset}_boxes.txt", f"{name}\t0\t0\t9\t9\n".encode()
        )
    lines = []
    for number, synset, content in validation:
        real.write(root / "val" / "images" / f"val_{number}.JPEG", content)
        real.write(root / "test" / "images" / f"test_{number}.JPEG", content)
        lines.append(f"val_{number}.JPEG\t{synset}\t0\t32\t44\t62\n")
    real.write(root / "val" / "val_annotations.txt", "".join(lines).encode())
    real.write(root / "wnids.txt", "".join(f"{synset}\n" for synset in SORTED).encode())
    real.write(root / "words.txt", "".join(f"{s}\tsome words, more\n" for s in SORTED).encode())


def csv_beside_images(root, images, real):
    """All images in one folder, and a table for each split."""
    rows = {"train": ["path,label"], "val": ["path,label"]}
    for synset, name, content in images[0]:
        real.write(root / "images" / name, content)
        rows["train"].append(f"images/{name},{synset}")
    for number, synset, content in images[1]:
        real.write(root / "images" / val_name(number), content)
        rows["val"].append(f"images/{val_name(number)},{synset}")
    for split, lines in rows.items():
        real.write(root / f"{split}.csv", "\n".join(lines).encode())


def wrapped(root, images, real):
    folders(root / "dataset", images, real)


# name of the function -> layout
LAYOUTS = {
    "tars_2012": "tars",
    "tars_2012_with_devkit_folder": "tars",
    "tars_2010": "tars",
    "folders": "folders",
    "wrapped": "folders",
    "flat_with_devkit": "flat",
    "flat_2010": "flat",
    "flat_with_caffe_list": "flat",
    "flat_with_synset_list": "flat",
    "tiny_imagenet": "flat",
    "csv_beside_images": "flat",
    "kaggle": "kaggle",
    "parquet": "parquet",
    "mnist": "mnist",
    "cifar10": "cifar10",
}
