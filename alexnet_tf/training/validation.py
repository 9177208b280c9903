"""The errors on the validation split at the end of an epoch, if there is such a split."""

import sys

import keras
import tensorflow as tf

from alexnet_tf import evaluation
from alexnet_tf.data import identity
from alexnet_tf.data.records import PreparedDataset
from alexnet_tf.models import compilation
from alexnet_tf.training import cluster
from alexnet_tf.training.errors import Interrupted, StopRequest
from alexnet_tf.training.recipes import Recipe

_NAMES = ("validation_loss", "validation_top1_error", "validation_top5_error")


class Validation:
    """Looks at the whole validation split, with the centre crop.

    Each worker does so on its own: nothing has to be split evenly, and no worker waits for another.
    The chief's numbers count.

    Attributes:
      possible: whether there are images with labels to look at.

    Args:
      model: the network that is trained.
      dataset, recipe: of the run.
      strategy: the run's.
      jit_compile: whether XLA compiles the forward pass.
    """

    def __init__(
        self,
        model: keras.Model,
        dataset: PreparedDataset,
        recipe: Recipe,
        strategy: tf.distribute.Strategy,
        jit_compile: bool = False,
    ):
        self.model, self.dataset, self.strategy = model, dataset, strategy
        self.view = evaluation.EvaluationSettings(
            "validation", crops=1, batch_size=recipe.batch_size
        )
        alone = cluster.workers(strategy) == 1
        self.own_strategy = strategy if alone else compilation.default_strategy()
        # Traced once, not once per epoch.
        self.step = evaluation.forward_step(model, 1, self.own_strategy, jit_compile)
        self.possible = bool(dataset.counts.get("validation"))
        if self.possible and not identity.has_labels(dataset, "validation"):
            self.possible = False
            _say(f"note: the validation split of {dataset.path} has no labels.")
        if not self.possible and recipe.schedule == "plateau":
            _say(
                f"note: {dataset.path} has no validation split, so the plateau schedule watches "
                "the training error. Prepare the data with --validation_share=0.1 to hold images "
                "out, or use a recipe with rates by epoch, such as source_145 or caffe."
            )

    def errors(self, stop: StopRequest) -> dict[str, float | None]:
        """The columns of a row of metrics; None in each where there is nothing to look at.

        Raises:
          Interrupted: the run, or another worker's, was asked to stop before all was seen.
        """
        if not self.possible:
            return dict.fromkeys(_NAMES)
        numbers, stopped = (0.0, 0.0, 0.0), False
        try:
            result = evaluation.score(
                *evaluation.split_probabilities(
                    self.model,
                    self.dataset,
                    self.view,
                    self.own_strategy,
                    progress=False,
                    step=stop.honoured_by(self.step),
                )
            )
            numbers = (result.loss, result.top1_error, result.top5_error)
        except Interrupted:
            stopped = True
        # All workers stop when one does, or the others would wait for its numbers.
        if cluster.any_of(self.strategy, stopped):
            raise Interrupted
        return dict(zip(_NAMES, cluster.from_chief(self.strategy, numbers), strict=True))


def _say(text: str) -> None:
    print(text, file=sys.stderr)
