"""The metrics of an epoch, from the sums that steps return."""

import math
import time
from collections.abc import Callable

import numpy as np

from alexnet_tf.progress import tqdm
from alexnet_tf.training.checkpoints import Checkpoints, Progress
from alexnet_tf.training.pace import Pace

_SUMMED = ("loss", "wrong1", "wrong5")


class EpochMetrics:
    """Adds the sums of training calls to `progress.sums`.

    A call's sums are read while the next call runs, so the device never waits for the host.

    Attributes:
      stop: whether any worker's stop flag was set in the last sums read.

    Args:
      progress: of the run.
      batch_size: images in a global batch.
      pace: is given the time that steps take.
      checkpoints: for the message of a run that diverged.
      bar: the progress bar.
      label: of the epoch, for the bar.
      log: is told of finished steps: the last one's number, an array (steps, 3) of their losses,
        top-1 and top-5 errors, and images per second. None for no log.
    """

    def __init__(
        self,
        progress: Progress,
        batch_size: int,
        pace: Pace,
        checkpoints: Checkpoints,
        bar: tqdm,
        label: str,
        log: Callable[[int, np.ndarray, float], None] | None = None,
    ):
        self._progress, self._batch_size, self._pace = progress, batch_size, pace
        self._checkpoints, self._bar, self._label = checkpoints, bar, label
        self._log = log
        self._pending: dict | None = None
        self._read = time.monotonic()
        self.stop = False

    def add(self, sums: dict) -> None:
        """Takes the sums of a call that was started, and reads those of the one before."""
        self.flush()
        self._pending = sums

    def flush(self) -> None:
        """Reads the sums taken last, which waits for the device.

        Raises:
          Diverged: the loss is NaN or infinite.
        """
        if self._pending is None:
            return
        # Step by step in float64: the sums must not depend on the number of steps in a call.
        values = np.stack([self._pending[name] for name in _SUMMED], axis=1).astype(np.float64)
        self.stop = bool(self._pending["stop"][-1] > 0)
        self._pending = None
        now = time.monotonic()
        seconds, self._read = now - self._read, now
        self._pace.measured(len(values), seconds)
        loss, wrong1 = values.sum(axis=0)[:2]
        if not math.isfinite(loss):
            raise self._checkpoints.diverged(f"The loss is {loss} after step {self._progress.step}")
        images = len(values) * self._batch_size
        sums = self._progress.sums
        for row in values:
            for name, value in zip(_SUMMED, row, strict=True):
                sums[name] = sums.get(name, 0.0) + float(value)
        sums["images"] = sums.get("images", 0) + images
        sums["seconds"] = sums.get("seconds", 0.0) + seconds
        if self._log is not None:
            self._log(self._progress.step, values / self._batch_size, images / seconds)
        self._bar.update(images)
        self._bar.set_postfix_str(
            f"{self._label}, loss {loss / images + 0.0:.3f}, top-1 error {wrong1 / images:.1%}"
        )


def epoch_row(progress: Progress, validated: dict[str, float | None]) -> dict:
    """A row of metrics.csv from the epoch's sums and its validation."""
    sums = progress.sums
    return {
        "epoch": len(progress.history) + 1,
        "step": progress.step,
        "learning_rate": sums["learning_rate"],
        "loss": sums["loss"] / sums["images"] + 0.0,  # no -0
        "top1_error": sums["wrong1"] / sums["images"],
        "top5_error": sums["wrong5"] / sums["images"],
        **validated,
        "images_per_second": sums["images"] / sums["seconds"],
        "seconds": sums["seconds"],
    }
