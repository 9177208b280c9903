"""Exact save and resume.

    checkpoints/step-000000400/state.index, state.data-00000-of-00001, progress.json

A checkpoint is written in a directory of another name, flushed to disk and renamed, so a directory
`step-*` is always whole; should the disk damage it later, its checksums tell and the one before it
is taken. Weights, velocities, step and the dropout layers' counters come back bit for bit.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
import shutil
import sys

import tensorflow as tf

_PROGRESS = "progress.json"


@dataclasses.dataclass
class Progress:
    """Where a run stands; what a checkpoint holds besides tensors.

    Attributes:
      step: global batches that are done.
      history: one row of metrics per finished epoch.
      sums: running sums of the current epoch's metrics.
      model: variant name: a checkpoint of another network is refused by name.
      recipe: the resolved recipe that the run was started with.
    """

    step: int = 0
    history: list[dict] = dataclasses.field(default_factory=list)
    sums: dict[str, float] = dataclasses.field(default_factory=dict)
    model: str = ""
    recipe: dict = dataclasses.field(default_factory=dict)


class Checkpoints:
    """The checkpoints of one run.

    Args:
      directory: where they lie; made when the first is written.
      state: the model, optimiser and whatever else has tensors to come back.
      keep: how many of the newest are kept, besides the best.
      chief: whether this process writes. Replicas mirror each other, so of several workers one
        writes for all.
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        state: tf.train.Checkpoint,
        keep: int = 2,
        chief: bool = True,
    ):
        self.directory = pathlib.Path(directory)
        self.state = state
        self.keep = keep
        self.chief = chief

    def steps(self) -> list[int]:
        """The steps that have a checkpoint, ascending."""
        found = self.directory.glob("step-*") if self.directory.is_dir() else ()
        return sorted(int(path.name.removeprefix("step-")) for path in found)

    def path(self, step: int) -> pathlib.Path:
        return self.directory / f"step-{step:09d}"

    def best(self) -> int | None:
        """The step of the best checkpoint, or None."""
        try:
            return int((self.directory / "best").read_text())
        except (FileNotFoundError, ValueError):
            return None

    def save(self, progress: Progress, best: bool = False) -> None:
        """Writes a checkpoint atomically, then removes those that are no longer needed.

        Raises:
          OSError: it could not be written; the earlier checkpoints are untouched.
        """
        if not self.chief:
            return
        final = self.path(progress.step)
        if not final.exists():
            self._write(final, progress)
        if best:
            self.mark_best(progress.step)
        self._prune()

    def mark_best(self, step: int) -> None:
        """Keeps the checkpoint of `step`, if there is one, until another is the best."""
        if self.path(step).exists():
            _write_text(self.directory / "best", str(step))

    def _write(self, final: pathlib.Path, progress: Progress) -> None:
        aside = self.directory / f".writing-{progress.step:09d}"
        shutil.rmtree(aside, ignore_errors=True)
        try:
            aside.mkdir(parents=True)
            try:
                self.state.write(str(aside / "state"))
            except tf.errors.OpError as error:
                raise OSError(f"TensorFlow could not write it ({error.message})") from error
            files = {path.name: _sha256(path) for path in sorted(aside.iterdir())}
            content = {"files": files, **dataclasses.asdict(progress)}
            _write_text(aside / _PROGRESS, json.dumps(content, indent=1))
            for path in aside.iterdir():
                _flush(path)
            _flush(aside)
            aside.rename(final)
            _flush(self.directory)
        except OSError as error:
            raise OSError(
                f"The checkpoint of step {progress.step} could not be written to "
                f"{self.directory}: {error}. The checkpoints before it are whole: free some space "
                "and run the same command again."
            ) from error
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def _prune(self) -> None:
        steps = self.steps()
        for step in steps[: -self.keep]:
            if step != self.best():
                shutil.rmtree(self.path(step))
        for leftover in self.directory.glob(".writing-*"):
            shutil.rmtree(leftover, ignore_errors=True)

    def restore(self, model: str) -> Progress | None:
        """Brings the newest whole checkpoint back; None when there is none.

        A damaged one is reported on standard error, and the one before it is taken.

        Args:
          model: the variant that is being trained.

        Raises:
          ValueError: the checkpoints are of another model, or all of them are damaged.
        """
        steps = self.steps()
        for step in reversed(steps):
            path = self.path(step)
            try:
                progress = self._read(path)
            except (OSError, ValueError, KeyError, TypeError) as error:
                print(
                    f"warning: {path} is damaged ({error}); trying the one before it.",
                    file=sys.stderr,
                )
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
            return progress
        if steps:
            raise ValueError(
                f"All {len(steps)} checkpoints in {self.directory} are damaged: restore them from "
                "a copy, or choose another --workdir to start anew."
            )
        return None

    def _read(self, path: pathlib.Path) -> Progress:
        content = json.loads((path / _PROGRESS).read_text())
        for name, expected in content.pop("files").items():
            if _sha256(path / name) != expected:
                raise ValueError(f"the checksum of {name} is wrong")
        return Progress(**content)


def _sha256(path: pathlib.Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_text(path: pathlib.Path, text: str) -> None:
    """Writes a small file aside, flushes it and renames it."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_text(text)
    _flush(aside)
    aside.replace(path)


def _flush(path: pathlib.Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
