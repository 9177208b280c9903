"""The record format of a prepared data set: one place that both writes and reads it.

A record is a `tf.train.Example` with four features. The directory around it is a TFDS data set, so
`tfds.builder_from_directory(path)` reads it on a machine that does not have this package.

    image       bytes   a JPEG of size x size, or (encoding "raw") the uint8 pixels, row by row
    label       int64   0-based index of the synset among the sorted synsets
    file_name   bytes   the picture's file name at its source
    synset      bytes   the class's synset, or folder name
"""

import dataclasses
import json

import numpy as np
import tensorflow as tf

DATASET_NAME = "imagenet"
DATASET_VERSION = "1.0.0"
ENCODINGS = ("jpeg", "raw")
STATISTICS_FILE = "statistics.npz"
MANIFEST_FILE = "manifest.json"


@dataclasses.dataclass(frozen=True)
class RecordFormat:
    """What the image bytes of a data set are.

    Attributes:
      image_size: height and width of every stored picture, in pixels.
      channels: 3 (RGB) or 1 (grey).
      encoding: "jpeg" or "raw" (uint8, height x width x channels, C order).
    """

    image_size: int = 256
    channels: int = 3
    encoding: str = "jpeg"

    def __post_init__(self):
        if self.encoding not in ENCODINGS:
            raise ValueError(f"Encoding {self.encoding!r} is not known: use one of {ENCODINGS}.")
        if self.channels not in (1, 3):
            raise ValueError(f"Pictures have 1 or 3 channels, not {self.channels}.")
        if self.image_size < 1:
            raise ValueError(f"Image size {self.image_size} is not positive.")

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of a stored picture."""
        return (self.image_size, self.image_size, self.channels)


def encode_example(image: bytes, label: int, file_name: str, synset: str) -> bytes:
    """Serialises one record; the inverse of `parse_example`."""

    def of_bytes(value):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    example = tf.train.Example(
        features=tf.train.Features(
            feature={
                "image": of_bytes(image),
                "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
                "file_name": of_bytes(file_name.encode()),
                "synset": of_bytes(synset.encode()),
            }
        )
    )
    # Maps have no order of their own in protobuf: without this, equal records may differ in bytes.
    return example.SerializeToString(deterministic=True)


def parse_example(serialized: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Parses one record or a batch of them into (image bytes: string, label: int64)."""
    specs = {
        "image": tf.io.FixedLenFeature([], tf.string),
        "label": tf.io.FixedLenFeature([], tf.int64),
    }
    parse = tf.io.parse_single_example if serialized.shape.rank == 0 else tf.io.parse_example
    features = parse(serialized, specs)
    return features["image"], features["label"]


def tfds_features(record_format: RecordFormat, synsets: list[str]):
    """The `tfds.features.FeaturesDict` of a data set in this format (imports TFDS)."""
    import tensorflow_datasets as tfds

    if record_format.encoding == "jpeg":
        image = tfds.features.Image(shape=record_format.shape, encoding_format="jpeg")
    else:
        # Without encoding="bytes" TFDS stores an integer list, half as large again.
        image = tfds.features.Tensor(shape=record_format.shape, dtype=np.uint8, encoding="bytes")
    return tfds.features.FeaturesDict(
        {
            "image": image,
            "label": tfds.features.ClassLabel(names=list(synsets)),
            "file_name": tfds.features.Text(),
            "synset": tfds.features.Text(),
        }
    )


@dataclasses.dataclass(frozen=True)
class PreparedDataset:
    """A prepared data set on disk, as its metadata describes it.

    Attributes:
      path: the directory.
      format: what the image bytes are.
      synsets: class names in label order.
      shards: split name -> file paths in shard order.
      counts: split name -> number of pictures.
    """

    path: str
    format: RecordFormat
    synsets: tuple[str, ...]
    shards: dict[str, tuple[str, ...]]
    counts: dict[str, int]

    @property
    def classes(self) -> int:
        return len(self.synsets)

    def require_split(self, split: str) -> None:
        """Raises ValueError unless the data set has pictures in `split`."""
        if not self.counts.get(split):
            have = ", ".join(f"{name} ({n})" for name, n in self.counts.items()) or "none"
            raise ValueError(
                f"{self.path} has no split {split!r}: it has {have}. Name one of these, or prepare "
                "the data again with `python -m data_prep.convert`."
            )

    def statistics(self) -> dict[str, np.ndarray]:
        """Mean image, RGB mean, principal components and the rest of `statistics.npz`."""
        path = f"{self.path}/{STATISTICS_FILE}"
        if not tf.io.gfile.exists(path):
            raise FileNotFoundError(
                f"{path} is missing: prepare the data again with `python -m data_prep.convert`."
            )
        with tf.io.gfile.GFile(path, "rb") as file, np.load(file) as arrays:
            return {name: arrays[name] for name in arrays.files}


def open_dataset(path: str) -> PreparedDataset:
    """Reads the metadata of a prepared data set.

    Raises:
      FileNotFoundError: the directory, its metadata or one of its shards is not there.
      ValueError: the directory holds something else.
    """
    path = str(path).rstrip("/")
    missing = "Name a directory that `python -m data_prep.convert` wrote."
    if not tf.io.gfile.isdir(path):
        raise FileNotFoundError(f"There is no directory {path}. {missing}")
    info_path, features_path = f"{path}/dataset_info.json", f"{path}/features.json"
    for needed in (info_path, features_path):
        if not tf.io.gfile.exists(needed):
            raise FileNotFoundError(
                f"{path} is no prepared data set: {needed} is missing. {missing}"
            )

    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(path)
    features = builder.info.features
    if not isinstance(features, tfds.features.FeaturesDict) or not {"image", "label"} <= set(
        features
    ):
        raise ValueError(
            f"{path} is a TFDS data set of another kind: found features {sorted(features)}, "
            f"expected image and label. {missing}"
        )
    shards = {
        name: tuple(str(file) for file in split.filepaths)
        for name, split in builder.info.splits.items()
    }
    for files in shards.values():
        for file in files:
            if not tf.io.gfile.exists(file):
                raise FileNotFoundError(
                    f"The shard {file} is missing. Run `python -m data_prep.verify "
                    f"--data_dir={path}` to see what else is."
                )
    image = features["image"]
    height, _, channels = image.shape
    encoding = "jpeg" if isinstance(image, tfds.features.Image) else "raw"
    return PreparedDataset(
        path=path,
        format=RecordFormat(height, channels, encoding),
        synsets=tuple(features["label"].names),
        shards=shards,
        counts={name: split.num_examples for name, split in builder.info.splits.items()},
    )


def read_manifest(path: str) -> dict:
    """The parsed `manifest.json` of the data set in directory `path`."""
    with tf.io.gfile.GFile(f"{path}/{MANIFEST_FILE}", "r") as file:
        return json.loads(file.read())
