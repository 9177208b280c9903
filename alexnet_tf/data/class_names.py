"""Matches a data set's classes to a network's outputs, by name or by ImageNet synset."""

import collections
import dataclasses
import functools
from collections.abc import Sequence

from alexnet_tf.data import imagenet
from alexnet_tf.data.records import PreparedDataset


@dataclasses.dataclass(frozen=True)
class Outputs:
    """Meaning of a network's outputs. path: the network's, for messages. names: in output order."""

    path: str
    names: tuple[str, ...]

    def order(self, dataset: PreparedDataset) -> list[int]:
        """For each class of the data set, the output that stands for it.

        Raises:
          ValueError: a class has no output, or more than one.
        """
        found = positions(dataset.synsets, self.names)
        missing = [
            name for name, place in zip(dataset.synsets, found, strict=True) if place is None
        ]
        if missing:
            raise ValueError(
                f"{self.path} does not know {len(missing)} of the {dataset.classes} classes of "
                f"{dataset.path} ({', '.join(missing[:3])}; its own {len(self.names)} are such as "
                f"{', '.join(self.names[:3])}): evaluate it on data whose classes it was trained "
                "for, or name its outputs in a file for --label_order."
            )
        return [place for place in found if place is not None]

    def others(self, order: Sequence[int], wanted: Sequence[str] | None) -> list[int]:
        """The outputs that are not in `order`; with `wanted`, in the order of these names.

        Raises:
          ValueError: the other outputs are not those in `wanted`.
        """
        rest = sorted(set(range(len(self.names))) - set(order))
        if wanted is None:
            return rest
        found = positions(wanted, [self.names[place] for place in rest])
        if None in found or len(found) != len(rest):
            raise ValueError(
                f"{self.path} tells apart other classes than the network before it, so their "
                "predictions cannot be averaged over all outputs: use --outputs=restricted."
            )
        return [rest[place] for place in found if place is not None]


def outputs_of(
    path: str, count: int, names: Sequence[str] | None, dataset: PreparedDataset
) -> Outputs:
    """The meaning of `count` outputs: their names or, without names, what can be inferred.

    Without names, they are the data set's classes if the numbers are equal, and ImageNet's if there
    are 1000 that include all of the data set's classes.

    Raises:
      ValueError: the meaning cannot be inferred.
    """
    if names is not None:
        return Outputs(path, tuple(names))
    if count == dataset.classes:
        return Outputs(path, dataset.synsets)
    synsets = imagenet.class_synsets()
    if count == len(synsets) and None not in positions(dataset.synsets, synsets):
        return Outputs(path, tuple(synsets))
    raise ValueError(
        f"{path} has {count} outputs without names, but {dataset.path} has {dataset.classes} "
        "classes: evaluate it on the data it was trained for, or name its outputs in a file for "
        "--label_order."
    )


def positions(wanted: Sequence[str], names: Sequence[str]) -> list[int | None]:
    """The position of each wanted class in `names`; None if no name matches, or several do.

    A name matches itself. A synset of ILSVRC-2012 ("n02979186") and its word in any spelling
    ("cassette_player", "Cassette player") match each other, unless another synset has the same
    word ("crane" has two).
    """
    by_name, by_meaning = _index(names, str), _index(names, _meaning)

    def only(places: list[int]) -> int | None:
        return places[0] if len(places) == 1 else None

    return [
        only(by_name[name] if name in by_name else by_meaning.get(_meaning(name), []))
        for name in wanted
    ]


def _index(names, key) -> dict[str, list[int]]:
    found = collections.defaultdict(list)
    for place, name in enumerate(names):
        found[key(name)].append(place)
    return dict(found)


def _meaning(name: str) -> str:
    """The synset of an ImageNet word, or the name unchanged."""
    return _synsets_by_word().get(_plain(name), name)


def _plain(word: str) -> str:
    return word.strip().lower().replace(" ", "_").replace("-", "_")


@functools.cache
def _synsets_by_word() -> dict[str, str]:
    words = [_plain(word) for word in imagenet.class_names()]
    pairs = zip(words, imagenet.class_synsets(), strict=True)
    return {word: synset for word, synset in pairs if words.count(word) == 1}
