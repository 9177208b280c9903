"""Copies images of parquet, TFDS, pickles and compressed files to where shards can seek.

The images' bytes are copied, one source file after the other, into plain files of the work
directory. That takes the source's size on disk, and no memory. Finished copies are kept when the
run is interrupted.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator

from alexnet_tf import files
from data_prep import storage
from data_prep.plan import LeftOut, SourceImage

# (split, file name, synset, bytes), or what is left out and why
Item = tuple[str, str, str, bytes] | LeftOut


def unpack(
    folder: str | None, name: str, stamp: object, read: Callable[[], Iterable[Item]]
) -> Iterator[SourceImage | LeftOut]:
    """Copies the images that `read` yields to files in `folder` and yields their places.

    Args:
      folder: the directory for these files, created if need be. None copies nothing: the images
        can then be counted but not read.
      name: of the files, unique in this folder.
      stamp: JSON that changes when the source file does, such as its size and time.
      read: yields the images in a deterministic order.
    """
    import tensorflow as tf

    if folder is None:
        for item in read():
            yield (
                item
                if isinstance(item, LeftOut)
                else SourceImage(item[0], os.sep, 0, 0, *item[1:3])
            )
        return
    data, index = os.path.join(folder, f"{name}.bin"), os.path.join(folder, f"{name}.jsonl")
    stamp = json.loads(json.dumps(stamp))
    source = int(hashlib.sha256(json.dumps(stamp).encode()).hexdigest()[:15], 16)
    if not _is_current(index, stamp):
        tf.io.gfile.makedirs(folder)
        # The index is renamed last: it says that both are complete.
        with (
            files.staged(index, shared=False) as index_aside,
            files.staged(data, shared=False) as data_aside,
            files.create_binary(index_aside) as lines,
            files.create_binary(data_aside) as out,
        ):
            lines.write(json.dumps(stamp).encode() + b"\n")
            offset = 0
            for item in read():
                if isinstance(item, LeftOut):
                    listed = json.dumps([None, *dataclasses.astuple(item)])
                    lines.write(listed.encode("utf-8", "surrogateescape") + b"\n")
                    continue
                split, file_name, synset, content = item
                out.write(content)
                found = SourceImage(split, data, offset, len(content), file_name, synset, source)
                listed = json.dumps(dataclasses.astuple(found), ensure_ascii=False)
                lines.write(listed.encode("utf-8", "surrogateescape") + b"\n")
                offset += len(content)
    with files.open_binary(index) as lines:
        next(iter(lines))
        for line in lines:
            values = json.loads(line.decode("utf-8", "surrogateescape"))
            yield LeftOut(*values[1:]) if values[0] is None else SourceImage(*values)


def _is_current(index, stamp):
    if not storage.exists(index):
        return False
    with files.open_binary(index) as lines:
        return json.loads(next(iter(lines))) == stamp
