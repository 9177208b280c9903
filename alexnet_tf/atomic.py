"""Files that are whole or not there: written under another name, then renamed."""

import contextlib
import json
import os
import uuid
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[str]:
    """Gives another path in `path`'s directory, which becomes `path` when the block ends well.

    When the block raises, `path` stays as it was and nothing is left behind. The directory is made
    if need be. The other path keeps `path`'s ending, by which many a writer knows the format.

    Args:
      path: a local file.

    Raises:
      OSError: it cannot be written.
    """
    directory, name = os.path.split(os.path.abspath(path))
    os.makedirs(directory, exist_ok=True)
    # Not the process's id: two may have the same, in two containers.
    aside = os.path.join(directory, f".writing-{uuid.uuid4().hex}-{name}")
    try:
        yield aside
        # Without this a crash of the machine may leave an empty file under the new name.
        with open(aside, "rb") as file:
            os.fsync(file.fileno())
        os.replace(aside, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(aside)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes a text file in UTF-8."""
    with replacing(path) as aside, open(aside, "w", encoding="utf-8", newline="") as file:
        file.write(text)


def write_json(path: str | os.PathLike, content: Any, indent: int = 2) -> None:
    """Writes a value as JSON."""
    write_text(path, json.dumps(content, indent=indent) + "\n")
