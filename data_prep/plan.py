"""The plan of a conversion: every picture of the source, shuffled and dealt to shards.

The plan is written to disk, so that memory stays at 16 bytes per picture however many there are, a
worker needs to be told only where its shard's lines begin, and a cluster's workers can read theirs.
The order depends on the seed and the source alone: not on the number of workers.
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
# ImageNet's customary number of training shards, and how many pictures a shard of a smaller data
# set has: enough shards that some workers never wait for one last long shard.
MAX_SHARDS = 1024
PICTURES_PER_SHARD = 256
_PARSED = 1000  # lines at once: one call instead of hundreds


@dataclasses.dataclass(frozen=True)
class Picture:
    """Where one picture is, and what it shows.

    Attributes:
      split: "train", "validation" or "test".
      path: the file that holds it, relative to the source (or absolute).
      offset: where its bytes begin in that file, or -1 when the file is the picture.
      size: their number, or -1 if not known.
      file_name: the picture's own name.
      synset: its class.
    """

    split: str
    path: str
    offset: int
    size: int
    file_name: str
    synset: str

    def line(self) -> bytes:
        """One line of the plan, without the split."""
        return json.dumps(
            [self.path, self.offset, self.size, self.file_name, self.synset], ensure_ascii=False
        ).encode("utf-8", "surrogateescape")


@dataclasses.dataclass(frozen=True)
class Shard:
    """What one worker converts at a time: some consecutive lines of a split's plan."""

    split: str
    index: int
    of: int
    begin: int  # byte offset in the plan
    end: int
    pictures: int
    digest: str  # of these lines; with the settings' digest it says whether a shard is up to date

    @property
    def file_name(self) -> str:
        # The name that TFDS gives to a shard.
        return f"imagenet-{self.split}.tfrecord-{self.index:05d}-of-{self.of:05d}"


@dataclasses.dataclass(frozen=True)
class Plan:
    """The shards of all splits and the classes, in label order (sorted)."""

    shards: tuple[Shard, ...]
    synsets: tuple[str, ...]
    counts: dict[str, int]  # pictures by split, before any is rejected


def plan_path(folder: str, split: str) -> str:
    return os.path.join(folder, f"plan-{split}.jsonl")


def make_plan(
    pictures: Iterable[Picture],
    folder: str,
    seed: int,
    shards: int | None = None,
    classes: list[str] | None = None,
) -> Plan:
    """Writes the plan files into `folder`.

    Args:
      pictures: in any order that is always the same.
      folder: an existing local directory.
      seed: of the shuffle.
      shards: number of training shards; other splits get as many pictures per shard. None takes
        one per 256 pictures, at most 1024.
      classes: in label order; None sorts those of the training pictures.

    Raises:
      ValueError: no picture, a class of another split that training never sees, or more shards than
        pictures.
    """
    offsets: dict[str, array.array] = {}
    synsets: dict[str, dict[str, None]] = {}
    files = {}
    with contextlib.ExitStack() as opened:
        for picture in pictures:
            split = picture.split
            if split not in files:
                files[split] = opened.enter_context(open(_unshuffled(folder, split), "wb"))
                offsets[split], synsets[split] = array.array("q", [0]), {}
            line = picture.line() + b"\n"
            files[split].write(line)
            offsets[split].append(offsets[split][-1] + len(line))
            synsets[split][picture.synset] = None
    if not files:
        raise ValueError("The source has no pictures.")
    names = _classes(synsets, classes)
    counts = {split: len(offsets[split]) - 1 for split in SPLITS if split in files}
    per_shard = _pictures_per_shard(counts, shards)
    dealt = []
    for split, count in counts.items():
        number = max(1, min(MAX_SHARDS if shards is None else count, round(count / per_shard)))
        dealt += _shuffle(folder, split, np.frombuffer(offsets[split], np.int64), (seed, number))
        os.remove(_unshuffled(folder, split))
    return Plan(tuple(dealt), names, counts)


def read_lines(folder: str, shard: Shard) -> Iterator[Picture]:
    """The pictures of one shard, in the order in which they are stored."""
    import tensorflow as tf

    with tf.io.gfile.GFile(plan_path(folder, shard.split), "rb") as file:
        file.seek(shard.begin)
        lines = file.read(shard.end - shard.begin).splitlines()
    for begin in range(0, len(lines), _PARSED):
        listed = b"[%s]" % b",".join(lines[begin : begin + _PARSED])
        for line in json.loads(listed.decode("utf-8", "surrogateescape")):
            yield Picture(shard.split, *line)


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
    return tuple(classes or sorted(known))


def _pictures_per_shard(counts, shards):
    first = next(iter(counts.values()))
    if shards is None:
        return max(PICTURES_PER_SHARD, first / MAX_SHARDS)
    if shards > first:
        raise ValueError(
            f"{shards} shards were asked for, but there are only {first} pictures to deal: name "
            "fewer with --shards."
        )
    return first / shards


def _shuffle(folder, split, offsets, seed_and_number):
    seed, number = seed_and_number
    count = len(offsets) - 1
    # RandomState's stream is frozen by NumPy's policy: the same order in every version.
    order = np.random.RandomState([seed, SPLITS.index(split)]).permutation(count)
    begin, shards = 0, []
    with (
        open(_unshuffled(folder, split), "rb") as found,
        mmap.mmap(found.fileno(), 0, access=mmap.ACCESS_READ) as lines,
        open(plan_path(folder, split), "wb") as plan,
    ):
        for index in range(number):
            # Shards differ by one picture at most.
            chosen = order[index * count // number : (index + 1) * count // number]
            digest, end = hashlib.sha256(), begin
            for i in chosen:
                line = lines[offsets[i] : offsets[i + 1]]
                plan.write(line)
                digest.update(line)
                end += len(line)
            shards.append(Shard(split, index, number, begin, end, len(chosen), digest.hexdigest()))
            begin = end
    return shards
