"""Stop signals, and TensorFlow's and the disk's errors as one sentence that says what to do."""

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
        """The function, which raises Interrupted instead once the run is asked to stop."""

        def unless_requested(*arguments):
            if self.requested:
                raise Interrupted
            return function(*arguments)

        return unless_requested


@contextlib.contextmanager
def stop_requests():
    """SIGTERM and SIGINT ask the loop to save and leave; a second SIGINT leaves at once."""
    stop = StopRequest()

    def request(number, frame):
        if stop.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.requested = True

    try:
        old = {number: signal.signal(number, request) for number in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:  # not the main thread: a notebook or a server decides about signals
        old = {}
    try:
        yield stop
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


class Diverged(ValueError):
    """The loss, a weight or (with numerics checked) any intermediate result is not finite."""


def what_to_do(error: OSError) -> str:
    """The advice that fits an error of writing to a workdir; the second half of a sentence."""
    # By the words: TensorFlow's errors hold the system's message, but not its number.
    full = (os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
    if any(words in str(error) for words in full):
        return "free some space and run the same command again"
    return "name a --workdir that can be written, or mend this one, and run the same command again"


@contextlib.contextmanager
def explained(data_dir: str):
    """Turns TensorFlow's errors about images, numbers and memory into sentences."""
    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        if "No space left" in str(error.message):
            raise OSError(
                "The disk is full: free some space and run the same command again; the "
                "checkpoints that are there are whole."
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
        # Behind TensorFlow's words, what our own reader of records said.
        said = lines[0].rpartition("ValueError: ")[2].rstrip(".")
        raise ValueError(
            f"TensorFlow cannot go on with the images of {data_dir} ({said}): "
            f"run `python -m data_prep.verify --data_dir={data_dir}`."
        ) from error


@contextlib.contextmanager
def results_written(workdir: str):
    """Says what to do when one of the run's own files cannot be written."""
    try:
        yield
    except OSError as error:
        raise OSError(
            f"The results could not be written to {workdir}: {error}. Checkpoints that are there "
            f"are whole: {what_to_do(error)}."
        ) from error
