"""train(): a whole run, from a recipe to a network on disk, that any interruption survives."""

import contextlib
import dataclasses
import math
import os
import pathlib
import sys
import time
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf import atomic
from alexnet_tf.data import identity
from alexnet_tf.data.augmentation import Augmentation
from alexnet_tf.data.pipeline import (
    Schedule,
    bytes_in_memory,
    steps_per_epoch,
    training_inputs,
)
from alexnet_tf.data.preprocessing import ColourNoise
from alexnet_tf.data.records import PreparedDataset, open_dataset
from alexnet_tf.models import compilation
from alexnet_tf.models.catalog import find_variant
from alexnet_tf.progress import tqdm
from alexnet_tf.training import (
    class_weights,
    cluster,
    distributed_input,
    initialization,
    reports,
    resuming,
    workdir,
)
from alexnet_tf.training.callbacks import TensorBoardLog
from alexnet_tf.training.checkpoints import Checkpoints, Progress
from alexnet_tf.training.debugging import numerics_checked
from alexnet_tf.training.distribution import TwoTowers
from alexnet_tf.training.epoch_lines import EpochLines
from alexnet_tf.training.errors import (
    Diverged,
    Interrupted,
    StopRequest,
    explained,
    results_written,
    stop_requests,
)
from alexnet_tf.training.optimizers import SharedLossScale
from alexnet_tf.training.pace import Pace
from alexnet_tf.training.recipes import Recipe
from alexnet_tf.training.schedules import (
    last_rate,
    make_optimizer,
    plateau_rate,
    watched_errors,
)
from alexnet_tf.training.step import ReplicaSteps, Steps, input_size, make_network
from alexnet_tf.training.towers import Towers
from alexnet_tf.training.validation import Validation

_KEPT = ("loss", "wrong1", "wrong5")  # of a step's sums
_CALMER = "use a lower --learning_rate, in another --workdir"


@dataclasses.dataclass(frozen=True)
class CheckpointEvery:
    """When to save inside an epoch; the end of an epoch always saves. 0 turns either off."""

    steps: int = 0
    seconds: float = 600.0

    def is_due(self, step: int, saved: float) -> bool:
        """Whether `step` saves, when the last checkpoint was at monotonic time `saved`."""
        of_steps = bool(self.steps) and step % self.steps == 0
        return of_steps or (bool(self.seconds) and time.monotonic() - saved > self.seconds)


@dataclasses.dataclass(frozen=True)
class Run:
    """Everything that decides what a run computes, and where it lies.

    Attributes:
      recipe: see `alexnet_tf.training.recipes`.
      data_dir, first_label: see `records.open_dataset`.
      workdir: where checkpoints, metrics, the model and the results go.
      seed: of weights, order, augmentation and dropout.
      checkpoint_every: when to save inside an epoch.
      flags: what the user asked for, kept in config.json.
      jit_compile: whether XLA compiles the step: "true", "false", or "auto", see
        `alexnet_tf.models.compilation`.
      debug_numerics: stop at the first operation that gives NaN or infinity; compiles nothing.
      data_service: grpc://HOST:PORT of a tf.data service that reads and decodes; "" to do it here.
        It keeps no order, so such a run saves at the end of each epoch only.
    """

    recipe: Recipe
    data_dir: str
    workdir: str
    seed: int = 0
    checkpoint_every: CheckpointEvery = CheckpointEvery()
    flags: dict = dataclasses.field(default_factory=dict)
    jit_compile: str = "auto"
    debug_numerics: bool = False
    data_service: str = ""
    first_label: int | None = None


def train(
    run: Run,
    strategy: tf.distribute.Strategy | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> dict:
    """Trains, or goes on where the run in `run.workdir` stopped.

    Args:
      run: what to train on what.
      strategy: from `alexnet_tf.training.distribution.make_strategy`; None for one device.
      callbacks: told of each epoch (with its row of metrics) and each finished step. Of several
        workers only the chief has any. With callbacks, steps are started one by one.

    Returns:
      What results.json holds: the final training metrics and the validation errors.

    Raises:
      ValueError: recipe, data set, checkpoint and strategy do not fit together.
      OSError: something could not be read or written, another training is running in the workdir,
        or another worker is gone.
      Diverged: the loss became NaN or infinite; the last good checkpoint stays.
      Interrupted: SIGTERM or SIGINT; a checkpoint was saved.
    """
    strategy = strategy or compilation.default_strategy()
    workdir.require_local(run.workdir)
    chief = cluster.is_chief(strategy)
    with workdir.held(run.workdir) if chief else contextlib.nullcontext():
        return _train(run, strategy, callbacks)


def _train(run: Run, strategy, callbacks) -> dict:
    dataset = initialization.as_network_sees(
        run.recipe, open_dataset(run.data_dir, run.first_label)
    )
    several = cluster.workers(strategy) > 1
    lost_workers = cluster.lost_workers() if several else contextlib.nullcontext()
    with lost_workers, explained(run.data_dir):
        trainer = _Trainer(run, strategy, dataset, callbacks)
        progress = trainer.resume()
        if trainer.is_chief:
            with results_written(run.workdir):
                trainer.write_config()
        checked = numerics_checked() if run.debug_numerics else contextlib.nullcontext()
        with checked, stop_requests() as stop:
            trainer.run_epochs(progress, stop)
        return trainer.finish(progress)


class _Trainer:
    """The objects of one run."""

    def __init__(
        self,
        run: Run,
        strategy: tf.distribute.Strategy,
        dataset: PreparedDataset,
        callbacks: Sequence[keras.callbacks.Callback],
    ):
        self.source = initialization.open_source(run.recipe)
        recipe = initialization.with_crop_size(run.recipe, dataset, self.source)
        self.run = dataclasses.replace(run, recipe=recipe)
        self.strategy, self.dataset = strategy, dataset
        self.workers = cluster.workers(strategy)
        self.is_chief = cluster.is_chief(strategy)
        self.steps = steps_per_epoch(dataset, recipe.batch_size)
        self.class_weights = class_weights.of_run(recipe, dataset, self.is_chief)
        self.schedule = Schedule(
            batch_size=recipe.batch_size,
            epochs=recipe.epochs,
            seed=run.seed,
            replicas=strategy.num_replicas_in_sync,
        )
        self.mean = initialization.network_mean(recipe, dataset, self.source)
        self.augmentation = self._augmentation()
        with strategy.scope():
            self.model = make_network(
                recipe, dataset.classes, dataset.format.channels, self.mean, run.seed
            )
            slow = initialization.prepare_body(self.model, recipe)
            self.optimizer = make_optimizer(recipe, self.steps, slow, self.model)
            if recipe.precision == "mixed_float16":
                self.optimizer = SharedLossScale(self.optimizer)
            # Built now: restoring needs the velocities to exist.
            self.optimizer.build(self.model.trainable_variables)
        self.checkpoints = Checkpoints(
            pathlib.Path(run.workdir) / "checkpoints",
            tf.train.Checkpoint(model=self.model, optimizer=self.optimizer),
            chief=self.is_chief,
        )
        images = recipe.epochs * self.steps * recipe.batch_size
        self.jit_compile = not run.debug_numerics and compilation.is_worthwhile(
            run.jit_compile, strategy, images
        )
        if isinstance(strategy, TwoTowers):
            if run.jit_compile == "true":
                raise ValueError(
                    "jit_compile=true needs another strategy than towers: XLA compiles for one "
                    "device, and the halves of the network are on two."
                )
            self.jit_compile = False
        self.run = dataclasses.replace(self.run, jit_compile=str(self.jit_compile).lower())
        self.train_steps = self._train_steps()
        self.log = TensorBoardLog(
            os.path.join(run.workdir, "tensorboard"), self.optimizer, self._first_images
        )
        of_chief = [*callbacks, self.log, EpochLines(recipe.epochs)] if self.is_chief else []
        self.callbacks = keras.callbacks.CallbackList(of_chief, model=self.model)
        self.stop_wanted = False  # by any worker, in the last sums that were looked at
        self.pace = Pace(strategy, one_by_one=bool(callbacks) or run.debug_numerics)
        self.validation = Validation(self.model, dataset, recipe, strategy, self.jit_compile)

    def _train_steps(self) -> Steps:
        arguments = {"augment": self._augment(), "class_weights": self.class_weights}
        if isinstance(self.strategy, TwoTowers):
            variant = find_variant(self.run.recipe.model)
            return Towers(self.strategy, variant, self.model, self.optimizer, **arguments)
        return ReplicaSteps(
            self.strategy,
            self.model,
            self.optimizer,
            self.run.recipe.batch_size,
            jit_compile=self.jit_compile,
            **arguments,
        )

    def _augment(self):
        # What XLA compiled cannot be checked from inside.
        return self.augmentation.apply if self.run.debug_numerics else self.augmentation.compiled

    def _first_images(self, count: int):
        """Some augmented images of the run, to look at."""
        size = min(count, self.run.recipe.batch_size)
        schedule = Schedule(size, epochs=1, seed=self.run.seed, shuffle_buffer=size)
        batches = training_inputs(self.dataset, self.augmentation, schedule)
        images, _, draws = next(iter(batches))
        return self._augment()(images, draws)

    def _augmentation(self) -> Augmentation:
        recipe = self.run.recipe
        noise = None
        if recipe.colour_noise != "none":
            noise = ColourNoise.from_statistics(
                self.dataset.statistics(), recipe.colour_noise, self.mean
            )
        return Augmentation(
            crop_size=input_size(recipe),
            border=recipe.border,
            mirror=recipe.mirror,
            crop_group=recipe.crop_group,
            noise=noise,
            noise_epochs=recipe.colour_noise_epochs,
        )

    def resume(self) -> Progress:
        """The newest checkpoint's state, or a new run's."""
        weights = None if self.class_weights is None else self.class_weights.tolist()
        recipe = {**dataclasses.asdict(self.run.recipe), "class_weight": weights}
        # As JSON gives it back: tuples become lists.
        settings = reports.as_json({**recipe, "seed": self.run.seed})
        data = identity.fingerprint(self.dataset)
        arithmetic = resuming.arithmetic(self.jit_compile)
        progress = self.checkpoints.restore(self.run.recipe.model)
        cluster.require_same_step(self.strategy, progress.step if progress else 0)
        if progress is None:
            if self.source:
                names = self.dataset.synsets
                print(initialization.take_weights(self.model, self.source, names), file=sys.stderr)
            return Progress(
                model=self.run.recipe.model,
                recipe=settings,
                data=data,
                arithmetic=arithmetic,
            )
        resuming.go_on(progress, settings, data, arithmetic, self.run.workdir)
        # A run that was killed right after the best checkpoint's write had no time to say so.
        if self.is_chief and (best := _best_step(progress)) is not None:
            self.checkpoints.mark_best(best)
        return progress

    def run_epochs(self, progress: Progress, stop: StopRequest) -> None:
        """Trains until the recipe's last epoch is done."""
        recipe = self.run.recipe
        total = recipe.epochs * self.steps
        ended = progress.step // self.steps  # epochs, of which the last may not be validated yet
        if progress.step >= total and len(progress.history) == ended:
            return
        schedule = dataclasses.replace(self.schedule, first_step=progress.step)
        feed = distributed_input.Feed(
            self.strategy, self.dataset, self.augmentation, schedule, self.run.data_service
        )
        kept = 0 if self.run.data_service else bytes_in_memory(self.dataset)
        if kept and self.is_chief:
            print(f"The images stay in memory once read: {kept / 1e6:.0f} MB.", file=sys.stderr)
        if self.jit_compile and self.is_chief:
            print("XLA compiles the training step, once: this takes a while.", file=sys.stderr)
        self.callbacks.on_train_begin()
        with tqdm(
            total=total * recipe.batch_size,
            initial=progress.step * recipe.batch_size,
            unit=" images",
            unit_scale=True,
            desc="training",
            disable=not self.is_chief,
        ) as bar:
            if len(progress.history) < ended and progress.step % self.steps == 0:
                self._end_epoch(progress, stop)
            while progress.step < total:
                self._run_epoch(progress, feed, stop, bar)
        self.callbacks.on_train_end()

    def _run_epoch(self, progress: Progress, feed: distributed_input.Feed, stop, bar) -> None:
        recipe = self.run.recipe
        epoch = progress.step // self.steps
        if recipe.schedule == "plateau":
            errors = watched_errors(progress.history)
            self.optimizer.learning_rate = plateau_rate(recipe, errors)
        self.train_steps.scatter()
        self.callbacks.on_epoch_begin(epoch)
        batches = feed.of_epoch(epoch)
        # What the device was given and what it has not answered yet. One call is always under way
        # while the one before is looked at, so the device does not wait for the host.
        pending: list[dict] = []
        started = saved = time.monotonic()
        ends_epoch = False
        while not ends_epoch:
            count = self._steps_of_call(progress.step)
            self._tell_of_steps(self.callbacks.on_train_batch_begin, progress.step, count)
            with feed.explained(epoch):
                # One worker's wish to stop reaches all of them with the steps' sums.
                sums = self.train_steps.run(
                    batches, tf.constant(count), tf.constant(float(stop.requested))
                )
                started = self._collect(progress, pending, started, bar, epoch)
                pending = [sums]
                progress.step += count
                if self.pace.one_by_one:  # callbacks are told of a step that is done
                    started = self._collect(progress, pending, started, bar, epoch)
                    pending = []
                self._tell_of_steps(
                    self.callbacks.on_train_batch_end, progress.step - count + 1, count
                )
                ends_epoch = progress.step % self.steps == 0
                due = self._is_due(progress.step, saved)
                # Several workers go by the sums that they have looked at, the same in all of them,
                # so that all stop at the same step.
                stopping = stop.requested if self.workers == 1 else self.stop_wanted
                if not (ends_epoch or due or stopping):
                    continue
                started = self._collect(progress, pending, started, bar, epoch)
                pending = []
            self.train_steps.gather()  # what follows looks at the network in one piece
            if ends_epoch:
                break
            if not self.run.data_service:
                self._save(progress)
                saved = time.monotonic()
            if stopping:
                raise Interrupted(self._farewell(progress))
        progress.sums["learning_rate"] = last_rate(self.optimizer)
        if self.validation.possible:  # it takes its time, in which much can happen
            self._save(progress)
        self._end_epoch(progress, stop)

    def _steps_of_call(self, step: int) -> int:
        """Steps to start at once after `step`: not beyond the epoch or a checkpoint."""
        every = self.run.checkpoint_every.steps
        room = self.steps - step % self.steps
        if every and not self.run.data_service:
            room = min(room, every - step % every)
        return min(self.pace.steps(), room)

    def _is_due(self, step: int, saved: float) -> bool:
        return not self.run.data_service and self.run.checkpoint_every.is_due(step, saved)

    def _tell_of_steps(self, tell, first: int, count: int) -> None:
        for step in range(first, first + count):
            tell(step)

    def _farewell(self, progress: Progress) -> str:
        directory = self.checkpoints.directory
        if self.run.data_service:
            newest = (self.checkpoints.steps() or [0])[-1]
            return (
                f"Stopped at step {progress.step} as asked: a data service keeps no order within "
                f"an epoch, so the same command goes on from step {newest}, the newest in "
                f"{directory}."
            )
        return (
            f"Stopped at step {progress.step} as asked, and saved it in {directory}: the same "
            "command goes on from there."
        )

    def _collect(self, progress: Progress, pending, started: float, bar, epoch: int) -> float:
        """Adds the sums of calls to the epoch's; looks whether the loss is still a number."""
        if not pending:
            return started
        # Step after step, in float64: the sums must not depend on how many there are in a call.
        values = np.concatenate(
            [np.stack([call[name] for name in _KEPT], axis=1) for call in pending]
        ).astype(np.float64)
        self.stop_wanted = bool(pending[-1]["stop"][-1] > 0)
        now = time.monotonic()
        self.pace.measured(len(values), now - started)
        images = len(values) * self.run.recipe.batch_size
        loss, wrong1 = values.sum(axis=0)[:2]
        if not math.isfinite(loss):
            raise Diverged(
                f"The loss is {loss} after step {progress.step}: the run diverged. "
                f"{self.checkpoints.last_good()}; {_CALMER}."
            )
        for row in values:
            for name, value in zip(_KEPT, row, strict=True):
                progress.sums[name] = progress.sums.get(name, 0.0) + float(value)
        progress.sums["images"] = progress.sums.get("images", 0) + images
        progress.sums["seconds"] = progress.sums.get("seconds", 0.0) + now - started
        if self.is_chief:
            batch = self.run.recipe.batch_size
            self.log.write_steps(progress.step, values / batch, images / (now - started))
        bar.update(images)
        bar.set_postfix_str(
            f"epoch {epoch + 1}/{self.run.recipe.epochs}, loss {loss / images + 0.0:.3f}, "
            f"top-1 error {wrong1 / images:.1%}"
        )
        return now

    def _save(self, progress: Progress, best: bool = False) -> None:
        # The last loss was finite, but the update after it may not have been.
        for variable in self.model.trainable_variables:
            if not bool(tf.reduce_all(tf.math.is_finite(tf.convert_to_tensor(variable)))):
                raise Diverged(
                    f"{variable.path} is not finite after step {progress.step}: the run diverged. "
                    f"{self.checkpoints.last_good()}; {_CALMER}."
                )
        self.checkpoints.save(progress, best)

    def _end_epoch(self, progress: Progress, stop: StopRequest) -> None:
        epoch, sums = progress.step // self.steps - 1, progress.sums
        try:
            validated = self.validation.errors(stop)
        except Interrupted:
            raise Interrupted(self._farewell(progress)) from None
        row = {
            "epoch": epoch + 1,
            "step": progress.step,
            "learning_rate": sums["learning_rate"],
            # A sum of zeros may be -0.
            "loss": sums["loss"] / sums["images"] + 0.0,
            "top1_error": sums["wrong1"] / sums["images"],
            "top5_error": sums["wrong5"] / sums["images"],
            **validated,
            "images_per_second": sums["images"] / sums["seconds"],
            "seconds": sums["seconds"],
        }
        progress.history.append(row)
        progress.sums = {}
        self._save(progress, best=_best_step(progress) == progress.step)
        if self.is_chief:
            with results_written(self.run.workdir):
                reports.write_metrics(self.run.workdir, progress.history)
        self.callbacks.on_epoch_end(epoch, row)

    def write_config(self) -> None:
        reports.write_config(self.run, self.dataset, self.strategy, self.class_weights)

    def finish(self, progress: Progress) -> dict:
        """Writes the final network and results.json."""
        results = {"steps": progress.step, "epochs": len(progress.history), **progress.history[-1]}
        if self.is_chief:
            with results_written(self.run.workdir):
                reports.write_metrics(self.run.workdir, progress.history)
                reports.write_model(self.run, self.dataset, self.model)
                self.write_config()  # again: the workdir may have been removed since the start
                atomic.write_json(os.path.join(self.run.workdir, "results.json"), results)
        return results


def _best_step(progress: Progress) -> int | None:
    """The step of the epoch with the lowest validation error, the first of equals."""
    rows = [row for row in progress.history if row["validation_top1_error"] is not None]
    return min(rows, key=lambda row: row["validation_top1_error"])["step"] if rows else None
