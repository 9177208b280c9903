"""What `alexnet_tf.train` adds to training, as Keras callbacks for `model.fit`.

docs/recipes.md has an example. On a CPU compile the model with `jit_compile=False`: XLA makes
convolutions slower there.
"""

import math
import os
import time
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf.analysis import plots
from alexnet_tf.models import Dropout
from alexnet_tf.training import reports, tensorboard
from alexnet_tf.training.checkpoints import Checkpoints, Progress
from alexnet_tf.training.optimizers import PaperSGD
from alexnet_tf.training.recipes import Recipe
from alexnet_tf.training.schedules import current_rate, plateau_rate

_IMAGES, _ZOOM = 8, 4  # training images that are drawn; pixels per weight of a kernel
# The beginnings of validation's logs, here and in Keras.
_VALIDATION = ("validation_", "val_")
# Where an epoch is, and not how it went.
_NO_CURVES = ("epoch", "step", "seconds")

# Keras' accuracy -> our error column, 1 - accuracy.
_ERRORS = {
    "accuracy": "top1_error",
    "sparse_categorical_accuracy": "top1_error",
    "sparse_top_k_categorical_accuracy": "top5_error",
}


def _steps_done(optimizer) -> int:
    # Under a strategy the variable is one per replica, which int() does not take.
    return int(tf.convert_to_tensor(optimizer.iterations))


class TensorBoardLog(keras.callbacks.Callback):
    """Writes TensorBoard event files; those of validation go to a directory `validation` inside.

    Scalars: the epoch's logs, the learning rate, and with `PaperSGD` per layer the ratio of the
    epoch's last update to the weights; a healthy one is near 1e-3. `steps/...` are means over 20
    steps. Images: the first layer's kernels, and once some training images as the network gets
    them. Also a text, the table of layers, and the network's graph.

    Args:
      directory: of the event files.
      optimizer: None for the model's.
      images: float (n, h, w, channels), 0..255, or a function of n that returns them when training
        begins.
    """

    def __init__(self, directory: str | os.PathLike, optimizer=None, images=None):
        super().__init__()
        self.directory = os.fspath(directory)
        self.optimizer = optimizer
        self.images = images
        self.writer: Any = None  # from on_train_begin on
        self._validation: Any = None  # from the first validation on
        self._means = tensorboard.StepMeans()

    def on_train_begin(self, logs=None):
        self.writer = tf.summary.create_file_writer(self.directory)
        images = self.images(_IMAGES) if callable(self.images) else self.images
        with self.writer.as_default(step=0):
            tensorboard.write_network(self.model)
            if images is not None:
                tensorboard.write_images("input", tf.cast(images[:_IMAGES], tf.float32) / 255.0)

    def write_steps(self, last: int, values: np.ndarray, images_per_second: float) -> None:
        """Takes finished steps; see `tensorboard.StepMeans.add`."""
        rate = current_rate(inner_optimizer(self.optimizer or self.model.optimizer))
        with self.writer.as_default(step=last):
            self._means.add(last, values, learning_rate=rate, images_per_second=images_per_second)

    def on_epoch_end(self, epoch, logs=None):
        optimizer = inner_optimizer(self.optimizer or self.model.optimizer)
        step = _steps_done(optimizer)
        training: dict[str, float] = {"learning_rate": current_rate(optimizer)}
        validation: dict[str, float] = {}
        for name, value in (logs or {}).items():
            prefix = next((one for one in _VALIDATION if name.startswith(one)), "")
            if isinstance(value, (int, float)) and name not in _NO_CURVES:
                (validation if prefix else training)[name.removeprefix(prefix)] = value
        with self.writer.as_default(step=step):
            for name, value in training.items():
                tensorboard.write_scalar(name, value)
            if isinstance(optimizer, PaperSGD):
                for path, ratio in update_ratios(optimizer, self.model.trainable_variables).items():
                    tensorboard.write_scalar(f"update_to_weight/{path}", ratio)
            kernels = _kernels_image(self.model)
            if kernels is not None:
                tensorboard.write_images("first_kernels", kernels[None])
        self.writer.flush()
        if validation:
            self._write_validation(step, validation)

    def _write_validation(self, step: int, scalars: dict[str, float]) -> None:
        if self._validation is None:
            directory = os.path.join(self.directory, "validation")
            self._validation = tf.summary.create_file_writer(directory)
        with self._validation.as_default(step=step):
            for name, value in scalars.items():
                tensorboard.write_scalar(name, value)
        self._validation.flush()

    def on_train_end(self, logs=None):
        for writer in (self.writer, self._validation):
            if writer is not None:
                writer.close()


class ExactResume(keras.callbacks.Callback):
    """Checkpoints from which `model.fit` resumes to the same bits as an uninterrupted run.

    Restores weights, velocities, the optimiser's step and the dropout layers'; use
    `Schedule(first_step=...)` for the position in the data. Checkpoints are atomic; a damaged one
    falls back to the one before.

    A run stopped inside an epoch (with `every_steps`) first finishes that epoch with
    `steps_per_epoch=steps - done % steps`, then continues with whole epochs.

    Args:
      directory: of the checkpoints.
      every_steps: save every N steps too; 0 saves at the end of epochs only.
    """

    def __init__(self, directory: str | os.PathLike, every_steps: int = 0):
        super().__init__()
        self.directory = directory
        self.every_steps = every_steps
        self.progress = Progress()
        self._epochs_first_step = 0
        self._checkpoints: Any = None  # from restore on

    def restore(self, model: keras.Model) -> int:
        """Restores a compiled model; returns the number of batches that it was trained on.

        Raises:
          ValueError: the checkpoints do not fit the model, or all of them are damaged.
        """
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        # Not the model itself: its metrics exist only once fit has begun.
        state = tf.train.Checkpoint(
            weights=[weight.value for weight in model.weights],
            optimizer=[variable.value for variable in model.optimizer.variables],
            dropout=[layer.step for layer in model.layers if isinstance(layer, Dropout)],
        )
        self._checkpoints = Checkpoints(self.directory, state)
        self.progress = self._checkpoints.restore(model.name) or Progress(model=model.name)
        return self.progress.step

    def on_train_begin(self, logs=None):
        if self._checkpoints is None:
            raise ValueError(
                "ExactResume does not know the run's step: call its restore(model) before "
                "model.fit, and give the pipeline the step that it returns."
            )

    def on_epoch_begin(self, epoch, logs=None):
        self._epochs_first_step = self.progress.step

    def on_train_batch_end(self, batch, logs=None):
        before = self.progress.step
        self.progress.step = self._epochs_first_step + batch + 1
        # Keras may call this once for several steps. The optimiser's count would leave out
        # steps that loss scaling skipped.
        if self.every_steps and before // self.every_steps < self.progress.step // self.every_steps:
            self._checkpoints.save(self.progress)

    def on_epoch_end(self, epoch, logs=None):
        self.progress.history.append({"epoch": epoch + 1, **(logs or {})})
        self._checkpoints.save(self.progress)


class MetricsLog(keras.callbacks.Callback):
    """metrics.csv as `alexnet_tf.train` writes it, so that `alexnet_tf.analyze curves` draws it.

    Keras' accuracies become errors: `accuracy` top-1, `sparse_top_k_categorical_accuracy` top-5.

    Args:
      workdir: of metrics.csv; rows of earlier epochs are kept.
    """

    def __init__(self, workdir: str | os.PathLike):
        super().__init__()
        self.workdir = os.fspath(workdir)
        self._history: list[dict] = []
        self._images, self._began = 0, 0.0

    def on_epoch_begin(self, epoch, logs=None):
        if not self._history:
            self._history = reports.read_metrics(self.workdir)[:epoch]
        self._began = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        optimizer = inner_optimizer(self.model.optimizer)
        row = dict.fromkeys(reports.METRICS)
        row.update(
            epoch=epoch + 1,
            step=_steps_done(optimizer),
            learning_rate=current_rate(optimizer),
            seconds=time.monotonic() - self._began,
        )
        for name, value in (logs or {}).items():
            prefix, name = ("validation_", name[4:]) if name.startswith("val_") else ("", name)
            if name in _ERRORS:
                row[prefix + _ERRORS[name]] = 1.0 - value
            elif prefix + name in row:
                row[prefix + name] = value
        self._history.append(row)
        reports.write_metrics(self.workdir, self._history)


class PlateauRate(keras.callbacks.Callback):
    """The paper's schedule: divides the rate by 10 when the validation error stops improving.

    Args:
      recipe: its learning_rate and patience count.
      monitor: a log to minimise, such as "val_loss".
      errors: of earlier epochs, in a resumed run.
    """

    def __init__(self, recipe: Recipe, monitor: str = "val_loss", errors=()):
        super().__init__()
        self.recipe = recipe
        self.monitor = monitor
        self.errors = list(errors)

    def on_epoch_begin(self, epoch, logs=None):
        self.model.optimizer.learning_rate = plateau_rate(self.recipe, self.errors)

    def on_epoch_end(self, epoch, logs=None):
        if self.monitor not in (logs or {}):
            raise ValueError(
                f"PlateauRate monitors {self.monitor!r}, but the epoch's logs have {sorted(logs)}: "
                "give model.fit validation_data, or PlateauRate another monitor."
            )
        self.errors.append(float(logs[self.monitor]))


def inner_optimizer(optimizer):
    """The optimiser without loss scaling."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def update_ratios(optimizer: PaperSGD, variables) -> dict[str, float]:
    """Variable path -> norm of the last update / norm of the variable, for kernels.

    Args:
      optimizer: after at least one step.
      variables: those that it was built with, in their order.
    """
    found = {}
    for variable, velocity in zip(variables, optimizer.velocities, strict=True):
        if variable.path.endswith("bias"):
            continue
        factor = optimizer.layer_learning_rates.get(variable.path.split("/")[-2], 1.0)
        if not isinstance(factor, float):
            factor = float(factor(optimizer.iterations - 1))
        # At a rate of zero the velocity is no update.
        moved = float(tf.norm(velocity.value)) if factor else 0.0
        size = float(tf.norm(tf.cast(variable.value, tf.float32)))
        found[variable.path] = moved / size if size else math.inf
    return found


def _kernels_image(model: keras.Model) -> np.ndarray | None:
    """The first layer's kernels as an image, or None if it has no kernels over pixels."""
    try:
        kernels = plots.first_kernels(model)
        mosaic = plots.kernel_mosaic(kernels, groups=plots.kernel_groups(model))
    except ValueError:
        return None
    return mosaic.repeat(_ZOOM, axis=0).repeat(_ZOOM, axis=1)
