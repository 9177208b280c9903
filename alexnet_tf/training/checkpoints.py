"""Exact save and resume.

    checkpoints/step-000000400/state.index, state.data-00000-of-00001, progress.json

A checkpoint is written under another name, flushed to disk and renamed, so a directory `step-*` is
always complete. Checksums detect later damage; then the one before is restored. progress.json holds
the checksums of the other files and a digest of itself. Weights, velocities, step and the dropout
layers' counters are restored bit for bit.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
import re
import shutil
import sys

import tensorflow as tf

from alexnet_tf import files
from alexnet_tf.training.errors import Diverged, what_to_do

_PROGRESS = "progress.json"


@dataclasses.dataclass
class Progress:
    """A run's progress: a checkpoint's content besides tensors.

    Attributes:
      step: global batches done.
      history: one row of metrics per finished epoch.
      sums: running sums of the current epoch's metrics.
      model: variant name: a checkpoint of another network is refused by name.
      recipe: the resolved recipe.
      data: fingerprint of the data set; "" in checkpoints of older versions.
      arithmetic: what the last bits depend on, see `resuming.arithmetic`; empty in older ones.
    """

    step: int = 0
    history: list[dict] = dataclasses.field(default_factory=list)
    sums: dict[str, float] = dataclasses.field(default_factory=dict)
    model: str = ""
    recipe: dict = dataclasses.field(default_factory=dict)
    data: str = ""
    arithmetic: dict = dataclasses.field(default_factory=dict)

    def best_step(self) -> int | None:
        """The step of the epoch with the lowest validation error, the first of equals."""
        rows = [row for row in self.history if row["validation_top1_error"] is not None]
        return min(rows, key=lambda row: row["validation_top1_error"])["step"] if rows else None


KEPT = 2  # newest checkpoints, besides the best


class Checkpoints:
    """The checkpoints of one run.

    Args:
      directory: created with the first checkpoint.
      state: everything with tensors to restore.
      keep: how many of the newest are kept, besides the best.
      chief: whether this process writes; one worker writes for all.
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        state: tf.train.Checkpoint,
        keep: int = KEPT,
        chief: bool = True,
    ):
        self.directory = pathlib.Path(directory)
        self.state = state
        self.keep = keep
        self.chief = chief
        self._files: dict[int, dict[str, str]] = {}  # step -> name -> sha256, verified
        self._damaged: set[int] = set()

    def steps(self) -> list[int]:
        """The steps that have a checkpoint, ascending. Other names do not count."""
        found = self.directory.iterdir() if self.directory.is_dir() else ()
        names = (re.fullmatch(r"step-(\d+)", path.name) for path in found)
        return sorted(int(name[1]) for name in names if name)

    def path(self, step: int) -> pathlib.Path:
        return self.directory / f"step-{step:09d}"

    def best(self) -> int | None:
        """The step of the best checkpoint, or None."""
        try:
            return int((self.directory / "best").read_text())
        except (FileNotFoundError, ValueError):
            return None

    def save(self, progress: Progress, best: bool = False) -> None:
        """Writes a checkpoint atomically, then removes old ones.

        If the step has an undamaged checkpoint, only its progress is rewritten.

        Raises:
          OSError: it could not be written; the earlier checkpoints are untouched.
        """
        if not self.chief:
            return
        try:
            if self._is_whole(progress.step):
                self._write_progress(self.path(progress.step), progress)
            else:
                self._write(self.path(progress.step), progress)
        except OSError as error:
            raise OSError(
                f"The checkpoint of step {progress.step} could not be written to "
                f"{self.directory}: {error}. {self.last_good()}: {what_to_do(error)}."
            ) from error
        self._damaged.discard(progress.step)
        if best:
            self.mark_best(progress.step)
        self._prune()

    def last_good(self) -> str:
        """Says from which checkpoint a failed run will continue."""
        whole = [step for step in self.steps() if step not in self._damaged]
        if not whole:
            return "No checkpoint had been saved yet"
        return f"The last good checkpoint is that of step {whole[-1]} in {self.directory}"

    def diverged(self, found: str) -> Diverged:
        """The error of a run that diverged: what was found, and how to continue."""
        return Diverged(
            f"{found}: the run diverged. {self.last_good()}; use a lower --learning_rate, in "
            "another --workdir."
        )

    def mark_best(self, step: int) -> None:
        """Keeps the checkpoint of `step`, if there is one, until another is the best."""
        if self.path(step).exists() and step not in self._damaged:
            files.write_text(self.directory / "best", str(step))

    def _is_whole(self, step: int) -> bool:
        """Whether the step has a checkpoint with the right checksums."""
        if not self.path(step).exists():
            return False
        if step not in self._files:
            try:
                self._read(step)
            except _DAMAGE:
                return False
        return True

    def _write(self, final: pathlib.Path, progress: Progress) -> None:
        with files.aside(self.directory) as folder:
            aside = pathlib.Path(folder)
            try:
                self.state.write(str(aside / "state"))
            except tf.errors.OpError as error:
                raise OSError(f"TensorFlow could not write it ({error.message})") from error
            self._files[progress.step] = {
                path.name: files.fingerprint(path).sha256 for path in sorted(aside.iterdir())
            }
            self._write_progress(aside, progress)
            files.sync_tree(aside)
            if final.exists():  # damaged
                shutil.rmtree(final)
            aside.rename(final)
            files.sync(self.directory)

    def _write_progress(self, directory: pathlib.Path, progress: Progress) -> None:
        content = {"files": self._files[progress.step], **dataclasses.asdict(progress)}
        # The reader computes the digest of what JSON gives back.
        content = json.loads(json.dumps(content))
        text = json.dumps({**content, "digest": _digest(content)}, indent=1)
        files.write_text(directory / _PROGRESS, text)

    def _prune(self) -> None:
        steps = self.steps()
        whole = [step for step in steps if step not in self._damaged]
        for step in steps:
            if step < whole[-1] and step not in (*whole[-self.keep :], self.best()):
                shutil.rmtree(self.path(step))
        for leftover in self.directory.glob(".writing-" + 9 * "[0-9]"):  # of older versions
            shutil.rmtree(leftover, ignore_errors=True)

    def restore(self, model: str) -> Progress | None:
        """Restores the newest undamaged checkpoint; None when there is none.

        Damaged ones are reported on standard error.

        Args:
          model: the variant being trained.

        Raises:
          ValueError: the checkpoints are of another model, or all of them are damaged.
        """
        steps = self.steps()
        for step in reversed(steps):
            path = self.path(step)
            try:
                progress = self._read(step)
            except _DAMAGE as error:
                print(
                    f"warning: {path} is damaged ({error}); trying the one before it.",
                    file=sys.stderr,
                )
                self._damaged.add(step)
                continue
            if progress.model != model:
                raise ValueError(
                    f"{path} is a checkpoint of {progress.model}, but the run trains {model}: "
                    "choose another --workdir, or the same --model."
                )
            try:
                self.state.read(str(path / "state")).assert_consumed()
            except (AssertionError, ValueError, tf.errors.OpError) as error:
                raise ValueError(
                    f"{path} does not fit the network: it was made with other classes, pooling or "
                    "optimiser settings. Choose another --workdir, or the same flags as before."
                ) from error
            if self.chief and self.best() in self._damaged:
                (self.directory / "best").unlink()
            return progress
        if steps:
            raise ValueError(
                f"All {len(steps)} checkpoints in {self.directory} are damaged: restore them from "
                "a copy, or choose another --workdir to start a new run."
            )
        return None

    def _read(self, step: int) -> Progress:
        """A checkpoint's progress, verified; raises one of `_DAMAGE`."""
        path = self.path(step)
        content = json.loads((path / _PROGRESS).read_text())
        digest = content.pop("digest", None)
        # Older versions wrote none.
        if digest is not None and digest != _digest(content):
            raise ValueError(f"the digest of {_PROGRESS} is wrong")
        checksums = content.pop("files")
        for name, expected in checksums.items():
            if files.fingerprint(path / name).sha256 != expected:
                raise ValueError(f"the checksum of {name} is wrong")
        progress = Progress(**content)
        if progress.step != step:
            raise ValueError(f"{_PROGRESS} says that it is of step {progress.step}")
        self._files[step] = checksums
        return progress


# What reading a damaged file may raise.
_DAMAGE = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)


def _digest(content: dict) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
