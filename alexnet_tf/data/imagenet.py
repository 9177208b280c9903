"""Facts about the ImageNet challenges: counts, synsets, class names.

Classes are numbered from 0 in the order of the sorted WordNet ids, as in Caffe, torchvision, Keras
and TensorFlow Datasets. The challenge's development kit numbers them 1 to 1000 in another order.
"""

import dataclasses
import functools
import importlib.resources
from collections.abc import Sequence

import numpy as np

CLASSES = 1000


@dataclasses.dataclass(frozen=True)
class Challenge:
    """The published counts of one year's challenge.

    Attributes:
      name: "ILSVRC-2012".
      first_synset: the first of the sorted synsets; it distinguishes the years, which share 640.
      train, validation, test: images per split. Except in training, all classes have equal counts.
      train_per_class: numbers of images of the smallest and of the largest class.
    """

    name: str
    first_synset: str
    train: int
    train_per_class: tuple[int, int]
    validation: int
    test: int


# Sources: for 2010, the readme of the development kit 1.0; for 2012, the development kit's meta
# file (training) and readme (other splits).
ILSVRC_2010 = Challenge("ILSVRC-2010", "n01484850", 1_261_406, (668, 3047), 50_000, 150_000)
ILSVRC_2012 = Challenge("ILSVRC-2012", "n01440764", 1_281_167, (732, 1300), 50_000, 100_000)
CHALLENGES = (ILSVRC_2010, ILSVRC_2012)

# Covariance of RGB in 0..1 over the training set of 2012: eigenvalues, and eigenvectors as columns.
# Source: facebookarchive/fb.resnet.torch, datasets/imagenet.lua.
_EIGENVALUES = (0.2175, 0.0188, 0.0045)
_EIGENVECTORS = (
    (-0.5675, 0.7192, 0.4009),
    (-0.5808, -0.0045, -0.8140),
    (-0.5836, -0.6948, 0.4203),
)


def colour_statistics() -> dict[str, np.ndarray]:
    """Statistics of RGB (0..255) in the training set of 2012, named as in `statistics.npz`."""
    return {
        "principal_components": np.array(_EIGENVECTORS),
        "principal_stddevs": 255.0 * np.sqrt(_EIGENVALUES),
    }


@functools.cache
def _classes() -> tuple[tuple[str, str], ...]:
    path = importlib.resources.files("alexnet_tf.data") / "imagenet_classes.txt"
    lines = path.read_text(encoding="utf-8").splitlines()
    pairs = [line.split(" ", 1) for line in lines if line and not line.startswith("#")]
    return tuple((synset, name.replace(" ", "_")) for synset, name in pairs)


def class_synsets() -> list[str]:
    """The 1000 WordNet ids of ILSVRC-2012, such as "n01440764", in the order of the outputs."""
    return [synset for synset, _ in _classes()]


def class_names() -> list[str]:
    """The 1000 names of ILSVRC-2012, such as "great_white_shark", in the order of the outputs.

    Two names mean two classes each ("crane" is a bird and a machine, "maillot" two garments):
    use the synsets where names must differ.
    """
    return [name for _, name in _classes()]


def decode_predictions(
    probs: Sequence | np.ndarray, top: int = 5, classes: Sequence[str] | None = None
) -> list[list[tuple[str, str, float]]]:
    """Returns the most probable classes, in the format of `keras.applications`.

    Args:
      probs: array (b, n) of probabilities or other scores.
      top: number of classes per image, 1..n; the default of 5 is allowed if there are fewer.
      classes: the n names of the outputs; None for ILSVRC-2012's 1000 in the order of the sorted
        synsets.

    Returns:
      For each image a list of `top` triples (synset, name, score), best first; equal scores in
      the order of the classes. A class that is not a synset of ILSVRC-2012 has its name twice.

    Raises:
      ValueError: an array of another shape, or `top` out of range.
    """
    scores = np.asarray(probs)
    pairs = _classes() if classes is None else _named(classes)
    count = len(pairs)
    if scores.ndim != 2 or scores.shape[1] != count:
        whose = "one score for each class of ILSVRC-2012"
        advice = "for another network, give it as classes=model, or its class names."
        if classes is not None:
            whose, advice = "one score for each of the classes", "give the names of all outputs."
        raise ValueError(
            f"decode_predictions got scores of shape {scores.shape}: expected (batch, {count}), "
            f"{whose}; {advice}"
        )
    if not 1 <= top <= count and not (top == 5 and count < 5):
        raise ValueError(f"top is {top}: expected a number of classes from 1 to {count}.")
    # Stable, so that ties keep the order of the classes.
    best = np.argsort(-scores.astype(np.float64), axis=1, kind="stable")[:, :top]
    return [
        [(*pairs[index], float(row[index])) for index in order]
        for row, order in zip(scores, best, strict=True)
    ]


def _named(classes: Sequence[str]) -> list[tuple[str, str]]:
    words = dict(_classes())
    return [(name, words.get(name, name)) for name in classes]
