"""Data sets that come as arrays: MNIST's idx files and CIFAR-10's batches."""

import gzip
import os
import pickle
import struct

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds

from data_prep import preparation
from data_prep.layouts import arrays


def digits(real):
    """28 x 28 cut-outs of a photograph stand in for digits: the format is what is tested."""
    grey = cv2.cvtColor(real.photograph("coffee", 400, 400), cv2.COLOR_RGB2GRAY)
    return np.stack([grey[i * 9 : i * 9 + 28, i * 7 : i * 7 + 28] for i in range(30)])


@pytest.mark.parametrize("zipped", [False, True])
def test_mnist(zipped, real, tmp_path):
    pixels, labels = digits(real), np.arange(30, dtype=np.uint8) % 10
    parts = {"train": slice(0, 20), "t10k": slice(20, 30)}
    for prefix, part in parts.items():
        for what, ending, magic, values in (
            ("images", "idx3-ubyte", 2051, pixels[part]),
            ("labels", "idx1-ubyte", 2049, labels[part]),
        ):
            content = struct.pack(f">{1 + values.ndim}I", magic, *values.shape) + values.tobytes()
            name = f"{prefix}-{what}-{ending}" + (".gz" if zipped else "")
            real.write(tmp_path / "mnist" / name, gzip.compress(content) if zipped else content)
    output = str(tmp_path / "out")
    preparation.prepare(
        str(tmp_path / "mnist"), output, preparation.Settings(encoding="raw"), workers=1
    )
    check_arrays(output, (28, 28, 1), pixels[..., None], labels, [str(i) for i in range(10)], 20)


@pytest.mark.parametrize("kind", ["python 2", "python 3", "binary"])
def test_cifar10(kind, real, tmp_path):
    photo = real.photograph("motorcycle_left", 300, 400)
    pixels = np.stack([photo[i * 4 : i * 4 + 32, i * 6 : i * 6 + 32] for i in range(60)])
    labels = np.arange(60, dtype=np.uint8) % 10
    root = tmp_path / "cifar" / "cifar-10-batches-py"
    for number in range(6):
        part = slice(number * 10, number * 10 + 10)
        planes = pixels[part].transpose(0, 3, 1, 2).reshape(10, 3072)
        name = "test_batch" if number == 5 else f"data_batch_{number + 1}"
        batch = {"data": planes, "labels": labels[part].tolist()}
        if kind == "python 2":  # as the published files; only the opcode of its texts differs
            content = pickle.dumps(batch, protocol=2)
            for key in (b"data", b"labels"):
                written, wanted = (head % len(key) + key for head in (b"X%c\0\0\0", b"U%c"))
                assert written in content
                content = content.replace(written, wanted)
            real.write(root / name, content)
        elif kind == "python 3":
            batch = {key.encode(): value for key, value in batch.items()}
            real.write(root / name, pickle.dumps(batch, protocol=5))
        else:
            rows = np.concatenate([labels[part, None], planes], axis=1)
            real.write(root / f"{name}.bin", rows.tobytes())
    output = str(tmp_path / "out")
    settings = preparation.Settings(encoding="raw")
    preparation.prepare(str(tmp_path / "cifar"), output, settings, workers=1)
    check_arrays(output, (32, 32, 3), pixels, labels, list(arrays.CIFAR10_CLASSES), 50)


def check_arrays(output, shape, pixels, labels, names, train):
    builder = tfds.builder_from_directory(output)
    assert builder.info.features["label"].names == names
    assert builder.info.features["image"].shape == shape
    stored = {
        split: sorted(
            (int(row["label"]), row["image"].tobytes())
            for row in tfds.as_numpy(builder.as_dataset(split=split))
        )
        for split in ("train", "validation")
    }
    given = [(int(label), image.tobytes()) for label, image in zip(labels, pixels, strict=True)]
    assert stored["train"] == sorted(given[:train])
    assert stored["validation"] == sorted(given[train:])


def test_a_pickle_cannot_run_code(real, tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/owned",)

    for number in range(1, 6):
        real.write(tmp_path / "cifar" / f"data_batch_{number}", pickle.dumps({b"data": Evil()}))
    real.write(tmp_path / "cifar" / "test_batch", b"")
    with pytest.raises(ValueError, match=r"asks for .*system"):
        preparation.prepare(str(tmp_path / "cifar"), str(tmp_path / "out"), workers=1)
    assert not (tmp_path / "owned").exists()


def test_mnist_labels_beyond_the_digits(real, tmp_path):
    """EMNIST's letters count to 26, in files of the same names."""
    pixels = digits(real)[:2]
    for prefix in ("train", "t10k"):
        for what, ending, magic, values in (
            ("images", "idx3-ubyte", 2051, pixels),
            ("labels", "idx1-ubyte", 2049, np.array([3, 26], np.uint8)),
        ):
            content = struct.pack(f">{1 + values.ndim}I", magic, *values.shape) + values.tobytes()
            real.write(tmp_path / "mnist" / f"{prefix}-{what}-{ending}", content)
    with pytest.raises(ValueError, match=r"labels up to 26: expected MNIST's 0\.\.9"):
        preparation.prepare(str(tmp_path / "mnist"), str(tmp_path / "out"), workers=1)
