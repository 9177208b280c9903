"""Hugging Face parquet files, and any TFDS image-classification data set."""

import json
import os
import re
from collections.abc import Iterator

from data_prep import storage
from data_prep.layouts import folders, unpack
from data_prep.plan import Picture

TFDS_PREFIX = "tfds:"
# HF's imagenet-1k names its classes in words, in the order of the sorted synsets.
_FIRST_IMAGENET_CLASS = "tench"


def parquet_fits(source: str) -> bool:
    return bool(_parquet_files(source))


def parquet(source: str, folder: str) -> Iterator[Picture]:
    """Files named as train-00000-of-00002.parquet, columns image {bytes, path} and label."""
    paths = _parquet_files(source)
    if not paths:
        raise FileNotFoundError(
            f"There are no parquet files; looked for {source}/*.parquet, {source}/data/*.parquet."
        )
    names = parquet_classes(source)
    for path, size in paths:
        split = _split_of(path)

        def read(path=path, split=split):
            return _rows(os.path.join(source, path), split, names)

        flat = path.replace("/", "-")
        yield from unpack.unpack(folder, flat, [path, size, names], read)


def parquet_classes(source: str) -> list[str]:
    """Class names in label order, from the files' Hugging Face metadata; else the numbers.

    For ImageNet's thousand classes these are the synsets.
    """
    import pyarrow.parquet

    labels: set[int] = set()
    for path, _ in _parquet_files(source):
        with storage.open_binary(os.path.join(source, path)) as file:
            table = pyarrow.parquet.ParquetFile(file)
            names = _names_in_metadata(table.schema_arrow.metadata or {})
            if names:
                return _synsets_for(names)
            column = table.read(columns=["label"])["label"]
            labels.update(column.unique().to_pylist())
    return [f"{label:04d}" for label in range(max(labels, default=-1) + 1)]


def tfds_fits(source: str) -> bool:
    return source.startswith(TFDS_PREFIX)


def tfds(source: str, folder: str) -> Iterator[Picture]:
    """`tfds:NAME[/CONFIG]` or `tfds:DIRECTORY`. The stored bytes are copied, not decoded."""
    import tensorflow_datasets

    builder = _builder(source)
    names = builder.info.features["label"].names
    for split, info in sorted(builder.info.splits.items()):
        if split not in folders.SPLIT_FOLDERS:
            continue

        def read(split=split):
            data = builder.as_dataset(
                split=split,
                shuffle_files=False,
                decoders={"image": tensorflow_datasets.decode.SkipDecoding()},
            )
            for number, row in enumerate(data.as_numpy_iterator()):
                name = row.get("file_name", b"").decode() or f"{split}_{number:08d}"
                yield folders.SPLIT_FOLDERS[split], name, names[row["label"]], row["image"]

        stamp = [builder.info.full_name, split, info.num_examples, info.num_bytes]
        yield from unpack.unpack(folder, split, stamp, read)


def tfds_classes(source: str) -> list[str]:
    return list(_builder(source).info.features["label"].names)


def _builder(source):
    import tensorflow_datasets

    name = source.removeprefix(TFDS_PREFIX)
    try:
        if storage.exists(os.path.join(name, "dataset_info.json")):
            builder = tensorflow_datasets.builder_from_directory(name)
        else:
            builder = tensorflow_datasets.builder(name)
            builder.download_and_prepare()
    except Exception as error:  # TFDS raises whatever its downloader does
        first = str(error).strip().splitlines()[:1]
        raise ValueError(
            f"TFDS cannot provide {name} ({type(error).__name__}: {' '.join(first)}): expected the "
            "name of a data set, as tfds:imagenette/320px-v2, or a directory that TFDS prepared."
        ) from None
    features = builder.info.features
    usable = (
        isinstance(features, tensorflow_datasets.features.FeaturesDict)
        and {"image", "label"} <= set(features)
        and isinstance(features["image"], tensorflow_datasets.features.Image)
        and isinstance(features["label"], tensorflow_datasets.features.ClassLabel)
    )
    if not usable:
        raise ValueError(
            f"The TFDS data set {name} has {' '.join(str(features).split())}: expected an Image "
            "called image and a ClassLabel called label."
        )
    return builder


def _parquet_files(source):
    found = []
    for folder in ("", "data"):
        for name, size in storage.files(os.path.join(source, folder)):
            if name.endswith(".parquet"):
                found.append((os.path.join(folder, name), size))
    return found


def _split_of(path):
    word = re.split(r"[-_.]", os.path.basename(path))[0]
    if word not in folders.SPLIT_FOLDERS:
        raise ValueError(
            f"{path} does not say which split it is: expected a name as "
            "train-00000-of-00002.parquet."
        )
    return folders.SPLIT_FOLDERS[word]


def _names_in_metadata(metadata):
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        return features["label"].get("names")
    except (KeyError, ValueError, AttributeError, TypeError):
        return None


def _synsets_for(names):
    if len(names) == 1000 and names[0].startswith(_FIRST_IMAGENET_CLASS):
        import tensorflow_datasets

        root = os.path.dirname(tensorflow_datasets.__file__)
        with open(os.path.join(root, "datasets/imagenet2012/labels.txt"), encoding="utf-8") as file:
            return file.read().split()
    return list(names)


def _rows(path, split, names):
    import pyarrow.parquet

    with storage.open_binary(path) as file:
        table = pyarrow.parquet.ParquetFile(file)
        if not {"image", "label"} <= set(table.schema_arrow.names):
            raise ValueError(
                f"{path} has the columns {table.schema_arrow.names}: expected image and label."
            )
        number = 0
        for batch in table.iter_batches(batch_size=64, columns=["image", "label"]):
            for row in batch.to_pylist():
                label = row["label"]
                if label is None or not 0 <= label < len(names):
                    raise ValueError(
                        f"{path} row {number} has the label {label}: expected 0..{len(names) - 1}."
                    )
                image = row["image"] or {}
                name = image.get("path") or f"{os.path.basename(path)}_{number:08d}"
                yield split, os.path.basename(name), names[label], image.get("bytes") or b""
                number += 1
