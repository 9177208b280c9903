"""The record format of a prepared data set: writes and reads it.

A record is a `tf.train.Example` with four features. The directory around it is a TFDS data set, so
`tfds.builder_from_directory(path)` reads it on a machine that does not have this package.

    image       bytes   a JPEG of size x size, or (encoding "raw") the uint8 pixels, row by row
    label       int64   0-based index of the synset among the sorted synsets
    file_name   bytes   the image's file name at its source
    synset      bytes   the class's synset, or folder name
"""

import dataclasses
import json

import numpy as np
import tensorflow as tf

from alexnet_tf.data import external, unprepared
from alexnet_tf.data.external import RecordKeys
from alexnet_tf.data.options import with_options

DATASET_NAME = "imagenet"
DATASET_VERSION = "1.0.0"
ENCODINGS = ("jpeg", "raw", "any")
_OWN_KEYS = RecordKeys()
# Where a record says what its image was called: here and in TFDS, in Inception's.
_FILE_NAMES = ("file_name", "image/filename")
STATISTICS_FILE = "statistics.npz"
MANIFEST_FILE = "manifest.json"


@dataclasses.dataclass(frozen=True)
class RecordFormat:
    """What the image bytes of a data set are.

    Attributes:
      image_size: height and width in pixels of every stored image; with the encoding "any", of the
        image after reading.
      channels: 3 (RGB) or 1 (grey).
      encoding: "jpeg" or "raw" (uint8, height x width x channels, C order); in data sets that
        others wrote also "any": JPEG, PNG, GIF or BMP of any size.
      apply_exif: with "any", whether images are turned as their EXIF orientation says when they
        are read. Ours were turned when they were written, or are not turned at all.
    """

    image_size: int = 256
    channels: int = 3
    encoding: str = "jpeg"
    apply_exif: bool = False

    def __post_init__(self):
        if self.encoding not in ENCODINGS:
            raise ValueError(f"Encoding {self.encoding!r} is not known: use one of {ENCODINGS}.")
        if self.channels not in (1, 3):
            raise ValueError(f"Images have 1 or 3 channels, not {self.channels}.")
        if self.image_size < 1:
            raise ValueError(f"Image size {self.image_size} is not positive.")

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of a stored image."""
        return (self.image_size, self.image_size, self.channels)


def encode_example(image: bytes, label: int, file_name: str, synset: str) -> bytes:
    """Serialises one record; the inverse of `parse_example`."""
    # Filled in place: nested constructors would copy the image at each level.
    example = tf.train.Example()
    feature = example.features.feature
    feature["image"].bytes_list.value.append(image)
    feature["label"].int64_list.value.append(label)
    feature["file_name"].bytes_list.value.append(
        file_name.encode("utf-8", "surrogateescape")  # a file system's names need not be text
    )
    feature["synset"].bytes_list.value.append(synset.encode())
    # Protobuf maps are unordered: without this, equal records may differ in bytes.
    return example.SerializeToString(deterministic=True)


def parse_example(
    serialized: tf.Tensor, keys: RecordKeys = _OWN_KEYS
) -> tuple[tf.Tensor, tf.Tensor]:
    """Parses one record or a batch of them into (image bytes: string, label: int64, from 0)."""
    specs = {
        keys.image: tf.io.FixedLenFeature([], tf.string),
        keys.label: tf.io.FixedLenFeature([], tf.int64),
    }
    parse = tf.io.parse_single_example if serialized.shape.rank == 0 else tf.io.parse_example
    features = parse(serialized, specs)
    return features[keys.image], features[keys.label] - keys.first_label


def names_and_labels(dataset: "PreparedDataset", split: str) -> tuple[tuple[str, ...], np.ndarray]:
    """The file name and the label of each image of a split, in the records' order.

    Nothing is decoded. A record without a file name is called SPLIT/NUMBER.

    Returns:
      (names, int64 labels (n,)); -1 for an image without a label.

    Raises:
      ValueError: the split is missing or damaged.
    """
    dataset.require_split(split)
    keys = dataset.keys
    specs = {
        keys.label: tf.io.FixedLenFeature([], tf.int64),
        **{name: tf.io.FixedLenFeature([], tf.string, "") for name in _FILE_NAMES},
    }
    files = tf.data.TFRecordDataset(list(dataset.shards[split]), buffer_size=8 << 20)
    names: list[str] = []
    labels = [np.zeros(0, np.int64)]
    try:
        batches = files.batch(256).map(lambda serialized: tf.io.parse_example(serialized, specs))
        for batch in with_options(batches):
            found = [batch[name].numpy() for name in _FILE_NAMES]
            for each in zip(*found, strict=True):
                name = next(filter(None, each), f"{split}/{len(names)}".encode())
                names.append(name.decode("utf-8", "surrogateescape"))
            labels.append(batch[keys.label].numpy() - keys.first_label)
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError) as error:
        raise ValueError(
            f"The records of {split} of {dataset.path} are damaged: run "
            f"`python -m data_prep.verify --data_dir={dataset.path}`, or get the data again."
        ) from error
    return tuple(names), np.concatenate(labels)


def tfds_features(record_format: RecordFormat, synsets: list[str]):
    """The `tfds.features.FeaturesDict` of a data set in this format."""
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
    """A data set on disk: a prepared one, or one that others wrote.

    Attributes:
      path: the directory.
      format: what the image bytes are.
      synsets: class names in label order.
      shards: split name -> file paths in shard order.
      counts: split name -> number of images.
      keys: where a record's image and label are.
      shard_counts: split name -> number of images in each shard, where the metadata says it.
      turned: whether `data_prep` turned the images as their EXIF orientation says; None for a
        data set that others wrote.
      one_size: whether all images have the size format.image_size; if not, they are resized to it,
        and `viewed` chooses it.
    """

    path: str
    format: RecordFormat
    synsets: tuple[str, ...]
    shards: dict[str, tuple[str, ...]]
    counts: dict[str, int]
    keys: RecordKeys = _OWN_KEYS
    shard_counts: dict[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    one_size: bool = True
    turned: bool | None = None

    @property
    def classes(self) -> int:
        return len(self.synsets)

    def viewed(self, image_size: int, channels: int, apply_exif: bool = False) -> "PreparedDataset":
        """The data set as a network wants to see it; raw images and ours stay as they are stored.

        Args:
          image_size: side to which images of any size are resized.
          channels: 1 or 3, to which encoded images are decoded.
          apply_exif: whether images of other programs are turned by their EXIF orientation.
        """
        turns = apply_exif and self.turned is None and self.format.encoding == "jpeg"
        if self.format.encoding != "any" and not turns:
            return self
        size = self.format.image_size if self.one_size else image_size
        return dataclasses.replace(self, format=RecordFormat(size, channels, "any", apply_exif))

    def exif_note(self, trained_so: bool | None) -> str | None:
        """A warning if a network was trained on images with the other EXIF convention, else None.

        Args:
          trained_so: whether its images were turned by EXIF; None if unknown.
        """
        if trained_so is None or self.turned is None or trained_so == self.turned:
            return None
        how = {True: "turned as their EXIF orientation says", False: "not turned by EXIF"}
        return (
            f"it was trained on images that were {how[trained_so]}, but those of {self.path} "
            f"were {how[self.turned]}, so those with an orientation look other than what it "
            f"learned from; prepare the data with --{'' if trained_so else 'no'}apply_exif."
        )

    def require_split(self, split: str) -> None:
        """Raises ValueError unless the data set has images in `split`."""
        if not self.counts.get(split):
            have = ", ".join(f"{name} ({n})" for name, n in self.counts.items()) or "none"
            raise ValueError(
                f"{self.path} has no split {split!r}: it has {have}. Name one of these, or prepare "
                "the data again with `python -m data_prep.convert`."
            )

    def class_name(self, label: int) -> str:
        """The name of the class that a record's label means.

        Raises:
          ValueError: the label is out of range, such as -1 for images without one.
        """
        if not 0 <= label < self.classes:
            raise ValueError(
                f"An image of {self.path} has the label {label}, but the classes are 0 to "
                f"{self.classes - 1}: name a split whose images have labels."
            )
        return self.synsets[label]

    def statistics(self) -> dict[str, np.ndarray]:
        """Mean image, RGB mean, principal components and the rest of `statistics.npz`.

        Without that file they are computed from up to 10,000 training images, resized to `format`.
        """
        path = f"{self.path}/{STATISTICS_FILE}"
        if not tf.io.gfile.exists(path):
            form = self.format
            if form.encoding != "raw" and not _is_own(self.path):
                self.require_split("train")
                files = self.shards["train"]
                return external.sample_statistics(files, self.keys, form.image_size, form.channels)
            raise FileNotFoundError(
                f"{path} is missing: prepare the data again with `python -m data_prep.convert`."
            )
        with tf.io.gfile.GFile(path, "rb") as file, np.load(file) as arrays:
            return {name: arrays[name] for name in arrays.files}


def open_dataset(path: str, first_label: int | None = None) -> PreparedDataset:
    """Opens a data set and reads its metadata.

    Args:
      path: a directory that `data_prep.convert` or TFDS wrote, one of TFRecords with
        image/encoded and image/class/label, or tfds:NAME.
      first_label: for TFRecords without metadata, the number of their first class: 0 or 1. None
        takes the smallest that occurs.

    If another program's data set has a test split but no validation split, as MNIST and CIFAR-10,
    its test split is used for validation.

    Raises:
      FileNotFoundError: the directory, its metadata or one of its shards is not there.
      ValueError: the directory holds something else.
    """
    path = str(path)
    if path.startswith(external.TFDS_PREFIX):
        path = str(external.tfds_builder(path.removeprefix(external.TFDS_PREFIX)).data_dir)
    path = path.rstrip("/")
    missing = "Name a directory that `python -m data_prep.convert` wrote."
    if not tf.io.gfile.isdir(path):
        raise FileNotFoundError(f"There is no directory {path}. {missing}")
    info_path, features_path = f"{path}/dataset_info.json", f"{path}/features.json"
    if not tf.io.gfile.exists(info_path) and external.record_files(path):
        return _without_metadata(path, first_label)
    if first_label is not None:
        raise ValueError(
            f"The labels of {path} are described by its metadata: leave out --first_label."
        )
    if not tf.io.gfile.exists(info_path) and (advice := unprepared.advice(path)):
        raise FileNotFoundError(advice)
    for needed in (info_path, features_path):
        if not tf.io.gfile.exists(needed):
            raise FileNotFoundError(
                f"{path} is no prepared data set: {needed} is missing. {missing}"
            )
    return _with_metadata(path)


def _without_metadata(path: str, first_label: int | None) -> PreparedDataset:
    index = external.read_index(path, first_label)
    return PreparedDataset(
        path=path,
        format=RecordFormat(encoding="any"),
        synsets=index.class_names,
        shards=_test_as_validation(index.shards),
        counts=_test_as_validation(index.counts),
        keys=index.keys,
        one_size=False,
    )


def _with_metadata(path: str) -> PreparedDataset:
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(path)
    features, kinds = builder.info.features, tfds.features
    if (
        not isinstance(features, kinds.FeaturesDict)
        or not {"image", "label"} <= set(features)
        or not isinstance(features["label"], kinds.ClassLabel)
    ):
        found = " ".join(str(features).split())
        raise ValueError(
            f"{path} is a TFDS data set of another kind: found features {found}, expected image "
            "and a ClassLabel called label. Name one for classification."
        )
    if builder.info.file_format is not tfds.core.FileFormat.TFRECORD:
        raise ValueError(
            f"{path} is stored as {builder.info.file_format.value}, expected tfrecord: prepare it "
            "again with `tfds build --file_format=tfrecord`."
        )
    # TFDS has no file names for a split without images: asking for them raises.
    shards = {
        name: tuple(str(file) for file in split.filepaths) if split.num_examples else ()
        for name, split in builder.info.splits.items()
    }
    for files in shards.values():
        for file in files:
            if not tf.io.gfile.exists(file):
                raise FileNotFoundError(
                    f"The shard {file} is missing. Run `python -m data_prep.verify "
                    f"--data_dir={path}` to see what else is."
                )
    counts = {name: split.num_examples for name, split in builder.info.splits.items()}
    each = {name: tuple(split.shard_lengths) for name, split in builder.info.splits.items()}
    record_format, one_size = _stored_format(path, features["image"])
    own = _is_own(path)
    return PreparedDataset(
        path=path,
        format=record_format,
        synsets=tuple(features["label"].names),
        shards=shards if own else _test_as_validation(shards),
        counts=counts if own else _test_as_validation(counts),
        shard_counts=each if own else _test_as_validation(each),
        one_size=one_size,
        turned=_was_turned(path) if own else None,
    )


def _was_turned(path: str) -> bool | None:
    """What the manifest says of --apply_exif; an old or damaged one does not."""
    try:
        return bool(read_manifest(path)["settings"]["apply_exif"])
    except (ValueError, KeyError, TypeError):
        return None


def _is_own(path: str) -> bool:
    """Whether data_prep wrote it."""
    return tf.io.gfile.exists(f"{path}/{MANIFEST_FILE}")


def _stored_format(path: str, image) -> tuple[RecordFormat, bool]:
    """What a TFDS feature stores, and whether at one size."""
    import tensorflow_datasets as tfds

    height, width, channels = image.shape
    square = height is not None and height == width
    if isinstance(image, tfds.features.Image):
        if square and image.encoding_format == "jpeg" and channels in (1, 3):
            return RecordFormat(height, channels, "jpeg"), True
        size = height if square else RecordFormat().image_size
        return RecordFormat(size, 1 if channels == 1 else 3, "any"), square
    if not square or image.np_dtype != np.uint8 or channels not in (1, 3):
        raise ValueError(
            f"{path} stores images as {image.np_dtype.__name__} of shape {image.shape}: expected "
            "encoded images, or uint8 of one square size."
        )
    return RecordFormat(height, channels, "raw"), True


def _test_as_validation(by_split: dict) -> dict:
    if "test" not in by_split or "validation" in by_split:
        return by_split
    return {**by_split, "validation": by_split["test"]}


def read_manifest(path: str) -> dict:
    """The parsed `manifest.json` of the data set in directory `path`."""
    with tf.io.gfile.GFile(f"{path}/{MANIFEST_FILE}", "r") as file:
        return json.loads(file.read())
