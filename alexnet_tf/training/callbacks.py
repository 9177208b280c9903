"""What `alexnet_tf.train` adds to training, as Keras callbacks, for `model.fit` in a notebook too.

    steps = steps_per_epoch(dataset, batch_size=128)
    optimizer, loss = make_optimizer(recipe, steps), "sparse_categorical_crossentropy"
    model.compile(optimizer, loss, metrics=["accuracy"])
    resume = ExactResume("run/checkpoints")
    done = resume.restore(model)
    schedule = Schedule(batch_size=128, epochs=90, first_step=done)
    model.fit(
        training_batches(dataset, augmentation, schedule),
        epochs=90, initial_epoch=done // steps, steps_per_epoch=steps,
        callbacks=[resume, MetricsLog("run"), TensorBoardLog("run/tensorboard")],
    )

On a CPU compile with `jit_compile=False`: XLA makes convolutions slower there.
"""

import math
import os
import time
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf.models import Dropout
from alexnet_tf.training import reports, tensorboard
from alexnet_tf.training.checkpoints import Checkpoints, Progress
from alexnet_tf.training.optimizers import PaperSGD
from alexnet_tf.training.recipes import Recipe
from alexnet_tf.training.schedules import current_rate, plateau_rate

_DRAWN = 8  # images
# The beginnings of validation's logs, here and in Keras.
_VALIDATION = ("validation_", "val_")
# Where an epoch is, and not how it went.
_NO_CURVES = ("epoch", "step", "seconds")

# What Keras calls it, and whether ours is what is missing to 1.
_ERRORS = {
    "accuracy": "top1_error",
    "sparse_categorical_accuracy": "top1_error",
    "sparse_top_k_categorical_accuracy": "top5_error",
}


def _steps_done(optimizer) -> int:
    # Under a strategy the variable is one per replica, which int() does not take.
    return int(tf.convert_to_tensor(optimizer.iterations))


class TensorBoardLog(keras.callbacks.Callback):
    """Event files for TensorBoard: those of validation in a directory `validation` inside.

    Scalars of an epoch are the numbers that its logs hold, the learning rate, and per layer the
    ratio of the epoch's last update to the weights (with `PaperSGD`, whose velocity is the update);
    a healthy one is near 1e-3. Means over 20 steps are `steps/...`. Images are the kernels of the
    first convolution, and once some training images as the network gets them. The table of layers
    is a text, and there is the network's graph.

    Args:
      directory: where the event files go.
      optimizer: None for the one that the model was compiled with.
      images: float (n, h, w, channels) of 0..255 to draw, or a function of n that gives them when
        training begins.
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
        images = self.images(_DRAWN) if callable(self.images) else self.images
        with self.writer.as_default(step=0):
            tensorboard.write_network(self.model)
            if images is not None:
                tensorboard.write_images("input", tf.cast(images[:_DRAWN], tf.float32) / 255.0)

    def write_steps(self, last: int, values: np.ndarray, images_per_second: float) -> None:
        """Takes finished steps; see `tensorboard.StepMeans.add`."""
        rate = current_rate(inner_optimizer(self.optimizer or self.model.optimizer))
        with self.writer.as_default(step=last):
            self._means.add(last, values, learning_rate=rate, images_per_second=images_per_second)

    def on_epoch_end(self, epoch, logs=None):
        optimizer = inner_optimizer(self.optimizer or self.model.optimizer)
        step = _steps_done(optimizer)
        training, validation = {"learning_rate": current_rate(optimizer)}, {}
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
            kernels = first_kernels(self.model)
            if kernels is not None:
                tensorboard.write_images("first_kernels", kernel_grid(kernels)[None])
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
    """Checkpoints from which `model.fit` goes on to the same bits as if it had never stopped.

    Weights, velocities, the optimiser's step and the dropout layers' come back; with
    `Schedule(first_step=...)` so does the place in the data. A checkpoint is atomic, and a damaged
    one falls back to the one before.

    Stopped inside an epoch (with `every_steps`), finish that epoch first with
    `steps_per_epoch=steps - done % steps`, then go on with whole epochs.

    The step is the number of batches seen. The optimiser's own count would be less where loss
    scaling skipped an update.

    Args:
      directory: of the checkpoints.
      every_steps: save inside an epoch too, every so many steps; 0 saves at its end only.
    """

    def __init__(self, directory: str | os.PathLike, every_steps: int = 0):
        super().__init__()
        self.directory = directory
        self.every_steps = every_steps
        self.progress = Progress()
        self._epochs_first_step = 0
        self._checkpoints: Any = None  # from restore on

    def restore(self, model: keras.Model) -> int:
        """Brings a compiled model to where its run stopped; returns the steps done, 0 if none.

        Raises:
          ValueError: the checkpoints do not fit the model, or all of them are damaged.
        """
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        # The model itself would bring Keras' metrics along, which exist only once fit has begun.
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
                "ExactResume does not know where the run stands: call its restore(model) before "
                "model.fit, and give the pipeline the step that it returns."
            )

    def on_epoch_begin(self, epoch, logs=None):
        self._epochs_first_step = self.progress.step

    def on_train_batch_end(self, batch, logs=None):
        before = self.progress.step
        self.progress.step = self._epochs_first_step + batch + 1
        # Keras may run several steps per call, and call once for all of them.
        if self.every_steps and before // self.every_steps < self.progress.step // self.every_steps:
            self._checkpoints.save(self.progress)

    def on_epoch_end(self, epoch, logs=None):
        self.progress.history.append({"epoch": epoch + 1, **(logs or {})})
        self._checkpoints.save(self.progress)


class MetricsLog(keras.callbacks.Callback):
    """metrics.csv as `alexnet_tf.train` writes it, so that `alexnet_tf.analyze curves` draws it.

    Keras' accuracies become errors: `accuracy` top-1, `sparse_top_k_categorical_accuracy` top-5.

    Args:
      workdir: where metrics.csv goes; rows of epochs that it has already are kept.
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
    """The paper's schedule: a tenth of the rate whenever the validation error stops improving.

    Args:
      recipe: its learning_rate and patience.
      monitor: a log that gets smaller, such as "val_loss".
      errors: those of the epochs before, in a run that goes on.
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
                f"PlateauRate looks at {self.monitor!r}, but the epoch's logs have {sorted(logs)}: "
                "give model.fit validation_data, or PlateauRate another monitor."
            )
        self.errors.append(float(logs[self.monitor]))


def inner_optimizer(optimizer):
    """The optimiser itself, without the loss scaling around it."""
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
        # A zero rate leaves the velocity as it was, and the weights too.
        moved = float(tf.norm(velocity.value)) if factor else 0.0
        size = float(tf.norm(tf.cast(variable.value, tf.float32)))
        found[variable.path] = moved / size if size else math.inf
    return found


def first_kernels(model: keras.Model) -> np.ndarray | None:
    """(h, w, 1 or 3, n) kernels that look at pixels, or None where there are none such."""
    for layer in model.layers:
        for weight in layer.weights[:1]:
            shape = weight.shape
            return np.asarray(weight) if len(shape) == 4 and shape[2] in (1, 3) else None
    return None


def kernel_grid(kernels: np.ndarray, zoom: int = 4) -> np.ndarray:
    """Kernels side by side, as an image of 0..1 in which 0.5 is a weight of 0.

    Args:
      kernels: (h, w, channels, n).
      zoom: pixels per weight.

    Returns:
      float32 (height, width, channels): as nearly square as n allows, a dark line between kernels.
    """
    height, width, channels, count = kernels.shape
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    largest = np.abs(kernels).max() or 1.0
    cells = 0.5 + kernels.transpose(3, 0, 1, 2) / (2 * largest)
    cells = cells.repeat(zoom, axis=1).repeat(zoom, axis=2)
    grid = np.zeros((rows * (height * zoom + 1), columns * (width * zoom + 1), channels), "float32")
    for number, cell in enumerate(cells):
        top = number // columns * (height * zoom + 1)
        left = number % columns * (width * zoom + 1)
        grid[top : top + height * zoom, left : left + width * zoom] = cell
    return grid
