"""For sources that cannot be read image by image: parquet, TFDS, pickles, compressed files.

Their images' bytes are copied, one source file after the other, into plain files of the work
directory, from which shards then read in any order. That needs the source's size in disk, once, and
no memory. What was copied is kept when the run is interrupted.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator

from data_prep import storage
from data_prep.plan import LeftOut, SourceImage

# (split, file name, synset, bytes), or what is left out and why
Item = tuple[str, str, str, bytes] | LeftOut


def unpack(
    folder: str | None, name: str, stamp: object, read: Callable[[], Iterable[Item]]
) -> Iterator[SourceImage | LeftOut]:
    """The images that `read` yields, with their bytes in files of `folder`.

    Args:
      folder: the directory for these files; made when it is needed. None copies nothing: then the
        images say what there is, and cannot be read.
      name: of the files, unique in this folder.
      stamp: anything JSON that changes when the source file does, as its size and time.
      read: yields the images, in an order that is always the same.
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
        with (
            storage.create_binary(f"{data}.aside") as out,
            storage.create_binary(f"{index}.aside") as lines,
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
        tf.io.gfile.rename(f"{data}.aside", data, overwrite=True)
        tf.io.gfile.rename(f"{index}.aside", index, overwrite=True)  # last: it vouches for both
    with storage.open_binary(index) as lines:
        next(iter(lines))
        for line in lines:
            values = json.loads(line.decode("utf-8", "surrogateescape"))
            yield LeftOut(*values[1:]) if values[0] is None else SourceImage(*values)


def _is_current(index, stamp):
    if not storage.exists(index):
        return False
    with storage.open_binary(index) as lines:
        return json.loads(next(iter(lines))) == stamp
