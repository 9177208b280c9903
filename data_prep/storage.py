"""Local and remote directories (gs://, s3://, ...) of images, and errors of writing to them."""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator

from alexnet_tf.files import is_remote

_ORDINARY = (stat.S_IFREG, stat.S_IFDIR)
_ODD = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
# Errors of a full disk, a quota or a file size limit.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def needs_room(path: str) -> Iterator[None]:
    """Explains what to do if the disk is full when the block writes to `path` or below.

    Raises:
      OSError: writing failed, through TensorFlow's file systems too; the message names the file, or
        else `path`.
    """
    import tensorflow as tf

    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise OSError(_no_room(error.filename or path, error.strerror)) from None
    except tf.errors.OpError as error:
        if any(os.strerror(number) in error.message for number in _FULL):
            raise OSError(_no_room(path, error.message)) from None
        raise OSError(f"Writing {path} failed: {error.message}") from None


@contextlib.contextmanager
def remote_errors() -> Iterator[None]:
    """Turns errors of TensorFlow's file systems into an OSError of one sentence."""
    import tensorflow as tf

    try:
        yield
    except tf.errors.UnimplementedError as error:
        raise OSError(
            f"{error.message}: this TensorFlow reads local paths and gs://, mount or copy the rest."
        ) from None
    except tf.errors.OpError as error:
        raise OSError(f"The file system failed: {error.message}") from None


def _no_room(path, reason):
    return (
        f"There is no room to write {path} ({reason}): make room there, then start the same "
        "command again; what is finished is kept."
    )


def exists(path: str) -> bool:
    if is_remote(path):
        import tensorflow as tf

        return tf.io.gfile.exists(path)
    return os.path.exists(path)


def is_folder(path: str) -> bool:
    if is_remote(path):
        import tensorflow as tf

        return tf.io.gfile.isdir(path)
    return os.path.isdir(path)


def entries(path: str) -> Iterator[tuple[str, os.stat_result | None, str]]:
    """Yields (name, status, odd kind) of everything in a directory.

    The kind is "" for directories and regular files, also behind a link. A broken link has no
    status. Remote paths cost one request each.
    """
    if is_remote(path):
        import tensorflow as tf

        for name in tf.io.gfile.listdir(path):
            found = tf.io.gfile.stat(os.path.join(path, name))
            kind = stat.S_IFDIR if found.is_directory else stat.S_IFREG
            seconds = found.mtime_nsec // 10**9
            fields = (kind, 0, 0, 0, 0, 0, found.length, seconds, seconds, seconds)
            yield name.rstrip("/"), os.stat_result(fields), ""
        return
    with os.scandir(path) as inside:
        for entry in inside:
            try:
                status = entry.stat()
            except OSError:
                yield entry.name, None, "a link that leads nowhere"
                continue
            kind = stat.S_IFMT(status.st_mode)
            yield entry.name, status, "" if kind in _ORDINARY else _ODD.get(kind, "no regular file")
