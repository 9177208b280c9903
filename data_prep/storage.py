"""Paths that are local or remote (gs://, s3://, ...): the few operations that a source needs.

Local files go through the operating system, which is several times faster per picture; everything
else through `tf.io.gfile`, which knows the schemes.
"""

import os


def is_remote(path: str) -> bool:
    return "://" in path


def open_binary(path: str):
    """The file, for reading bytes; it can seek."""
    if is_remote(path):
        import tensorflow as tf

        return tf.io.gfile.GFile(path, "rb")
    return open(path, "rb")


def sync(path: str) -> None:
    """Waits until a local file's content is on the disk."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def exists(path: str) -> bool:
    if is_remote(path):
        import tensorflow as tf

        return tf.io.gfile.exists(path)
    return os.path.exists(path)


def listing(path: str) -> list[tuple[str, int | None]]:
    """Sorted (name, bytes) of what is not hidden in a directory; None for a directory's bytes.

    A remote file's bytes are -1: asking for each would cost a request per picture. A directory that
    is not there has nothing in it.
    """
    if is_remote(path):
        import tensorflow as tf

        if not tf.io.gfile.isdir(path):
            return []
        names = sorted(name.rstrip("/") for name in tf.io.gfile.listdir(path))
        isdir = tf.io.gfile.isdir
        return [(name, None if isdir(os.path.join(path, name)) else -1) for name in names]
    if not os.path.isdir(path):
        return []
    with os.scandir(path) as entries:
        return sorted(
            (entry.name, None if entry.is_dir() else entry.stat().st_size)
            for entry in entries
            if not entry.name.startswith(".")
        )


def folders(path: str) -> list[str]:
    return [name for name, size in listing(path) if size is None]


def files(path: str) -> list[tuple[str, int]]:
    return [(name, size) for name, size in listing(path) if size is not None]


def first_existing(looked_for: list[str], what: str) -> str:
    """The first of the paths that is there.

    Raises:
      FileNotFoundError: none is; the message lists all.
    """
    for path in looked_for:
        if exists(path):
            return path
    raise FileNotFoundError(
        f"{what} is missing; looked for {', '.join(looked_for)}: put it at one of these places."
    )
