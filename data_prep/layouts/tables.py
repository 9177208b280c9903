"""Hugging Face parquet files, and any TFDS image-classification data set."""

import contextlib
import dataclasses
import json
import os
import re
from collections.abc import Iterator

from alexnet_tf.data import external, imagenet
from alexnet_tf.data.options import with_options
from alexnet_tf.files import open_binary
from data_prep import storage
from data_prep.layouts import folders, staging
from data_prep.listing import TFDS_PREFIX, Listing
from data_prep.plan import FOLDER, IMAGE, UNLABELLED, LeftOut, SourceImage

NO_LABEL = -1  # of Hugging Face and TFDS


@dataclasses.dataclass(frozen=True)
class Columns:
    """The columns of images and labels in a table.

    Attributes:
      image: column of encoded images: bytes, or a struct with a field `bytes`.
      label: column of whole numbers or of strings.
      names: the classes in label order, if the table's metadata has them.
    """

    image: str
    label: str
    names: tuple[str, ...] | None


def parquet_fits(listing: Listing) -> bool:
    return bool(_parquet_files(listing))


def parquet(listing: Listing, folder: str | None) -> Iterator[SourceImage | LeftOut]:
    """Files named as train-00000-of-00002.parquet or default/train/0000.parquet."""
    files = _data_set(listing)
    names = parquet_classes(listing)
    splits: dict[str, list] = {}
    for file in files:
        splits.setdefault(_split_of(file.path), []).append(file)
    for split, parts in splits.items():
        labels = {file.path: _labels(listing, file) for file in parts}
        if split != "train" and not any(map(_has_label, labels.values())):
            for file in parts:
                reason = f"{split} images without labels"
                kind = UNLABELLED if split == "test" else FOLDER
                yield LeftOut(file.path, reason, kind, images=len(labels[file.path]))
            continue
        for file in parts:

            def read(file=file, split=split):
                return _rows(listing, file, split, names)

            listing.use(file.path, f"{split} images")
            flat = file.path.replace("/", "-")
            yield from staging.unpack(
                folder, flat, [*file, names, dataclasses.astuple(_columns(listing, file))], read
            )


def parquet_classes(listing: Listing) -> list[str] | None:
    """Class names in label order, from the files' Hugging Face metadata; else the numbers.

    For ImageNet's 1000 classes these are the synsets. None if labels are names, which are sorted.
    """
    largest = NO_LABEL
    for file in _data_set(listing):
        columns = _columns(listing, file)
        if columns.names:
            return _synsets_for(columns.names)
        labels = _labels(listing, file)
        if any(isinstance(label, str) for label in labels):
            return None
        largest = max([largest, *(label for label in set(labels) if label is not None)])
    return [_number_name(label) for label in range(largest + 1)]


def _number_name(label):
    return f"{label:04d}"


def _has_label(labels):
    return any(label is not None and label != NO_LABEL for label in labels)


def tfds_fits(listing: Listing) -> bool:
    return listing.source.startswith(TFDS_PREFIX)


def tfds(listing: Listing, folder: str | None) -> Iterator[SourceImage | LeftOut]:
    """`tfds:NAME[/CONFIG]` or `tfds:DIRECTORY`. The stored bytes are copied, not decoded."""
    import tensorflow_datasets

    builder, columns = _builder(listing)
    names = columns.names
    for split, info in sorted(builder.info.splits.items()):
        data = builder.as_dataset(
            split=split,
            shuffle_files=False,
            decoders={columns.image: tensorflow_datasets.decode.SkipDecoding()},
        )
        data = with_options(data)
        ours = folders.split_of(split)
        labels = (int(row[columns.label]) for row in data.as_numpy_iterator())
        if all(label == NO_LABEL for label in labels):  # ends at the first label
            kind = FOLDER if ours in ("train", "validation") else UNLABELLED
            reason = f"{split} images without labels"
            yield LeftOut(f"split {split}", reason, kind, images=info.num_examples)
            continue
        if ours is None:
            reason = "its name means none of train, validation and test"
            yield LeftOut(f"split {split}", reason, FOLDER, images=info.num_examples)
            continue

        def read(split=split, ours=ours, data=data):
            for number, row in enumerate(data.as_numpy_iterator()):
                name = row.get("file_name", b"").decode("utf-8", "surrogateescape")
                name = name or f"{split}_{number:08d}"
                label = int(row[columns.label])
                if label == NO_LABEL:
                    yield LeftOut(f"split {split}:{name}", "it has no label (-1)", IMAGE)
                    continue
                if not 0 <= label < len(names):
                    raise ValueError(
                        f"{listing.source} split {split} image {number} has the label {label}: "
                        f"expected 0..{len(names) - 1}."
                    )
                yield ours, name, names[label], row[columns.image]

        stamp = [builder.info.full_name, split, info.num_examples, info.num_bytes, _files(builder)]
        yield from staging.unpack(folder, split, stamp, read)


def tfds_classes(listing: Listing) -> list[str]:
    return list(_builder(listing)[1].names)


def _files(builder):
    """[name, bytes, time of the last change] of a TFDS data set's files."""
    return [
        [name, status.st_size, status.st_mtime_ns or status.st_mtime]
        for name, status, _ in sorted(storage.entries(str(builder.data_path)))
        if status is not None
    ]


def _builder(listing):
    """(builder, columns)."""
    import tensorflow_datasets

    name = listing.source.removeprefix(TFDS_PREFIX)
    builder = external.tfds_builder(name)
    features = builder.info.features
    kinds = tensorflow_datasets.features
    by_kind = {
        kind: [key for key, feature in features.items() if isinstance(feature, kind)]
        if isinstance(features, kinds.FeaturesDict)
        else []
        for kind in (kinds.Image, kinds.ClassLabel)
    }
    what = f"The TFDS data set {name}, which has {' '.join(str(features).split())}"
    image = _choose(by_kind[kinds.Image], listing.image_column, "image", what)
    label = _choose(by_kind[kinds.ClassLabel], listing.label_column, "label", what)
    return builder, Columns(image, label, tuple(features[label].names))


def _choose(candidates, wanted, role, what):
    """The column for a role: the one that was named, the only one, or the one with that name.

    Raises:
      ValueError: it is not clear which.
    """
    if wanted is not None:
        if wanted not in candidates:
            raise ValueError(
                f"{what}, has no {role} column {wanted!r}: expected one of {candidates} for "
                f"--{role}_column."
            )
        return wanted
    if len(candidates) == 1:
        return candidates[0]
    if role in candidates:
        return role
    if not candidates:
        raise ValueError(f"{what}, has no column of {_EXPECTED[role]}.")
    raise ValueError(
        f"{what}, has several columns that could be the {role}, {', '.join(candidates)}: name one "
        f"with --{role}_column={candidates[0]}."
    )


_EXPECTED = {
    "image": "images: expected encoded images (bytes, or a struct with a field bytes)",
    "label": "labels: expected whole numbers or strings",
}


def _parquet_files(listing):
    return [file for file in listing.below() if file.name.endswith(".parquet")]


def _split_of(path):
    """By the file's name or, where that says nothing, by its folder's."""
    for part in reversed(path.removesuffix(".parquet").split("/")):
        words = [part, *re.split(r"[-_.]", part)]
        if split := next(filter(None, map(folders.split_of, words)), None):
            return split
    raise ValueError(
        f"{path} does not say which split it is: expected a name as "
        "train-00000-of-00002.parquet or a folder as default/train."
    )


def _data_set(listing):
    """The parquet files.

    Raises:
      FileNotFoundError: there are none.
      ValueError: they are of several data sets.
    """
    files = _parquet_files(listing)
    if not files:
        raise FileNotFoundError(f"There are no parquet files; looked in {listing.source}.")
    homes = set()
    for file in files:
        home = os.path.dirname(file.path)
        if folders.split_of(os.path.basename(home)):
            home = os.path.dirname(home)
        homes.add(home)
    if len(homes) > 1:
        raise ValueError(
            f"{listing.source} holds parquet files of several data sets, in "
            f"{', '.join(sorted(home or '.' for home in homes))}: name one of these with --source."
        )
    return files


def _columns(listing, file):
    return listing.remember(("columns", file.path), lambda: _find_columns(listing, file))


def _find_columns(listing, file):
    """By Hugging Face's metadata or, without any, by the columns' types."""

    place = listing.place(file.path)
    with _opened(place) as table:
        schema = table.schema_arrow
    features = _features(schema.metadata or {})
    by_type: dict[str, list[str]] = {"image": [], "label": []}
    for field in schema:
        kind = (features.get(field.name) or {}).get("_type")
        if kind == "Image" or (kind in (None, "Value") and _holds_images(field.type)):
            by_type["image"].append(field.name)
        elif kind == "ClassLabel" or _holds_labels(field.type):
            by_type["label"].append(field.name)
    class_labels = [n for n, f in features.items() if f.get("_type") == "ClassLabel"]
    what = f"{place}, which has the columns {schema.names}"
    image = _choose(by_type["image"], listing.image_column, "image", what)
    candidates = by_type["label"]
    if listing.label_column is None and class_labels:
        candidates = class_labels
    label = _choose(_preferred(candidates), listing.label_column, "label", what)
    names = (features.get(label) or {}).get("names")
    return Columns(image, label, tuple(names) if names else None)


def _preferred(candidates):
    """The one that is called label; else all."""
    named = [name for name in candidates if name.lower() in ("label", "labels")]
    return named if len(named) == 1 else candidates


def _holds_images(kind):
    from pyarrow import types

    if types.is_struct(kind):
        return any(field.name == "bytes" and _holds_images(field.type) for field in kind)
    return types.is_binary(kind) or types.is_large_binary(kind)


def _holds_labels(kind):
    from pyarrow import types

    if types.is_dictionary(kind):
        kind = kind.value_type
    return types.is_integer(kind) or types.is_string(kind) or types.is_large_string(kind)


def _features(metadata):
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        return {name: feature for name, feature in features.items() if isinstance(feature, dict)}
    except (KeyError, ValueError, AttributeError, TypeError):
        return {}


def _synsets_for(names):
    # Hugging Face's imagenet-1k names its classes in words, in the order of the sorted synsets.
    if len(names) == imagenet.CLASSES and names[0].startswith(imagenet.class_names()[0]):
        return imagenet.class_synsets()
    return list(names)


def _labels(listing, file):
    """A file's labels: int, str or None each."""
    return listing.remember(("labels", file.path), lambda: _read_labels(listing, file))


def _read_labels(listing, file):

    label = _columns(listing, file).label
    with _opened(listing.place(file.path)) as table:
        return table.read(columns=[label])[label].to_pylist()


@contextlib.contextmanager
def _opened(place):
    """A parquet file; what is found to be damaged in the block ends in one sentence."""
    import pyarrow.parquet

    try:
        with open_binary(place) as file:
            yield pyarrow.parquet.ParquetFile(file)
    except (pyarrow.ArrowException, OSError, UnicodeError) as error:
        [reason, *_] = str(error).splitlines() or [type(error).__name__]
        raise ValueError(f"{place} is no whole parquet file ({reason}): get it again.") from None


def _rows(listing, file, split, names):

    place, columns = listing.place(file.path), _columns(listing, file)
    number = 0
    with _opened(place) as table:
        for batch in table.iter_batches(batch_size=64, columns=[columns.image, columns.label]):
            for row in batch.to_pylist():
                label, image = row[columns.label], row[columns.image]
                image = image if isinstance(image, dict) else {"bytes": image}
                name = os.path.basename(image.get("path") or f"{file.name}_{number:08d}")
                if label is None or label == NO_LABEL:
                    yield LeftOut(f"{file.path}:{number}", f"it has no label ({label})", IMAGE)
                elif image.get("bytes") is None:
                    yield LeftOut(f"{file.path}:{number}", "it has no bytes", IMAGE)
                else:
                    synset = _class_of(label, names, f"{place} row {number}")
                    yield split, name, synset, image["bytes"]
                number += 1


def _class_of(label, names, where):
    if isinstance(label, str):
        if names is not None and label not in names:
            raise ValueError(f"{where} has the label {label!r}, which is none of the classes.")
        return folders.normal(label) if names is None else label
    if names is None or not 0 <= label < len(names):
        raise ValueError(f"{where} has the label {label}: expected 0..{len(names or ()) - 1}.")
    return names[label]
