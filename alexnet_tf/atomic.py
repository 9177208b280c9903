"""Files that are whole or not there: written under another name, then renamed.

The other name is in a directory `.writing-...` beside the final one, which the writing process
holds by a lock. The lock ends with the process, however it ends; so whoever writes next into the
same directory removes what a killed process left, and nothing that is still being written.
"""

import contextlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from typing import Any

# Not the process's id: two may have the same, in two containers.
_ASIDE = re.compile(r"\.writing-[0-9a-f]{32}(-.*)?")


@contextlib.contextmanager
def aside(directory: str | os.PathLike) -> Iterator[str]:
    """Gives a new directory inside `directory` for what is not whole yet; it is removed at the end.

    What killed processes left in `directory` is removed first.

    Args:
      directory: a local directory, made if need be.

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
    """A directory aside and the descriptor that holds it."""
    while True:
        path = os.path.join(directory, f".writing-{uuid.uuid4().hex}")
        os.mkdir(path)
        with contextlib.suppress(FileNotFoundError):
            held = os.open(path, os.O_RDONLY)
            _lock(held)
            if os.path.exists(path):
                return path, held
            os.close(held)
        # Another process took it for a leftover before it was held.


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
    """Gives another path on `path`'s disk, which becomes `path` when the block ends well.

    When the block raises, `path` stays as it was and nothing is left behind. The directory is made
    if need be. The other path has `path`'s name, by whose ending many a writer knows the format.

    Args:
      path: a local file.

    Raises:
      OSError: it cannot be written.
    """
    directory, name = os.path.split(os.path.abspath(path))
    try:
        with aside(directory) as folder:
            written = os.path.join(folder, name)
            yield written
            # Without this a crash of the machine may leave an empty file under the new name.
            with open(written, "rb") as file:
                os.fsync(file.fileno())
            os.replace(written, path)
    except OSError as error:
        # A write to a full disk does not say which file it was.
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes a text file in UTF-8."""
    with replacing(path) as aside, open(aside, "w", encoding="utf-8", newline="") as file:
        file.write(text)


def write_json(path: str | os.PathLike, content: Any, indent: int = 2) -> None:
    """Writes a value as JSON."""
    write_text(path, json.dumps(content, indent=indent) + "\n")
