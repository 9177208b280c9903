"""An atlas's directory: every file whole or not there, and an interrupted one continued.

While an atlas is made, what is measured is kept in `unfinished/`, with what it is made from. A
later call with the same model, data and settings goes on from there; with others it is refused.
`atlas.json` is written last and holds every number of the pages.
"""

import json
import os
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np

from alexnet_tf import files

NUMBERS_FILE = "atlas.json"
INDEX_FILE = "index.html"
_UNFINISHED = "unfinished"
_MADE_FROM = "made_from.json"
_OTHER = {
    "format": "another version of this package",
    "model": "another model",
    "data": "other data",
    "settings": "other settings",
}
_LARGE = 64  # pixels: from this side on an image of a photograph's kind is stored as JPEG


class Storage:
    """The directory `path` of an atlas made from `made_from`, JSON-ready facts.

    Raises:
      ValueError: the directory holds an atlas of something else, or other files.
    """

    def __init__(self, path: str, made_from: dict[str, Any]):
        self.path = path
        self._made_from = made_from
        self._unfinished = os.path.join(path, _UNFINISHED)
        self.finished = os.path.exists(os.path.join(path, NUMBERS_FILE))
        known = os.path.join(self._unfinished, _MADE_FROM)
        found = None
        if self.finished:
            found = _read(os.path.join(path, NUMBERS_FILE)).get("made_from", {})
        elif os.path.exists(known):
            found = _read(known)
        elif os.path.isdir(path) and set(os.listdir(path)) - {_UNFINISHED}:
            raise ValueError(f"{path} holds other files: name a new or an empty directory.")
        if found is not None and found != made_from:
            different = [_OTHER[key] for key in made_from if found.get(key) != made_from[key]]
            raise ValueError(
                f"{path} holds an atlas of {' and '.join(different)}: name another directory, or "
                "remove that one."
            )
        if not self.finished:
            files.write_json(known, made_from)

    def measured(self, name: str, measure: Callable[[], Any]) -> Any:
        """A JSON value, measured unless it is there from before."""
        path = os.path.join(self._unfinished, f"{name}.json")
        if not os.path.exists(path):
            files.write_json(path, measure(), indent=0)
        return _read(path)

    def measured_arrays(
        self, name: str, measure: Callable[[], dict[str, np.ndarray]]
    ) -> dict[str, np.ndarray]:
        """Named arrays, measured unless they are there from before."""
        path = os.path.join(self._unfinished, f"{name}.npz")
        if not os.path.exists(path):
            with files.replacing(path) as aside:
                np.savez(aside, **measure())  # type: ignore[arg-type]  # for its own keyword
        with np.load(path) as arrays:
            return {key: arrays[key] for key in arrays.files}

    def numbers(self) -> dict[str, Any]:
        """What `finish` wrote."""
        return _read(os.path.join(self.path, NUMBERS_FILE))

    def has(self, name: str) -> bool:
        """Whether a file of the site is there."""
        return os.path.exists(os.path.join(self.path, name))

    def write_image(self, name: str, image: np.ndarray) -> None:
        """Writes an image, as JPEG or PNG by its name.

        Args:
          name: path in the site.
          image: (h, w, 1 or 3), 0..255; rounded and clipped.
        """
        import tensorflow as tf

        pixels = np.clip(np.round(np.asarray(image, np.float64)), 0, 255).astype(np.uint8)
        if name.endswith(".png"):
            encoded = tf.io.encode_png(pixels, compression=9)
        else:  # small patches are looked at enlarged, and keep their colours
            encoded = tf.io.encode_jpeg(pixels, quality=90, chroma_downsampling=False)
        files.write_bytes(os.path.join(self.path, name), encoded.numpy())

    def write_page(self, name: str, text: str) -> None:
        """Writes a text file of the site."""
        files.write_text(os.path.join(self.path, name), text)

    def finish(self, numbers: dict[str, Any]) -> None:
        """Writes `atlas.json` and removes what was kept to go on."""
        content = {"made_from": self._made_from, **numbers}
        files.write_json(os.path.join(self.path, NUMBERS_FILE), content)
        shutil.rmtree(self._unfinished, ignore_errors=True)


def image_name(stem: str, side: int) -> str:
    """A file name for an image: PNG for small ones, JPEG for those of a photograph's size."""
    return f"assets/{stem}.{'jpg' if side >= _LARGE else 'png'}"


def _read(path: str) -> Any:
    with open(path, encoding="utf-8") as file:
        return json.load(file)
