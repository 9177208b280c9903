"""Locks, checks, renames and cleans the output directory."""

import contextlib
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator

import tensorflow as tf

from alexnet_tf import files
from alexnet_tf.data import records
from data_prep import metadata, writer

# What the work directory holds besides the data set.
UNPACKED, LOCK, MOVING = "unpacked", "lock", "moving.json"
WORK_SUFFIXES = (writer.RECEIPT_SUFFIX, writer.SUMS_SUFFIX, files.STAGED_SUFFIX)
_SHARD = re.compile(r".*\.tfrecord-\d{5}-of-\d{5}")
# Moved last: without these a directory is no data set.
_LAST = (records.MANIFEST_FILE, "dataset_info.json")


def work_folder(output: str) -> str:
    """The directory of an unfinished conversion."""
    return f"{output}.partial"


@contextlib.contextmanager
def exclusive(folder: str) -> Iterator[None]:
    """Creates a directory if need be and locks it against other converters.

    A remote directory is locked among the processes of this machine only.

    Raises:
      BlockingIOError: another process holds the lock.
      OSError: the directory cannot be made.
    """
    import fcntl

    path = _lock_path(folder)
    while True:
        _make_folder(folder)
        try:
            file = open(path, "w")  # noqa: SIM115 (closed below)
        except FileNotFoundError:
            continue  # another converter finished between these two lines
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BlockingIOError(
                    f"Another conversion is writing to {folder}: wait for it, or name another "
                    "--output."
                ) from None
            if not _is_at(file, path):
                continue  # this locked what another converter has renamed or removed
            yield
            return


def is_new(folder: str) -> bool:
    """Whether nothing was done yet in a work directory."""
    return all(name == LOCK for name in tf.io.gfile.listdir(folder))


def remove_others(folder: str, shards: set[str]) -> None:
    """Removes shards of an earlier plan."""
    for name in tf.io.gfile.listdir(folder):
        shard = _SHARD.match(name)
        if shard and shard[0] not in shards:
            tf.io.gfile.remove(os.path.join(folder, name))


def publish(folder: str, output: str) -> None:
    """Renames the finished work directory and removes what only the work needed.

    If it is killed, the next conversion continues: receipts go last.
    """
    if not files.is_remote(output):
        for name in os.listdir(folder):  # flushed before the rename
            if not _is_work(name):
                files.sync(os.path.join(folder, name))
        os.replace(folder, output)
        clean(output)
        return
    # An object store cannot rename a directory, so files are moved one by one.
    names = [name for name in tf.io.gfile.listdir(folder) if not _is_work(name)]
    writer.write_text(os.path.join(folder, MOVING), json.dumps(names))
    tf.io.gfile.makedirs(output)
    for name in [*(name for name in names if name not in _LAST), *_LAST]:
        tf.io.gfile.rename(os.path.join(folder, name), os.path.join(output, name), True)
    _remove_moved(folder)


def is_moving(output: str) -> bool:
    """Whether the files of a remote `output` were being moved there when it was interrupted."""
    return files.is_remote(output) and tf.io.gfile.exists(os.path.join(work_folder(output), MOVING))


def take_back(folder: str, output: str) -> None:
    """Undoes an interrupted `publish`: moves its files back to the work directory."""
    path = os.path.join(folder, MOVING)
    if not tf.io.gfile.exists(path):
        return
    with tf.io.gfile.GFile(path, "r") as file:
        names = json.loads(file.read())
    for name in names:
        here, there = os.path.join(folder, name), os.path.join(output, name)
        if not tf.io.gfile.exists(here) and tf.io.gfile.exists(there):
            tf.io.gfile.rename(there, here)
    tf.io.gfile.remove(path)


def clean(output: str) -> None:
    """Removes leftovers of a `publish` that was killed near its end."""
    for name in tf.io.gfile.listdir(output):
        path = os.path.join(output, name)
        if name.rstrip("/") == UNPACKED:
            tf.io.gfile.rmtree(path)
        elif _is_work(name):
            with contextlib.suppress(tf.errors.NotFoundError):
                tf.io.gfile.remove(path)
    if is_moving(output):
        with contextlib.suppress(BlockingIOError), exclusive(work_folder(output)):
            _remove_moved(work_folder(output))


def finished(output: str, settings) -> dict | None:
    """The manifest of `output` if it is the data set that `settings` (a dataclass) ask for.

    Returns:
      None if there is nothing yet.

    Raises:
      FileExistsError: it is something else, or incomplete.
    """
    if not tf.io.gfile.exists(output):
        return None
    if not tf.io.gfile.isdir(output):
        raise FileExistsError(f"{output} is a file: expected a directory, name another --output.")
    names = tf.io.gfile.listdir(output)
    if not names:
        return None
    if not set(_LAST) <= set(names):
        if is_moving(output):
            return None
        raise FileExistsError(
            f"{output} already holds {len(names)} files that are no prepared data set: expected "
            "a new or empty directory, name another --output."
        )
    manifest = records.read_manifest(output)
    # Settings that an older manifest lacks had their defaults.
    found = {**metadata.as_settings(type(settings)()), **manifest["settings"]}
    wanted = metadata.as_settings(settings)
    differing = [name for name in wanted if found.get(name) != wanted[name]]
    if differing:
        name = differing[0]
        raise FileExistsError(
            f"{output} was already prepared with {name}={found.get(name)}, expected "
            f"{wanted[name]}: remove it or name another --output."
        )
    _check_shards(output, manifest)
    clean(output)
    return manifest


def _check_shards(output, manifest):
    damaged = [
        shard["file"]
        for shard in manifest["shards"]
        if _size(os.path.join(output, shard["file"])) != shard["bytes"]
    ]
    if damaged:
        raise FileExistsError(
            f"{output} was already prepared, but {len(damaged)} of its {len(manifest['shards'])} "
            f"shards are missing or have another size, the first is {damaged[0]}: restore them, or "
            "remove the directory and convert again."
        )


def _size(path):
    try:
        return tf.io.gfile.stat(path).length
    except tf.errors.NotFoundError:
        return None


def _is_work(name):
    name = name.rstrip("/")
    return (
        name in (UNPACKED, LOCK, MOVING) or name.startswith("plan-") or name.endswith(WORK_SUFFIXES)
    )


def _remove_moved(folder):
    """Removes a work directory; its list of moved files goes last, so that this can be repeated."""
    for name in tf.io.gfile.listdir(folder):
        path = os.path.join(folder, name)
        if tf.io.gfile.isdir(path):
            tf.io.gfile.rmtree(path)
        elif name != MOVING:
            tf.io.gfile.remove(path)
    tf.io.gfile.rmtree(folder)


def _make_folder(folder):
    try:
        tf.io.gfile.makedirs(folder)
    except tf.errors.OpError as error:
        raise OSError(f"The directory {folder} cannot be made: {error.message}") from None


def _lock_path(folder):
    if files.is_remote(folder):
        name = hashlib.sha256(folder.encode()).hexdigest()[:16]
        return os.path.join(tempfile.gettempdir(), f"data_prep-{name}.lock")
    return os.path.join(folder, LOCK)


def _is_at(file, path):
    """Whether an open file still is the one at `path`."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False
