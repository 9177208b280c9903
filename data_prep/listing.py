"""Lists every file and folder below a source, once.

Layouts look files up in the listing and mark those that they read besides the images; the
accounting (`accounting.py`) then compares what they took with what exists.
"""

import hashlib
import marshal
import os
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from alexnet_tf.files import is_remote
from data_prep import storage

TFDS_PREFIX = "tfds:"
# A listing smaller than this stays in memory: about a million files.
_IN_MEMORY = 64 * 2**20


class File(NamedTuple):
    """A file in the listing.

    Attributes:
      path: below the source, with "/" between folders.
      size: bytes.
      modified: time of the last change, in nanoseconds; for remote files in seconds.
      odd: "" for a regular file; else what it is, such as "a FIFO": never open these.
    """

    path: str
    size: int
    modified: int
    odd: str

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def hidden(self) -> bool:
        return self.name.startswith(".")


class Listing:
    """All files of a source, hidden ones included, in the order of their names.

    Folders are in memory; names and sizes of many files are in a temporary file.

    Attributes:
      source: the directory; with "tfds:NAME" there are no files.
      count: files.
      bytes: their sizes' sum.
      digest: of all paths and sizes; equal for copies of the source.
      stamp: of all paths, sizes and times; changes when a file is replaced by one of equal size.
      used: path -> purpose, of files that are read but are no images, such as lists of labels.
      image_column, label_column: a table's columns, if the user named them.
    """

    def __init__(
        self,
        source: str,
        without: Iterable[str] = (),
        image_column: str | None = None,
        label_column: str | None = None,
    ):
        """Lists `source`.

        Args:
          source: a directory.
          without: directories to skip, such as an output inside the source.
          image_column: see there.
          label_column: see there.

        Raises:
          OSError: a folder cannot be read.
        """
        self.source = source
        self.image_column, self.label_column = image_column, label_column
        self.count = self.bytes = 0
        self.used: dict[str, str] = {}
        self._without = {os.path.realpath(path) for path in without if not is_remote(path)}
        self._folders: dict[str, tuple[list[str], int, int]] = {}  # names, place in the spool
        self._memory: dict[object, object] = {}
        self._spool = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115
        digest, stamp = hashlib.sha256(), hashlib.sha256()
        if not source.startswith(TFDS_PREFIX) and storage.is_folder(source):
            root = () if is_remote(source) else (_identity(os.stat(source)),)
            self._look("", root, digest, stamp)
        self.digest, self.stamp = digest.hexdigest(), stamp.hexdigest()

    def _look(self, folder, above, digest, stamp):
        """Notes `folder` and what is below it; `above` identifies the folders that hold it."""
        place = os.path.join(self.source, folder) if folder else self.source
        names, found = [], []
        for name, status, odd in storage.entries(place):
            if status is not None and stat.S_ISDIR(status.st_mode):
                # A link to a folder above would go round for ever.
                if _identity(status) in above:
                    found.append((name, 0, 0, "a link to a folder that holds it"))
                elif not self._is_excluded(os.path.join(place, name)):
                    names.append((name, _identity(status)))
            elif status is not None:
                # A status that was not made by the operating system has seconds only.
                modified = status.st_mtime_ns or int(status.st_mtime) * 10**9
                found.append((name, status.st_size, modified, odd))
            else:
                found.append((name, 0, 0, odd))
        found.sort()
        names.sort()
        content = marshal.dumps(found)
        begin = self._spool.seek(0, os.SEEK_END)
        self._spool.write(content)
        self._folders[folder] = ([name for name, _ in names], begin, len(content))
        self.count += len(found)
        for name, size, modified, odd in found:
            self.bytes += size
            line = os.fsencode(f"{_below(folder, name)}\0{size}\0{odd}\n")
            digest.update(line)
            stamp.update(line + b"%d" % modified)
        for name, identity in names:
            self._look(_below(folder, name), (*above, identity), digest, stamp)

    def _is_excluded(self, path):
        return bool(self._without) and os.path.realpath(path) in self._without

    def folders(self, folder: str = "") -> list[str]:
        """Names of the folders directly in `folder` (a path below the source), sorted."""
        return self._folders.get(folder, ([], 0, 0))[0]

    def visible_folders(self, folder: str = "") -> list[str]:
        """`folders` without the hidden ones."""
        return [name for name in self.folders(folder) if not name.startswith(".")]

    def all_files(self, folder: str = "") -> list[File]:
        """All files directly in `folder`, sorted."""
        if folder not in self._folders:
            return []
        _, begin, length = self._folders[folder]
        self._spool.seek(begin)
        return [
            File(_below(folder, name), *rest)
            for name, *rest in marshal.loads(self._spool.read(length))
        ]

    def files(self, folder: str = "") -> list[File]:
        """The regular files directly in `folder` that are not hidden, sorted."""
        return [file for file in self.all_files(folder) if not (file.odd or file.hidden)]

    def below(self, folder: str = "") -> Iterator[File]:
        """`files` of `folder` and of all folders below it that are not hidden."""
        yield from self.files(folder)
        for name in self.visible_folders(folder):
            yield from self.below(_below(folder, name))

    def is_folder(self, path: str) -> bool:
        return path in self._folders

    def find(self, path: str) -> File | None:
        """The regular file at `path` below the source, or None."""
        folder, _, _ = path.rpartition("/")
        return next((file for file in self.files(folder) if file.path == path), None)

    def place(self, path: str) -> str:
        """The full path, local or remote, of a path below the source."""
        return os.path.join(self.source, path)

    def use(self, path: str, purpose: str) -> str:
        """Marks the file at `path` as read for `purpose`; returns its full path."""
        self.used[path] = purpose
        return self.place(path)

    def remember(self, key: object, find: Callable[[], Any]) -> Any:
        """The result of `find`, computed once per `key`: several layouts need the same."""
        if key not in self._memory:
            self._memory[key] = find()
        return self._memory[key]

    def first(self, paths: Iterable[str], what: str) -> str:
        """The first of `paths` (below the source) that exists.

        Raises:
          FileNotFoundError: none exists; the message lists all.
        """
        paths = list(paths)
        for path in paths:
            if self.find(path) or self.is_folder(path):
                return path
        raise FileNotFoundError(
            f"{what} is missing; looked for {', '.join(self.place(path) for path in paths)}: put "
            "it at one of these places."
        )


def _identity(status):
    """Identifies a folder, to detect circles of links; remote ones have no links."""
    return (status.st_dev, status.st_ino) if status.st_ino else object()


def _below(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
