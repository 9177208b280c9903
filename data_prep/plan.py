"""The plan of a conversion: every image of the source, shuffled and dealt to shards.

The plan is on disk: memory stays at 16 bytes per image, and a worker, on a cluster too, reads its
shard's lines from a byte offset. The order depends on the seed and the source alone, not on the
number of workers.
"""

import array
import contextlib
import dataclasses
import hashlib
import json
import mmap
import os
from collections.abc import Iterable, Iterator

import numpy as np

SPLITS = ("train", "validation", "test")
# ImageNet's customary number of training shards, and the images per shard of smaller data sets:
# enough shards that no worker waits long for the last one.
MAX_SHARDS = 1024
IMAGES_PER_SHARD = 256
_PARSED = 1000  # lines per JSON call


@dataclasses.dataclass(frozen=True)
class SourceImage:
    """Where one image is, and what it shows.

    Attributes:
      split: "train", "validation" or "test".
      path: the file that holds it, relative to the source (or absolute).
      offset: where its bytes begin in that file, or -1 when the file is the image.
      size: their number, or -1 if not known.
      file_name: the image's own name.
      synset: its class.
      modified: a number that changes when the containing file is replaced, such as its time of
        last change; 0 if not known.
    """

    split: str
    path: str
    offset: int
    size: int
    file_name: str
    synset: str
    modified: int = 0

    def line(self) -> bytes:
        """One line of the plan, without the split."""
        fields = (self.path, self.offset, self.size, self.file_name, self.synset, self.modified)
        return json.dumps(fields, ensure_ascii=False).encode("utf-8", "surrogateescape")


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """Something of the source that a layout does not take, and why.

    Attributes:
      path: below the source; a folder ends with "/" and includes everything below it; a member of
        an archive or a row of a table is "ARCHIVE:MEMBER".
      reason: without a full stop, such as "val.txt has no label for it".
      kind: IMAGE, FOLDER, UNLABELLED or OTHER.
      images: number of images, if it is not a single file.
    """

    path: str
    reason: str
    kind: str
    images: int = 1


# A single image left out counts as bad (--max_bad); a whole folder of images stops the conversion
# unless --allow_unused; images without labels, and other files, never stop it.
IMAGE, FOLDER, UNLABELLED, OTHER = "image", "folder", "unlabelled", "other"


@dataclasses.dataclass(frozen=True)
class Shard:
    """Consecutive lines of a split's plan, which one worker converts."""

    split: str
    index: int
    of: int
    begin: int  # byte offset in the plan
    end: int
    images: int
    digest: str  # of these lines; with the settings' digest it tells whether a shard is up to date

    @property
    def file_name(self) -> str:
        # The name that TFDS gives to a shard.
        return f"imagenet-{self.split}.tfrecord-{self.index:05d}-of-{self.of:05d}"


@dataclasses.dataclass(frozen=True)
class Plan:
    """The shards of all splits and the classes, in label order (sorted)."""

    shards: tuple[Shard, ...]
    synsets: tuple[str, ...]
    counts: dict[str, int]  # images by split, before any is rejected


def plan_path(folder: str, split: str) -> str:
    return os.path.join(folder, f"plan-{split}.jsonl")


def make_plan(
    images: Iterable[SourceImage],
    folder: str,
    seed: int,
    shards: int | None = None,
    classes: list[str] | None = None,
    validation_share: float | None = None,
) -> Plan:
    """Writes the plan files into `folder`.

    Args:
      images: in a deterministic order.
      folder: an existing local directory.
      seed: of the shuffle.
      shards: number of training shards; other splits get as many images per shard. None takes
        one per 256 images, at most 1024.
      classes: in label order; None sorts those of the training images.
      validation_share: of each class's training images, for a source without validation images;
        each class keeps at least one for training.

    Raises:
      ValueError: no image, a class of another split that training never sees, more shards than
        images, or a share of a source that has a validation split or no training split.
    """
    offsets: dict[str, array.array] = {}
    numbers: dict[str, int] = {}  # of the classes, by when they are first seen
    labels = array.array("i")  # of the training images, where a share of each class is asked for
    synsets: dict[str, dict[str, None]] = {}
    files = {}
    with contextlib.ExitStack() as opened:
        for image in images:
            split = image.split
            if split not in files:
                files[split] = opened.enter_context(open(_unshuffled(folder, split), "wb"))
                offsets[split], synsets[split] = array.array("q", [0]), {}
            line = image.line() + b"\n"
            files[split].write(line)
            offsets[split].append(offsets[split][-1] + len(line))
            synsets[split][image.synset] = None
            if validation_share is not None and split == "train":
                labels.append(numbers.setdefault(image.synset, len(numbers)))
    if not files:
        raise ValueError("The source has no images.")
    names = _classes(synsets, classes)
    # Split -> (file of lines, numbers of its lines).
    chosen = {s: (s, np.arange(len(offsets[s]) - 1)) for s in SPLITS if s in files}
    if validation_share is not None:
        chosen = _set_aside(chosen, np.frombuffer(labels, np.int32), validation_share, seed)
    counts = {split: len(lines) for split, (_, lines) in chosen.items()}
    per_shard = _images_per_shard(counts, shards)
    dealt = []
    for split, (file, lines) in chosen.items():
        count = counts[split]
        number = max(1, min(MAX_SHARDS if shards is None else count, round(count / per_shard)))
        places = np.frombuffer(offsets[file], np.int64)
        dealt += _shuffle(folder, (split, file), (places, lines), (seed, number))
    for split in files:
        os.remove(_unshuffled(folder, split))
    return Plan(tuple(dealt), names, counts)


def _set_aside(chosen, labels, share, seed):
    """Takes a share of each class's training images for validation."""
    if "validation" in chosen or "train" not in chosen:
        has = ", ".join(f"{len(lines)} {split}" for split, (_, lines) in chosen.items())
        raise ValueError(
            f"The source has {has} images: --validation_share takes from training for a source "
            "without a validation split, leave it out."
        )
    # Its own random stream: the share must not change any other draw.
    order = np.random.RandomState([seed, len(SPLITS)]).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]  # shuffled within each class
    sizes = np.bincount(labels)
    ends = np.cumsum(sizes)
    taken = np.minimum(np.round(sizes * share).astype(np.int64), sizes - 1)
    parts = zip(ends, sizes, taken, strict=True)
    validation = np.sort(np.concatenate([order[end - n : end - n + k] for end, n, k in parts]))
    if not len(validation):
        raise ValueError(
            f"--validation_share={share} of classes with {sizes.min()} to {sizes.max()} images "
            "gives no validation image: name a larger share."
        )
    kept = np.setdiff1d(np.arange(len(labels)), validation, assume_unique=True)
    aside = {"train": ("train", kept), "validation": ("train", validation)}
    return {**aside, **{split: lines for split, lines in chosen.items() if split == "test"}}


def read_lines(folder: str, shard: Shard) -> Iterator[SourceImage]:
    """The images of one shard, in the order in which they are stored."""
    import tensorflow as tf

    with tf.io.gfile.GFile(plan_path(folder, shard.split), "rb") as file:
        file.seek(shard.begin)
        lines = file.read(shard.end - shard.begin).splitlines()
    for begin in range(0, len(lines), _PARSED):
        listed = b"[%s]" % b",".join(lines[begin : begin + _PARSED])
        for line in json.loads(listed.decode("utf-8", "surrogateescape")):
            yield SourceImage(shard.split, *line)


def _unshuffled(folder, split):
    return os.path.join(folder, f"found-{split}.jsonl")


def _classes(synsets, classes):
    known = set(classes or synsets.get("train", ())) or set().union(*synsets.values())
    for split, names in synsets.items():
        if unknown := sorted(set(names) - known):
            raise ValueError(
                f"The {split} split has {len(unknown)} classes that training has not, the first is "
                f"{unknown[0]!r}: expected the same class names in all splits."
            )
    names = tuple(classes or sorted(known))
    if unusable := [name for name in names if not _is_one_line(name)]:
        raise ValueError(
            f"{len(unusable)} class names cannot be stored, the first is {unusable[0]!r}: expected "
            "text in UTF-8, of one line and without spaces at its ends; rename the folder or label."
        )
    return names


def _is_one_line(name):
    """Whether a name survives a text file with one name per line."""
    return is_text(name) and name.strip() == name and name.splitlines() == [name]


def is_text(name: str) -> bool:
    """Whether a file name is UTF-8: Python decodes other bytes as surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in name)


def _images_per_shard(counts, shards):
    first = next(iter(counts.values()))
    if shards is None:
        return max(IMAGES_PER_SHARD, first / MAX_SHARDS)
    if shards > first:
        raise ValueError(
            f"{shards} shards were asked for, but there are only {first} images to deal: name "
            "fewer with --shards."
        )
    return first / shards


def _shuffle(folder, split_and_file, places_and_lines, seed_and_number):
    (split, file), (places, lines), (seed, number) = (
        split_and_file,
        places_and_lines,
        seed_and_number,
    )
    count = len(lines)
    # RandomState's stream is frozen by NumPy's policy: the same order in every version.
    order = lines[np.random.RandomState([seed, SPLITS.index(split)]).permutation(count)]
    begin, shards = 0, []
    with (
        open(_unshuffled(folder, file), "rb") as found,
        mmap.mmap(found.fileno(), 0, access=mmap.ACCESS_READ) as content,
        open(plan_path(folder, split), "wb") as plan,
    ):
        for index in range(number):
            # Shards differ by one image at most.
            chosen = order[index * count // number : (index + 1) * count // number]
            digest, end = hashlib.sha256(), begin
            for i in chosen:
                line = content[places[i] : places[i + 1]]
                plan.write(line)
                digest.update(line)
                end += len(line)
            shards.append(Shard(split, index, number, begin, end, len(chosen), digest.hexdigest()))
            begin = end
    return shards
