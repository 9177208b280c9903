"""Published training milestones, and a callback that compares a run with them."""

import math
import sys

import keras

from alexnet_tf.experiments import published
from alexnet_tf.experiments.published import Milestone

_SLOWER = 1.25  # a run is reported as slow from this multiple of the planned duration


def milestones(classes: int) -> list[Milestone]:
    """Chance level for a number of classes and, for 1000 classes, the published milestones."""
    chance = Milestone(
        "before training: chance level",
        math.log(classes),
        1 - 1 / classes,
        1 - min(5, classes) / classes,
        f"a uniform answer over {classes} classes",
    )
    return [chance, *published.MILESTONES] if classes == 1000 else [chance]


def describe(one: Milestone) -> str:
    """A milestone in one line."""
    numbers = [f"loss {one.loss:.3f}"] if one.loss is not None else []
    for name, value in (("top-1", one.top1_error), ("top-5", one.top5_error)):
        if value is not None:
            numbers.append(f"{name} error {value:.1%}")
    return f"{one.when}: {', '.join(numbers)} ({one.source})"


def warnings(row: dict, classes: int) -> list[str]:
    """What is wrong after an epoch, in sentences; empty if nothing is.

    Args:
      row: a row of metrics.csv, with numbers.
      classes: number of classes of the data set.
    """
    found = []
    chance = math.log(classes)
    if row["loss"] >= chance:
        found.append(
            f"the training loss is {row['loss']:.3f}, {row['loss'] - chance:.3f} above chance "
            f"level ({chance:.3f}): the network learns nothing. Caffe's readme of its AlexNet "
            "reports a flat loss with biases of 1: compare recipe and data"
        )
    error = row.get("validation_top1_error")
    if error is None:
        return found
    if classes == 1000:
        first = published.FIRST_CHECKPOINT
        above = 100 * (error - first.top1_error)
        if above > 0:
            found.append(
                f"the validation top-1 error is {error:.1%}, {above:.1f} points above "
                f"{first.top1_error:.1%} of {first.when} ({first.source})"
            )
    elif error >= 1 - 1 / classes:
        found.append(f"the validation top-1 error is {error:.1%}: no better than chance")
    training = row["top1_error"]
    if error - training > 0.2:
        found.append(
            f"the validation top-1 error is {100 * (error - training):.1f} points above the "
            "training error: check that both splits have the same classes and preparation"
        )
    return found


class Compare(keras.callbacks.Callback):
    """Reports after each epoch where and how far a run misses published milestones and the plan.

    Args:
      classes: number of classes of the data set.
      planned_seconds: planned seconds per epoch; None without a plan.
    """

    def __init__(self, classes: int, planned_seconds: float | None = None):
        super().__init__()
        self.classes, self.planned = classes, planned_seconds

    def on_epoch_end(self, epoch, logs=None):
        row = dict(logs or {})
        for text in warnings(row, self.classes):
            print(f"warning: epoch {epoch + 1}: {text}.", file=sys.stderr)
        ratio = row["seconds"] / self.planned if self.planned else 0.0
        if ratio > _SLOWER:
            print(
                f"warning: epoch {epoch + 1} took {ratio:.2f} times as long as planned.",
                file=sys.stderr,
            )
