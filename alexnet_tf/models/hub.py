"""`hf://OWNER/NAME`: networks on the Hugging Face Hub, as Keras saves them there.

`model.save("hf://owner/name")` is Keras' own and puts the parts of a `.keras` file into the
repository one by one. Here they are fetched by huggingface_hub, put into a `.keras` file in the
user's cache directory ($XDG_CACHE_HOME or ~/.cache, under alexnet_tf/hub), and checked before
Keras reads them, like every untrusted file.
"""

import hashlib
import os
import re
import zipfile

from alexnet_tf import files

PREFIX = "hf://"
_PARTS = ("config.json", "metadata.json", "model.weights.h5")
_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def is_remote(path: str | os.PathLike) -> bool:
    """Whether the path is on the Hub."""
    return os.fspath(path).startswith(PREFIX)


def local_file(path: str) -> str:
    """Returns the local `.keras` file of `hf://OWNER/NAME`, downloaded if necessary.

    Raises:
      ModuleNotFoundError: huggingface_hub is not installed.
      ValueError: no such repository, or one that holds no network that Keras saved.
    """
    name = path.removeprefix(PREFIX)
    if not _NAME.fullmatch(name):
        raise ValueError(f"{path} names no network of the Hub: expected hf://OWNER/NAME.")
    import huggingface_hub

    try:
        folder = huggingface_hub.snapshot_download(
            repo_id=name, library_name="keras", allow_patterns=list(_PARTS)
        )
    # What its clients of HTTP raise changes with its versions; all mean that it was not fetched.
    except Exception as error:
        said = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(
            f"{path} could not be fetched ({said}): look at the name, the connection and "
            "`hf auth login`."
        ) from error
    for part in _PARTS:
        if not os.path.isfile(os.path.join(folder, part)):
            raise ValueError(
                f"{path} holds no {part}: expected what Keras' model.save({path!r}) writes."
            )
    # The folder's name has the commit.
    digest = hashlib.sha256(os.path.abspath(folder).encode()).hexdigest()[:16]
    file = os.path.join(files.cache_directory("hub"), f"{name.replace('/', '--')}-{digest}.keras")
    if not os.path.exists(file):
        with files.replacing(file) as aside, zipfile.ZipFile(aside, "w") as archive:
            for part in _PARTS:
                archive.write(os.path.join(folder, part), part)
    return file
