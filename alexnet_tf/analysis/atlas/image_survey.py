"""What an atlas shows of an image: its prediction, where the network looked, its way through it."""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from matplotlib import colormaps

from alexnet_tf.analysis import saliency
from alexnet_tf.analysis.atlas.settings import Settings
from alexnet_tf.analysis.atlas.storage import Storage, image_name
from alexnet_tf.models import saved_run

_UNITS = 8  # of a vector, named

Progress = Callable[[str, Iterable, int], Iterable]


class ImageSurvey:
    """The images of an atlas.

    Args:
      network: from `saved_run.open_model`.
      names: of its outputs; None where nothing tells them.
      truths: the data's class names.
      slugs: layer -> its part of file names, in the network's order.
      settings, storage, progress: as `survey.Survey`'s.
    """

    def __init__(
        self,
        network: saved_run.TrainedModel,
        names: Sequence[str] | None,
        truths: Sequence[str],
        slugs: dict[str, str],
        settings: Settings,
        storage: Storage,
        progress: Progress,
    ):
        self._network, self._model = network, network.model
        self._names, self._truths, self._slugs = names, truths, slugs
        self._settings, self._storage, self._progress = settings, storage, progress
        self._predict = saliency.compiled(network.model)

    def measure(self, measured, pages, near, shown, crops) -> list[dict[str, Any]]:
        """The numbers of each page's image, after writing its files.

        Args:
          measured: from `measure_responses`.
          pages: rows of the images that have a page.
          near: for each, rows and distances of the nearest images.
          shown: layer -> units.
          crops: row -> uint8 image, as the network sees it.
        """
        outputs = [self._model.get_layer(name).output for name in measured.places]
        part = keras.Model(self._model.input, outputs) if outputs else None
        found = []
        rows = list(zip(pages, near, strict=True))
        for number, (others, distances) in self._progress("image pages", rows, len(rows)):
            one = self._storage.measured(
                f"image-{number:05d}",
                functools.partial(self._image, measured, number, shown, part, crops[number]),
            )
            one["neighbours"] = [
                {"image": int(other), "distance": float(distance)}
                for other, distance in zip(others, distances, strict=True)
            ]
            found.append(one)
        return found

    def _image(self, measured, number: int, shown, part, crop) -> dict[str, Any]:
        side = self._network.crop_size
        names = self._names
        probabilities = measured.probabilities[number]
        best = np.argsort(-probabilities, kind="stable")[:5]
        pixels = crop.astype(np.float32)
        seen = saliency.measure(
            self._model, pixels, places=self._settings.places, call=self._predict
        )
        occlusion = image_name(f"occlusion-{number:05d}", side)
        gradient = image_name(f"gradient-{number:05d}", side)
        self._storage.write_image(occlusion, _occlusion_map(seen, crop))
        largest = max(float(np.percentile(seen.gradient, 99.5)), 1e-30)
        self._storage.write_image(gradient, _coloured(seen.gradient / largest))
        mapped = {}
        outputs = part(pixels[None], training=False) if part is not None else []
        for name, values in zip(measured.places, _as_list(outputs), strict=True):
            units = shown[name]
            values = np.asarray(tf.cast(values, tf.float32))[0][..., units]
            # By the unit's largest response in the sample, so that images can be compared.
            scale = np.maximum(measured.responses[name][:, units].max(axis=0), 1e-30)
            file = f"assets/maps-{number:05d}-{self._slugs[name]}.png"
            strip = np.concatenate(list(np.moveaxis(values / scale, -1, 0)), axis=1)
            self._storage.write_image(file, _coloured(strip))
            mapped[name] = {"file": file, "side": int(values.shape[0])}
        flat = {
            name: self._flat(measured, number, name, shown[name])
            for name in self._slugs
            if name not in measured.places
        }
        return {
            "number": number,
            "truth": self._truths[measured.labels[number]],
            "predictions": [
                {
                    "class": names[n] if names else f"class {n}",
                    "probability": float(probabilities[n]),
                }
                for n in best
            ],
            "occlusion": occlusion,
            "gradient": gradient,
            "square": seen.square,
            "most_lost": float(max((seen.probability - seen.occluded).max(), 0)),
            "maps": mapped,
            "flat": flat,
        }

    def _flat(self, measured, number: int, name: str, units: list[int]) -> dict[str, Any]:
        """A vector as a square of pixels, and the units of the atlas that are most excited."""
        values = measured.responses[name]
        row = np.maximum(values[number], 0)
        file = None
        if len(row) >= 256:
            file = f"assets/vector-{number:05d}-{self._slugs[name]}.png"
            wide = int(np.ceil(np.sqrt(len(row))))
            square = np.zeros(wide * -(-len(row) // wide), np.float32)
            square[: len(row)] = row / max(float(np.percentile(row, 99.5)), 1e-30)
            self._storage.write_image(file, _coloured(square.reshape(-1, wide)))
        strongest = sorted(units, key=lambda unit: -values[number, unit])[:_UNITS]
        return {
            "file": file,
            "active": int((row > 0).sum()),
            "units": [
                {"unit": unit, "response": float(values[number, unit])} for unit in strongest
            ],
        }


def _as_list(values) -> list:
    return list(values) if isinstance(values, list | tuple) else [values]


def _coloured(values: np.ndarray) -> np.ndarray:
    """Values 0..1, (h, w), as colours 0..255 from black to light yellow."""
    return 255 * colormaps["inferno"](np.clip(values, 0, 1))[..., :3]


def _occlusion_map(seen: saliency.Saliency, crop: np.ndarray) -> np.ndarray:
    """The probability that is lost at each place, over the image in grey."""
    height, width = crop.shape[:2]
    lost = np.maximum(seen.probability - seen.occluded, 0)
    half = seen.square / 2
    rows = np.stack([np.interp(np.arange(width) + 0.5, seen.lefts + half, row) for row in lost])
    full = np.stack(
        [np.interp(np.arange(height) + 0.5, seen.tops + half, column) for column in rows.T], axis=1
    )
    share = full / max(float(lost.max()), 0.01)  # a smaller loss is none to look at
    grey = crop.astype(np.float64).mean(axis=-1, keepdims=True)
    return 0.45 * grey + 0.55 * _coloured(share)
