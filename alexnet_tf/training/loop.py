"""train(): a run, from a recipe to a saved network; an interrupted one resumes to the same bits."""

import contextlib
import os
import pathlib
import sys
import time
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from alexnet_tf.data.pipeline import Schedule, bytes_in_memory
from alexnet_tf.models import compilation
from alexnet_tf.progress import tqdm
from alexnet_tf.training import initialization, reports, resuming, workdir
from alexnet_tf.training.callbacks import TensorBoardLog
from alexnet_tf.training.checkpoints import Checkpoints, Progress
from alexnet_tf.training.cluster import Cluster
from alexnet_tf.training.debugging import numerics_checked
from alexnet_tf.training.distributed_input import Feed
from alexnet_tf.training.epoch_lines import EpochLines
from alexnet_tf.training.errors import (
    Interrupted,
    StopRequest,
    explained,
    results_written,
    stop_requests,
)
from alexnet_tf.training.metrics import EpochMetrics, epoch_row
from alexnet_tf.training.pace import Pace
from alexnet_tf.training.run import Run
from alexnet_tf.training.schedules import last_rate, plateau_rate, watched_errors
from alexnet_tf.training.validation import Validation


def train(
    run: Run,
    strategy: tf.distribute.Strategy | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> dict:
    """Trains a run, or continues it from the newest checkpoint in `run.workdir`.

    Args:
      run: what to train, on which data.
      strategy: from `distribution.make_strategy`; None for one device.
      callbacks: get each finished step and each epoch's row of metrics; on several workers only
        the chief's are called. With callbacks that see steps, steps are started one by one.

    Returns:
      The content of results.json: the final training metrics and the validation errors.

    Raises:
      ValueError: recipe, data set, checkpoint and strategy do not fit together.
      OSError: a file could not be read or written, another training is running in the workdir, or
        another worker is gone.
      Diverged: the loss became NaN or infinite; the last good checkpoint stays.
      Interrupted: SIGTERM or SIGINT; a checkpoint was saved.
    """
    strategy = strategy or compilation.default_strategy()
    cluster = Cluster(strategy)
    workdir.require_local(run.workdir)
    lock = workdir.held(run.workdir) if cluster.is_chief else contextlib.nullcontext()
    with lock, cluster.explained(), explained(run.data_dir):
        setup = initialization.prepare(run, strategy, verbose=cluster.is_chief)
        trainer = _Trainer(setup, cluster, callbacks)
        progress = resuming.start_or_resume(setup, trainer.checkpoints, cluster)
        trainer.write(reports.write_config, setup)
        checked = numerics_checked() if run.debug_numerics else contextlib.nullcontext()
        with checked, stop_requests() as stop:
            trainer.run_epochs(progress, stop)
        results = {"steps": progress.step, "epochs": len(progress.history), **progress.history[-1]}
        trainer.write(reports.write_results, setup, progress.history, results)
        return results


class _Trainer:
    """Runs the epochs of a prepared run."""

    def __init__(self, setup: initialization.Setup, cluster: Cluster, callbacks: Sequence):
        self.setup, self.run, self.recipe = setup, setup.run, setup.run.recipe
        self.cluster = cluster
        self.checkpoints = Checkpoints(
            pathlib.Path(self.run.workdir) / "checkpoints",
            tf.train.Checkpoint(model=setup.model, optimizer=setup.optimizer),
            chief=cluster.is_chief,
        )
        self.log = TensorBoardLog(
            os.path.join(self.run.workdir, "tensorboard"), setup.optimizer, setup.first_images
        )
        lines = EpochLines(self.recipe.epochs)
        of_chief = [*callbacks, self.log, lines] if cluster.is_chief else []
        self.callbacks = keras.callbacks.CallbackList(of_chief, model=setup.model)
        one_by_one = self.run.debug_numerics or any(map(_sees_steps, callbacks))
        self.pace = Pace(cluster, one_by_one)
        self.validation = Validation(setup, cluster)

    def run_epochs(self, progress: Progress, stop: StopRequest) -> None:
        """Trains until the recipe's last epoch is done."""
        epoch_steps, batch_size = self.setup.steps_per_epoch, self.recipe.batch_size
        total = self.recipe.epochs * epoch_steps
        ended = progress.step // epoch_steps  # epochs; the last one may not be validated yet
        if progress.step >= total and len(progress.history) == ended:
            return
        setup, replicas = self.setup, self.setup.strategy.num_replicas_in_sync
        schedule = Schedule(
            batch_size, self.recipe.epochs, self.run.seed, progress.step, replicas=replicas
        )
        service = self.run.data_service
        feed = Feed(setup.strategy, setup.dataset, setup.augmentation, schedule, service)
        kept = 0 if self.run.data_service else bytes_in_memory(self.setup.dataset)
        if kept and self.cluster.is_chief:
            print(f"The images stay in memory once read: {kept / 1e6:.0f} MB.", file=sys.stderr)
        if self.setup.jit_compile and self.cluster.is_chief:
            print("XLA compiles the training step, once: this takes a while.", file=sys.stderr)
        self.callbacks.on_train_begin()
        with tqdm(
            total=total * batch_size,
            initial=progress.step * batch_size,
            unit=" images",
            unit_scale=True,
            desc="training",
            disable=not self.cluster.is_chief,
        ) as bar:
            if len(progress.history) < ended and progress.step % epoch_steps == 0:
                self._end_epoch(progress, stop)
            while progress.step < total:
                stops = self._train_epoch(progress, feed, stop, bar)
                if self.validation.possible:  # which may take long
                    self._save(progress)
                self._end_epoch(progress, stop)
                if stops and progress.step < total:
                    raise Interrupted(self._stopped_at(progress.step))
        self.callbacks.on_train_end()

    def _train_epoch(self, progress: Progress, feed: Feed, stop: StopRequest, bar: tqdm) -> bool:
        """Trains to the end of the epoch, saving on the way; returns whether to stop there.

        Raises:
          Interrupted: a stop was requested before the end.
        """
        steps, epoch = self.setup.steps, progress.step // self.setup.steps_per_epoch
        if self.recipe.schedule == "plateau":
            errors = watched_errors(progress.history)
            self.setup.optimizer.learning_rate = plateau_rate(self.recipe, errors)
        steps.scatter()
        self.callbacks.on_epoch_begin(epoch)
        batches = feed.of_epoch(epoch)
        label = f"epoch {epoch + 1}/{self.recipe.epochs}"
        metrics = EpochMetrics(
            progress,
            self.recipe.batch_size,
            self.pace,
            self.checkpoints,
            bar,
            label,
            self.log.write_steps if self.cluster.is_chief else None,
        )
        saved, ends = time.monotonic(), False
        while not ends:
            count = self._steps_of_call(progress.step)
            with feed.explained(epoch):
                self._call_each(self.callbacks.on_train_batch_begin, progress.step, count)
                flag = tf.constant(float(stop.requested))
                metrics.add(steps.run(batches, tf.constant(count), flag))
                progress.step += count
                if self.pace.one_by_one:  # callbacks see finished steps
                    metrics.flush()
                self._call_each(self.callbacks.on_train_batch_end, progress.step - count + 1, count)
                ends = progress.step % self.setup.steps_per_epoch == 0
                due = self._saves_inside and self.run.checkpoint_every.is_due(progress.step, saved)
                stops = self.cluster.stops(stop.requested, metrics.stop)
                if not (ends or due or stops):
                    continue
                metrics.flush()
            steps.gather()
            if not ends:
                if self._saves_inside:
                    self._save(progress)
                    saved = time.monotonic()
                if stops:
                    raise Interrupted(self._stopped_at(progress.step))
        progress.sums["learning_rate"] = last_rate(self.setup.optimizer)
        return self.cluster.stops(stop.requested, metrics.stop)

    @property
    def _saves_inside(self) -> bool:
        """Whether a run can resume inside an epoch; a data service keeps no order there."""
        return not self.run.data_service

    def _steps_of_call(self, step: int) -> int:
        """Steps to start at once after `step`: not beyond the epoch or a checkpoint."""
        every, left = self.run.checkpoint_every.steps, self.setup.steps_per_epoch
        left -= step % left
        if every and self._saves_inside:
            left = min(left, every - step % every)
        return min(self.pace.steps(), left)

    def _call_each(self, callback, first: int, count: int) -> None:
        for step in range(first, first + count):
            callback(step)

    def _end_epoch(self, progress: Progress, stop: StopRequest) -> None:
        """Validates, then saves the checkpoint and the epoch's row of metrics."""
        try:
            validated = self.validation.errors(stop)
        except Interrupted:
            raise Interrupted(self._stopped_at(progress.step)) from None
        row = epoch_row(progress, validated)
        progress.history.append(row)
        progress.sums = {}
        self._save(progress, best=progress.best_step() == progress.step)
        self.write(reports.write_metrics, self.run.workdir, progress.history)
        self.callbacks.on_epoch_end(row["epoch"] - 1, row)

    def _save(self, progress: Progress, best: bool = False) -> None:
        # The last loss was finite, but the update after it may not have been.
        for variable in self.setup.model.trainable_variables:
            if not bool(tf.reduce_all(tf.math.is_finite(tf.convert_to_tensor(variable)))):
                raise self.checkpoints.diverged(
                    f"{variable.path} is not finite after step {progress.step}"
                )
        self.checkpoints.save(progress, best)

    def _stopped_at(self, step: int) -> str:
        directory = self.checkpoints.directory
        if self._saves_inside:
            return (
                f"Stopped at step {step} as asked, and saved it in {directory}: the same command "
                "goes on from there."
            )
        newest = (self.checkpoints.steps() or [0])[-1]
        return (
            f"Stopped at step {step} as asked: a data service keeps no order within an epoch, so "
            f"the same command goes on from step {newest}, the newest in {directory}."
        )

    def write(self, function: Callable, *arguments) -> None:
        """Calls a function of `reports`, in the chief only."""
        if self.cluster.is_chief:
            with results_written(self.run.workdir):
                function(*arguments)


def _sees_steps(callback: keras.callbacks.Callback) -> bool:
    """Whether a callback does anything at a step."""
    names = ("on_train_batch_begin", "on_train_batch_end", "on_batch_begin", "on_batch_end")
    base = keras.callbacks.Callback
    return any(getattr(type(callback), name) is not getattr(base, name) for name in names)
