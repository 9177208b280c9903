"""Reads the classes in a development kit's meta.mat, in a separate process.

SciPy's reader can crash on a damaged file (seen with SciPy 1.17).
"""

import functools
import io
import json
import os
import subprocess
import sys

_SECONDS = 120  # an intact file takes less than one


@functools.lru_cache(maxsize=4)
def synsets(meta: bytes) -> dict[int, str]:
    """ILSVRC id -> synset.

    Args:
      meta: the file's content.

    Raises:
      ValueError: it is damaged, or no table of synsets.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-P", __file__]
    try:
        done = subprocess.run(
            command, input=meta, capture_output=True, timeout=_SECONDS, env=environment
        )
    except subprocess.TimeoutExpired:
        raise ValueError("reading it does not end") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["its reader crashed"]
        raise ValueError(said[-1])
    return {int(number): synset for number, synset in json.loads(done.stdout)}


def _read(meta):
    import numpy as np
    import scipy.io

    content = scipy.io.loadmat(io.BytesIO(meta), squeeze_me=True, struct_as_record=False)
    table = np.atleast_1d(content["synsets"])
    # Later years rename the field and keep the numbers.
    field = next(key for key in table.flat[0]._fieldnames if key.endswith("_ID"))
    return [(int(getattr(entry, field)), str(entry.WNID)) for entry in table.flat]


if __name__ == "__main__":
    json.dump(_read(sys.stdin.buffer.read()), sys.stdout)
