"""MNIST's idx files and CIFAR-10's batches: images as plain numbers.

They are copied as PNGs, which are lossless, and converted like all images. The published test set
is used for validation, because neither data set has another.
"""

import gzip
import io
import math
import os
import struct
import zlib
from collections.abc import Iterator

import cv2
import numpy as np

from alexnet_tf import pickles
from alexnet_tf.files import open_binary
from data_prep.layouts import staging
from data_prep.listing import Listing
from data_prep.plan import LeftOut, SourceImage

CIFAR10_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
MNIST_CLASSES = 10
_MNIST = {"train": "train", "t10k": "validation"}
_IMAGES_MAGIC, _LABELS_MAGIC = 2051, 2049  # unsigned bytes in 3 and in 1 dimensions
_CIFAR_RECORD = 3073  # binary: a label byte, then the red, green and blue plane of 32 x 32
_CIFAR_TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))
_CIFAR_TEST = "test_batch"


def mnist_fits(listing: Listing) -> bool:
    names = [file.name for file in listing.files()]
    return any("-images" in name and "idx3-ubyte" in name for name in names)


def mnist(listing: Listing, folder: str) -> Iterator[SourceImage | LeftOut]:
    """train-images-idx3-ubyte, train-labels-idx1-ubyte and t10k-..., gzipped or not."""
    for prefix, split in _MNIST.items():
        files = [
            listing.first(
                [
                    f"{prefix}-{what}{separator}{ending}{gz}"
                    for separator in ("-", ".")
                    for gz in ("", ".gz")
                ],
                f"A file of MNIST's {split} set",
            )
            for what, ending in (("images", "idx3-ubyte"), ("labels", "idx1-ubyte"))
        ]
        paths = [
            listing.use(file, f"{split} {what}")
            for file, what in zip(files, ("images", "labels"), strict=True)
        ]

        def read(paths=paths, prefix=prefix, split=split):
            images = _read_idx(paths[0], _IMAGES_MAGIC)
            labels = _read_idx(paths[1], _LABELS_MAGIC)
            if len(images) != len(labels):
                raise ValueError(
                    f"{paths[0]} has {len(images)} images but {paths[1]} has {len(labels)} "
                    "labels: use files that belong together."
                )
            if labels.size and labels.max() >= MNIST_CLASSES:
                raise ValueError(
                    f"{paths[1]} has labels up to {labels.max()}: expected MNIST's "
                    f"0..{MNIST_CLASSES - 1}."
                )
            for number, (image, label) in enumerate(zip(images, labels, strict=True)):
                yield split, f"{prefix}_{number:05d}.png", str(label), _png(image)

        yield from staging.unpack(folder, prefix, _stamp(listing, files), read)


def mnist_classes(_: Listing) -> list[str]:
    return [str(digit) for digit in range(MNIST_CLASSES)]


def cifar10_fits(listing: Listing) -> bool:
    return _cifar_root(listing) is not None


def cifar10(listing: Listing, folder: str) -> Iterator[SourceImage | LeftOut]:
    """data_batch_1 .. 5 and test_batch, as Python pickles or as .bin files."""
    root = _cifar_root(listing)
    if root is None:
        raise FileNotFoundError(
            f"CIFAR-10's batches are missing; looked for {listing.source}/data_batch_1, "
            f"{listing.source}/data_batch_1.bin and the same in its folders."
        )
    for name in (*_CIFAR_TRAIN, _CIFAR_TEST):
        file = listing.first(
            [os.path.join(root, name), os.path.join(root, f"{name}.bin")], f"CIFAR-10's {name}"
        )
        split = "validation" if name == _CIFAR_TEST else "train"
        path = listing.use(file, f"{split} images")

        def read(path=path, name=name, split=split):
            images, labels = _read_cifar(path)
            for number, (image, label) in enumerate(zip(images, labels, strict=True)):
                yield split, f"{name}_{number:05d}.png", CIFAR10_CLASSES[label], _png(image)

        yield from staging.unpack(folder, name, _stamp(listing, [file]), read)


def cifar10_classes(_: Listing) -> list[str]:
    return list(CIFAR10_CLASSES)


def _stamp(listing, paths):
    return [list(listing.find(path)) for path in paths]


def _png(pixels):
    """uint8 (h, w) or (h, w, 3) RGB."""
    return cv2.imencode(".png", pixels if pixels.ndim == 2 else pixels[..., ::-1])[1].tobytes()


def _read_idx(path, magic):
    with open_binary(path) as file:
        content = file.read()
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{path} is a damaged gzip file ({error}): get it again.") from None
    found = int.from_bytes(content[:4], "big")
    if found != magic:
        raise ValueError(f"{path} starts with the number {found}, expected idx's {magic}.")
    dimensions = magic & 0xFF
    begin = 4 + 4 * dimensions
    if len(content) < begin:
        raise ValueError(f"{path} ends in its header, at byte {len(content)}: get it again.")
    shape = struct.unpack(f">{dimensions}I", content[4:begin])
    values = np.frombuffer(content, np.uint8, offset=begin)
    if values.size != math.prod(shape):
        raise ValueError(
            f"{path} holds {values.size} numbers, its header says {shape}: get it again."
        )
    return values.reshape(shape)


def _cifar_root(listing):
    for folder in ("", *listing.visible_folders()):
        for name in ("data_batch_1", "data_batch_1.bin"):
            if listing.find(os.path.join(folder, name)):
                return folder
    return None


def _read_cifar(path):
    """(uint8 (n, 32, 32, 3), labels)."""
    with open_binary(path) as file:
        content = file.read()
    if path.endswith(".bin"):
        if len(content) % _CIFAR_RECORD:
            raise ValueError(
                f"{path} has {len(content)} bytes: expected a multiple of {_CIFAR_RECORD}, as in "
                "CIFAR-10's binary version."
            )
        rows = np.frombuffer(content, np.uint8).reshape(-1, _CIFAR_RECORD)
        planes, labels = rows[:, 1:], rows[:, 0]
    else:
        try:
            batch = pickles.load(io.BytesIO(content), pickles.numpy_names())
            # Texts of the published files, which Python 2 wrote; bytes if Python 3 repacked them.
            keys = ("data", "labels") if "data" in batch else (b"data", b"labels")
            planes, labels = np.asarray(batch[keys[0]], np.uint8), np.asarray(batch[keys[1]])
            labels = labels.astype(np.int64, casting="safe") if labels.size else labels
            planes = planes.reshape(labels.size, 3072)
        except Exception as error:  # what a damaged pickle builds may fail in any way
            raise ValueError(
                f"{path} is no batch of CIFAR-10's Python version ({type(error).__name__}: "
                f"{error}): get it again."
            ) from None
    if labels.size and not 0 <= int(labels.min()) <= int(labels.max()) < len(CIFAR10_CLASSES):
        raise ValueError(f"{path} has labels up to {labels.max()}: expected CIFAR-10's 0..9.")
    return planes.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), [int(label) for label in labels]
