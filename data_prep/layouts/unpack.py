"""For sources that cannot be read picture by picture: parquet, TFDS, pickles, compressed files.

Their pictures' bytes are copied, one source file after the other, into plain files of the work
directory, from which shards then read in any order. That needs the source's size in disk, once, and
no memory. What was copied is kept when the run is interrupted.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator

from data_prep import storage
from data_prep.plan import Picture

# (split, file name, synset, bytes)
Item = tuple[str, str, str, bytes]


def unpack(
    folder: str, name: str, stamp: object, read: Callable[[], Iterable[Item]]
) -> Iterator[Picture]:
    """The pictures that `read` yields, with their bytes in files of `folder`.

    Args:
      folder: the directory for these files; made when it is needed.
      name: of the files, unique in this folder.
      stamp: anything JSON that changes when the source file does, as its size.
      read: yields the pictures, in an order that is always the same.
    """
    import tensorflow as tf

    data, index = os.path.join(folder, f"{name}.bin"), os.path.join(folder, f"{name}.jsonl")
    stamp = json.loads(json.dumps(stamp))
    if not _is_current(index, stamp):
        tf.io.gfile.makedirs(folder)
        with (
            tf.io.gfile.GFile(f"{data}.aside", "wb") as out,
            tf.io.gfile.GFile(f"{index}.aside", "wb") as lines,
        ):
            lines.write(json.dumps(stamp).encode() + b"\n")
            offset = 0
            for split, file_name, synset, content in read():
                out.write(content)
                line = Picture(split, data, offset, len(content), file_name, synset).line()
                lines.write(json.dumps(split).encode() + b" " + line + b"\n")
                offset += len(content)
        tf.io.gfile.rename(f"{data}.aside", data, overwrite=True)
        tf.io.gfile.rename(f"{index}.aside", index, overwrite=True)  # last: it vouches for both
    with storage.open_binary(index) as lines:
        next(iter(lines))
        for line in lines:
            split, _, rest = line.decode("utf-8", "surrogateescape").partition(" ")
            yield Picture(json.loads(split), *json.loads(rest))


def _is_current(index, stamp):
    if not storage.exists(index):
        return False
    with storage.open_binary(index) as lines:
        return json.loads(next(iter(lines))) == stamp
