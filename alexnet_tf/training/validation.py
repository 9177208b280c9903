"""The errors on the validation split after each epoch."""

import sys

from alexnet_tf import evaluation
from alexnet_tf.data import identity
from alexnet_tf.training.cluster import Cluster
from alexnet_tf.training.errors import Interrupted, StopRequest
from alexnet_tf.training.initialization import Setup, input_size
from alexnet_tf.training.recipes import Recipe

# Of a step that takes more images than the recipe's batches have.
_MOST_IMAGES, _MOST_PIXELS = 1024, 128 * 227**2
_NAMES = ("validation_loss", "validation_top1_error", "validation_top5_error")


class Validation:
    """Evaluates the whole validation split with the centre crop.

    Each worker evaluates all of it, so none waits for another; the chief's numbers count.

    Attributes:
      possible: whether there are labelled validation images.

    Args:
      setup: of the run.
      cluster: its processes.
    """

    def __init__(self, setup: Setup, cluster: Cluster):
        self.model, self.dataset, self.cluster = setup.model, setup.dataset, cluster
        recipe, dataset = setup.run.recipe, setup.dataset
        self.settings = evaluation.EvaluationSettings(
            "validation", crops=1, batch_size=images_per_step(recipe)
        )
        # One function for all epochs: traced once.
        self.step = evaluation.forward_step(
            setup.model, 1, cluster.local_strategy, setup.jit_compile
        )
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
        # Building the pipeline takes longer than a small network's validation.
        self.batches = self.possible and evaluation.distributed_batches(
            setup.model, dataset, self.settings, cluster.local_strategy, again=True
        )

    def errors(self, stop: StopRequest) -> dict[str, float | None]:
        """The validation columns of a row of metrics; None without validation images.

        Raises:
          Interrupted: this or another worker was asked to stop.
        """
        if not self.possible:
            return dict.fromkeys(_NAMES)
        numbers, stopped = (0.0, 0.0, 0.0), False
        try:
            result = evaluation.score(
                *evaluation.split_probabilities(
                    self.model,
                    self.dataset,
                    self.settings,
                    self.cluster.local_strategy,
                    progress=False,
                    step=stop.honoured_by(self.step),
                    batches=self.batches,
                )
            )
            numbers = (result.loss, result.top1_error, result.top5_error)
        except Interrupted:
            stopped = True
        # All workers stop together, or the others would wait for the stopped one's numbers.
        if self.cluster.any_of(stopped):
            raise Interrupted
        return dict(zip(_NAMES, self.cluster.from_chief(numbers), strict=True))


def images_per_step(recipe: Recipe) -> int:
    """Images in a step of validation: the recipe's batch, or a multiple of it for small images.

    A small network's step takes less time than what surrounds it.
    """
    images, crop = recipe.batch_size, input_size(recipe)
    return images * max(1, min(_MOST_IMAGES // images, _MOST_PIXELS // (images * crop**2)))


def _say(text: str) -> None:
    print(text, file=sys.stderr)
