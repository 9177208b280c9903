"""Locks a run's directory: one training at a time."""

import contextlib
import os
import socket
import sys
from collections.abc import Iterator

from alexnet_tf.training.errors import what_to_do

_LOCK = ".lock"


def require_local(workdir: str) -> None:
    """Raises ValueError for a remote workdir, such as gs://bucket/run.

    Object stores can neither rename, flush nor lock files, as checkpoints need.
    """
    if "://" in workdir:
        raise ValueError(
            f"workdir is {workdir!r}: expected a directory of this machine. Name a local one and "
            "copy the run's files afterwards, or mount the remote one."
        )


@contextlib.contextmanager
def held(workdir: str) -> Iterator[None]:
    """Creates the directory and locks it. The system releases the lock when the process ends.

    Raises:
      BlockingIOError: another training holds it.
      OSError: the directory cannot be created or written.
    """
    import fcntl

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
