"""A run's directory belongs to one training at a time."""

import contextlib
import os
import socket
import sys
from collections.abc import Iterator

from alexnet_tf.training.errors import what_to_do

_LOCK = ".lock"


def require_local(workdir: str) -> None:
    """Raises ValueError for a place that is no directory of this machine, such as gs://bucket/run.

    Checkpoints are renamed, flushed and locked, which object stores cannot do.
    """
    if "://" in workdir:
        raise ValueError(
            f"workdir is {workdir!r}: expected a directory of this machine. Name a local one and "
            "copy what the run leaves there, or mount the remote one."
        )


@contextlib.contextmanager
def held(workdir: str) -> Iterator[None]:
    """Makes the directory if need be, and keeps every other training out of it.

    The system lets go of the lock when the process ends, however it ends.

    Raises:
      ValueError: see `require_local`.
      BlockingIOError: another training holds it.
      OSError: the directory cannot be made or written.
    """
    import fcntl

    require_local(workdir)
    try:
        os.makedirs(workdir, exist_ok=True)
        file = open(os.path.join(workdir, _LOCK), "a+", encoding="utf-8")  # noqa: SIM115
    except OSError as error:
        raise OSError(
            f"The run cannot be kept in {workdir} ({error.strerror}): {what_to_do(error)}."
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise BlockingIOError(
                f"Another training is running in {workdir} ({holder}): wait for it, or choose "
                "another --workdir."
            ) from None
        except OSError as error:  # some network file systems have no locks
            print(
                f"warning: {workdir} cannot be locked ({error.strerror}): do not start a second "
                "training there.",
                file=sys.stderr,
            )
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield
