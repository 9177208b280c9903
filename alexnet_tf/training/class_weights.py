"""Class weights for the loss, and a table of images per class."""

import json
import sys

import numpy as np

from alexnet_tf.data import identity
from alexnet_tf.data.records import PreparedDataset
from alexnet_tf.training.recipes import Recipe

BALANCED = "balanced"
_MOST_ROWS = 20
_MOST_COUNTED = 100_000  # training images whose labels are counted without need


def of_run(recipe: Recipe, dataset: PreparedDataset, verbose: bool) -> np.ndarray | None:
    """The weights of `recipe.class_weight`, see `class_weights`; `verbose` prints the `table`."""
    counts = None
    if recipe.class_weight == BALANCED or dataset.counts["train"] <= _MOST_COUNTED:
        counts = identity.class_counts(dataset)
    weights = class_weights(recipe.class_weight, dataset, counts)
    if verbose and counts is not None:
        print(table(dataset, counts, weights), file=sys.stderr)
    return weights


def class_weights(
    choice: str | None, dataset: PreparedDataset, counts: np.ndarray | None
) -> np.ndarray | None:
    """The factor of each class on the loss of its images.

    Args:
      choice: None for no weights; "balanced": images / (classes with images * images of the class),
        so that all classes count alike and the mean over all images is 1; or a JSON file of
        {class name: weight}, 1 for classes that are not in it.
      dataset: gives the class names.
      counts: training images of each class, int (classes,); for "balanced" only.

    Returns:
      float32 (classes,), or None.

    Raises:
      FileNotFoundError: no such file.
      ValueError: the file is not such JSON, or names an unknown class.
    """
    if choice is None:
        return None
    if choice == BALANCED:
        assert counts is not None
        return (counts.sum() / ((counts > 0).sum() * np.maximum(counts, 1))).astype(np.float32)
    weights = np.ones(dataset.classes, np.float32)
    for name, weight in _read(choice).items():
        if name not in dataset.synsets:
            raise ValueError(
                f"{choice} names the class {name!r}, which {dataset.path} does not have: expected "
                f"class names such as {', '.join(map(repr, dataset.synsets[:3]))}."
            )
        number = isinstance(weight, (int, float)) and not isinstance(weight, bool)
        if not number or not 0 <= weight < float("inf"):
            raise ValueError(
                f"{choice} gives the class {name!r} the weight {weight!r}: expected a number of 0 "
                "or more."
            )
        weights[dataset.synsets.index(name)] = weight
    if not weights.any():
        raise ValueError(f"{choice} gives every class the weight 0: nothing would be learned.")
    return weights


def _read(path: str) -> dict:
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"There is no file {path} for --class_weight: expected {BALANCED!r}, or a JSON file "
            "with a weight for each class name."
        ) from None
    except ValueError as error:
        raise ValueError(
            f"{path} is not JSON ({error}): expected a weight for each class name, such as "
            '{"cat": 1, "dog": 2.5}.'
        ) from None
    if not isinstance(content, dict):
        raise ValueError(
            f'{path} holds {type(content).__name__}: expected {{"class name": weight, ...}}.'
        )
    return content


def table(dataset: PreparedDataset, counts: np.ndarray, weights: np.ndarray | None) -> str:
    """Training images and weight of each class; of many classes, only the extremes."""
    if dataset.classes > 1 and weights is None and counts.min() == counts.max() > 0:
        return f"training images: {counts[0]} of each of {dataset.classes} classes"
    order = np.argsort(-counts, kind="stable")
    shown = list(order)
    if len(order) > _MOST_ROWS:
        half = _MOST_ROWS // 2
        shown = [*order[:half], None, *order[-half:]]
    lines = [f"training images of {dataset.classes} class(es):"]
    for label in shown:
        if label is None:
            lines.append(f"  {'...':>8}  ({len(order) - _MOST_ROWS} more)")
            continue
        weight = "" if weights is None else f"  weight {weights[label]:.4g}"
        lines.append(f"  {counts[label]:8}  {dataset.synsets[label]}{weight}")
    empty = int((counts == 0).sum())
    if empty:
        lines.append(f"warning: {empty} class(es) have no training images and cannot be learned.")
    if dataset.classes == 1:
        lines.append("warning: there is only one class, so there is nothing to learn.")
    return "\n".join(lines)
