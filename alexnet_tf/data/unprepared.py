"""What to do with a folder of images where a prepared data set is expected."""

import os
import shlex

_IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff")
_SPLITS = {"train", "val", "valid", "validation", "test"}
_LOOKED_AT = 1000  # files and directories


def advice(path: str) -> str | None:
    """The whole command that prepares the images in a local folder; None where there are none.

    Args:
      path: a directory.
    """
    if not _has_image(path):
        return None
    output = f"{path}_records"
    command = f"python -m data_prep.convert --source={shlex.quote(path)}"
    command += f" --output={shlex.quote(output)}"
    if not any(name.lower() in _SPLITS for name in os.listdir(path)):
        command += " --validation_share=0.1"
    return (
        f"{path} is a folder of images and no prepared data set. Prepare one, once: `{command}`; "
        f"then name it: --data_dir={shlex.quote(output)}."
    )


def _has_image(path: str) -> bool:
    seen = 0
    for _, directories, names in os.walk(path):
        if any(name.lower().endswith(_IMAGES) for name in names):
            return True
        seen += len(directories) + len(names)
        if seen > _LOOKED_AT:
            break
    return False
