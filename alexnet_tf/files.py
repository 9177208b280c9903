"""Reads and writes files atomically: under a temporary name, flushed to disk, then renamed.

Paths may be remote (gs://, s3://, ...) where a function says so. Those go through `tf.io.gfile`;
local ones go through the operating system, which is several times faster.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
import uuid
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

# Not the process id: two containers may use the same one.
_ASIDE = re.compile(r"\.writing-[0-9a-f]{32}(-.*)?")
# The name of a file that `staged` writes, which a killed process may leave behind.
STAGED_SUFFIX = ".aside"


def is_remote(path: str) -> bool:
    """Whether only `tf.io.gfile` can open the path."""
    return "://" in path


def open_regular(path: str | os.PathLike) -> BinaryIO:
    """Opens a local regular file, or a link to one, for reading bytes.

    Other files are refused, because opening a FIFO could block forever.

    Raises:
      OSError: it does not exist, cannot be read, or is a FIFO, socket, device or directory.
    """
    return open(path, "rb", opener=_open)


def _open(path, flags):
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "This is no regular file", os.fspath(path))


def can_write(directory: str | os.PathLike) -> bool:
    """Whether files can be written into a local directory, which need not exist yet.

    Tries to write: permissions do not show a read-only disk, and do not bind a superuser.
    """
    path = os.path.abspath(directory)
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    try:
        with tempfile.TemporaryFile(dir=path):
            return True
    except OSError:
        return False


def open_binary(path: str) -> BinaryIO:
    """Opens a local or remote file for reading bytes; see `open_regular`."""
    return _gfile().GFile(path, "rb") if is_remote(path) else open_regular(path)


def create_binary(path: str) -> BinaryIO:
    """Creates a local or remote file for writing bytes."""
    return _gfile().GFile(path, "wb") if is_remote(path) else open(path, "wb")


class Fingerprint(NamedTuple):
    """Identity of a file's content: its length in bytes and its SHA-256 in hexadecimal."""

    bytes: int
    sha256: str


def fingerprint(path: str | os.PathLike) -> Fingerprint:
    """Computes the fingerprint of a local or remote file."""
    digest, size = hashlib.sha256(), 0
    with open_binary(os.fspath(path)) as file:
        while block := file.read(1 << 20):
            digest.update(block)
            size += len(block)
    return Fingerprint(size, digest.hexdigest())


def sync(path: str | os.PathLike) -> None:
    """Flushes a local file's content, or a directory's list of names, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(path: str | os.PathLike) -> None:
    """Calls `sync` for a local directory and everything below it."""
    for directory, _, names in os.walk(os.fspath(path)):
        for name in names:
            sync(os.path.join(directory, name))
        sync(directory)


@contextlib.contextmanager
def aside(directory: str | os.PathLike) -> Iterator[str]:
    """Yields a new directory `.writing-...` inside `directory` and removes it at the end.

    The process holds a lock on it, which ends with the process. So the next writer into
    `directory` removes what a killed process left there, but nothing that is still being written.

    Args:
      directory: a local directory, created if missing.

    Raises:
      OSError: it cannot be written.
    """
    os.makedirs(directory, exist_ok=True)
    for name in os.listdir(directory):
        if _ASIDE.fullmatch(name):
            _remove_unless_held(os.path.join(directory, name))
    path, held = _make(os.fspath(directory))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(held)


def _make(directory: str) -> tuple[str, int]:
    """Creates a temporary directory; returns it and the descriptor that locks it."""
    while True:
        path = os.path.join(directory, f".writing-{uuid.uuid4().hex}")
        os.mkdir(path)
        with contextlib.suppress(FileNotFoundError):
            held = os.open(path, os.O_RDONLY)
            _lock(held)
            if os.path.exists(path):
                return path, held
            os.close(held)
        # Another process took it for a leftover before it was locked.


def _remove_unless_held(path: str) -> None:
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            if _lock(descriptor):
                shutil.rmtree(path) if os.path.isdir(path) else os.remove(path)
        finally:
            os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Locks an open file or directory; False if another holds it, or it cannot be locked."""
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[str]:
    """Yields a temporary path on the same disk, renamed to `path` if the block succeeds.

    If the block raises, `path` is unchanged and nothing is left behind. The temporary path ends in
    `path`'s name, because many writers take the format from a name's suffix.

    Args:
      path: a local file; its directory is created if missing.

    Raises:
      OSError: it cannot be written.
    """
    directory, name = os.path.split(os.path.abspath(path))
    try:
        with aside(directory) as folder:
            written = os.path.join(folder, name)
            yield written
            # Without this, a crash of the machine may leave an empty file under the new name.
            sync(written)
            os.replace(written, path)
    except OSError as error:
        # The error of a write to a full disk does not name the file.
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


@contextlib.contextmanager
def staged(path: str, shared: bool = True) -> Iterator[str]:
    """`replacing` for one of many files of a work directory, local or remote.

    Does not flush, lock or clean up: that is done once for the whole directory.

    Args:
      path: a local or remote file.
      shared: whether another process may write the same file. Otherwise the leftover of a killed
        process is overwritten.
    """
    written = f"{path}.{uuid.uuid4().hex}{STAGED_SUFFIX}" if shared else f"{path}{STAGED_SUFFIX}"
    try:
        yield written
        _gfile().rename(written, path, overwrite=True) if is_remote(path) else os.replace(
            written, path
        )
    except BaseException:
        with contextlib.suppress(Exception):  # the first error is the one to report
            _gfile().remove(written) if is_remote(path) else os.remove(written)
        raise


def write_bytes(path: str | os.PathLike, content: bytes) -> None:
    """Writes a local file."""
    with replacing(path) as aside, open(aside, "wb") as file:
        file.write(content)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes a local text file in UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: str | os.PathLike, content: Any, indent: int = 2) -> None:
    """Writes a value as JSON to a local file."""
    write_text(path, json.dumps(content, indent=indent) + "\n")


def cache_directory(name: str) -> str:
    """The path of the package's directory `name` in $XDG_CACHE_HOME or ~/.cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(cache, "alexnet_tf", name)


def _gfile():
    import tensorflow as tf  # needed for remote paths only

    return tf.io.gfile
