"""Files of users, named by them or found in their directories: only regular ones are opened."""

import errno
import os
import stat
import tempfile
from typing import BinaryIO


def open_regular(path: str | os.PathLike) -> BinaryIO:
    """Opens a regular file for reading bytes.

    Opening a FIFO waits, perhaps for ever, for a process that writes to it.

    Args:
      path: a local file, or a link to one.

    Raises:
      OSError: it is not there, cannot be read, or is a FIFO, socket, device or directory.
    """
    return open(path, "rb", opener=_open)


def _open(path, flags):
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "This is no regular file", os.fspath(path))


def can_write(directory: str | os.PathLike) -> bool:
    """Whether files can be written into a local directory, which need not be there yet.

    By trying: permissions say nothing about a read-only disk, nor to a superuser.
    """
    path = os.path.abspath(directory)
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    try:
        with tempfile.TemporaryFile(dir=path):
            return True
    except OSError:
        return False
