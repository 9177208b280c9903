"""Stop signals, and TensorFlow and disk errors as one actionable message."""

import contextlib
import dataclasses
import errno
import os
import signal
from collections.abc import Callable

import tensorflow as tf


class Interrupted(Exception):
    """The run was asked to stop; the same command continues it."""


@dataclasses.dataclass
class StopRequest:
    requested: bool = False

    def honoured_by(self, function: Callable) -> Callable:
        """The function, raising Interrupted instead once a stop was requested."""

        def unless_requested(*arguments):
            if self.requested:
                raise Interrupted
            return function(*arguments)

        return unless_requested


@contextlib.contextmanager
def stop_requests():
    """Inside, SIGTERM and SIGINT request a stop; a second SIGINT raises KeyboardInterrupt."""
    stop = StopRequest()

    def request(number, frame):
        if stop.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.requested = True

    try:
        old = {number: signal.signal(number, request) for number in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:  # not the main thread
        old = {}
    try:
        yield stop
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


class Diverged(ValueError):
    """The loss, a weight or (with checked numerics) an intermediate result is not finite."""


def what_to_do(error: OSError) -> str:
    """Advice for an error of writing to a workdir; the second half of a sentence."""
    # By message: TensorFlow's errors have no errno.
    full = (os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
    if any(words in str(error) for words in full):
        return "free some space and run the same command again"
    return "name a writable --workdir, or repair this one, and run the same command again"


@contextlib.contextmanager
def explained(data_dir: str):
    """Turns TensorFlow's errors about images, numbers and memory into messages."""
    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        if "No space left" in str(error.message):
            raise OSError(
                "The disk is full: free some space and run the same command again; the existing "
                "checkpoints are complete."
            ) from error
        raise ValueError(
            "The device's memory is full: use a smaller --batch_size, or more replicas."
        ) from error
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError) as error:
        lines = [line.strip() for line in str(error.message).splitlines() if line.strip()]
        found = [line for line in lines if "Infinity or NaN" in line]
        if found:  # tf.debugging.enable_check_numerics
            raise Diverged(
                f"{found[0].lstrip('! ')}: use a lower --learning_rate, in another --workdir; "
                "ALEXNET_TF_TRACEBACK=1 shows where the operation was made."
            ) from error
        # TensorFlow's message ends with our reader's.
        said = lines[0].rpartition("ValueError: ")[2].rstrip(".")
        raise ValueError(
            f"TensorFlow cannot go on with the images of {data_dir} ({said}): "
            f"run `python -m data_prep.verify --data_dir={data_dir}`."
        ) from error


@contextlib.contextmanager
def results_written(workdir: str):
    """Says what to do when one of the run's files cannot be written."""
    try:
        yield
    except OSError as error:
        raise OSError(
            f"The results could not be written to {workdir}: {error}. The existing checkpoints "
            f"are complete: {what_to_do(error)}."
        ) from error
