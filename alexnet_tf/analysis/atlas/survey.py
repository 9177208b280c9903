"""Everything that an atlas shows, measured: numbers as JSON, images as files of the site."""

import re
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf.analysis import (
    activation_maximization,
    architecture,
    features,
    incoming_weights,
    plots,
    receptive_field,
    selectivity,
    summary,
    unit_responses,
)
from alexnet_tf.analysis.atlas import diagram
from alexnet_tf.analysis.atlas.image_survey import ImageSurvey, Progress
from alexnet_tf.analysis.atlas.settings import TOP_IMAGES, Settings
from alexnet_tf.analysis.atlas.storage import Storage, image_name
from alexnet_tf.data import evaluation_data, records
from alexnet_tf.models import catalog, saved_run

_CLASSES = 8  # named on a unit's page
_INPUTS = 8  # of a unit, shown
_NEIGHBOURS = 6
_COLOURED = 2  # of the images that excite a unit most, shown to it in other colours
_BATCH = 32


class Survey:
    """One network, measured on one split.

    Args:
      network: from `trained.open_model`.
      dataset: a prepared data set, as `viewed` for the network.
      settings: how much.
      storage: where files go.
      progress: wraps each list of work: (what is done, items, how many) -> items.
    """

    def __init__(
        self,
        network: saved_run.TrainedModel,
        dataset: records.PreparedDataset,
        settings: Settings,
        storage: Storage,
        progress: Progress,
    ):
        self._network, self._model = network, network.model
        self._dataset, self._settings = dataset, settings
        self._storage, self._progress = storage, progress
        self._blocks = architecture.blocks(network.model)[1:]
        self.layers = [block.name for block in self._blocks]
        self._fields = receptive_field.receptive_fields(network.model)
        self._slugs = _slugs(self.layers)

    def measure(self) -> dict[str, Any]:
        """All numbers of the atlas, JSON-ready; writes the images that they name."""
        measured = self._responses()
        shown = {name: self._chosen(measured, name) for name in self.layers}
        pages = _spread(measured.labels, self._settings.images)
        tops = {
            (name, unit): unit_responses.top_patches(
                measured, name, unit, self._fields[name], TOP_IMAGES
            )
            for name, units in shown.items()
            for unit in units
        }
        near = self._neighbours(measured, pages)
        wanted = {patch.image for patches in tops.values() for patch in patches}
        wanted |= {int(n) for row in near for n in row[0]} | set(pages)
        crops = self._crops(wanted)
        layers = [self._layer(block, shown[block.name]) for block in self._blocks]
        units: dict[str, Any] = {}
        for layer in layers:
            found = self._units(layer, measured, tops, crops)
            units |= {f"{layer['slug']}-{one['unit']}": one for one in found}
        images = ImageSurvey(
            self._network,
            self._names(self._network.classes),
            self._dataset.synsets,
            self._slugs,
            self._settings,
            self._storage,
            self._progress,
        ).measure(measured, pages, near, shown, crops)
        names = [self._dataset.synsets[label] for label in measured.labels]
        return {
            "network": self._about(),
            "data": {
                "path": self._dataset.path,
                "split": self._settings.split,
                "images": len(measured.labels),
                "classes": list(self._dataset.synsets),
                "top1_accuracy": self._accuracy(measured),
            },
            "layers": layers,
            "units": units,
            "images": images,
            "truth": {str(n): names[n] for n in sorted(wanted)},
        }

    def _about(self) -> dict[str, Any]:
        model = self._model
        known = model.name in catalog.list_models()
        return {
            "variant": model.name,
            "summary": catalog.find_variant(model.name).summary if known else "",
            "parameters": int(sum(row.parameters for row in summary.layer_table(model))),
            "input": list(model.input_shape[1:]),
            "classes": self._network.classes,
            "lineage": self._network.known.get("lineage", {}),
        }

    def _responses(self) -> unit_responses.Responses:
        def measure():
            count = min(self._settings.sample, self._dataset.counts[self._settings.split])
            done = iter(self._progress("images measured", range(count), count))

            def advance(number: int) -> None:
                for _ in range(number):
                    next(done)

            found = unit_responses.measure_responses(
                self._network, self.layers, self._dataset, self._settings.split, count, advance
            )
            next(done, None)  # closes the bar
            values = {f"response:{n}": found.responses[name] for n, name in self._numbered()}
            places = {
                f"place:{n}": found.places[name]
                for n, name in self._numbered()
                if name in found.places
            }
            alone = ("labels", "hidden", "probabilities")
            return {**{name: getattr(found, name) for name in alone}, **values, **places}

        self._dataset.require_split(self._settings.split)
        kept = self._storage.measured_arrays("responses", measure)
        return unit_responses.Responses(
            labels=kept["labels"],
            hidden=kept["hidden"],
            probabilities=kept["probabilities"],
            responses={name: kept[f"response:{n}"] for n, name in self._numbered()},
            places={
                name: kept[f"place:{n}"] for n, name in self._numbered() if f"place:{n}" in kept
            },
        )

    def _numbered(self):
        return list(enumerate(self.layers))

    def _chosen(self, measured, name: str) -> list[int]:
        """For each class in turn the unit that tells it apart best, in the order of their numbers.

        The classes that are told apart best come first.
        """
        responses = measured.responses[name]
        found = selectivity.label_correlations(responses, measured.labels, self._dataset.classes)
        found[np.ptp(responses, axis=0) == 0] = -1  # a silent unit tells nothing apart
        chosen: list[int] = []
        while len(chosen) < min(self._settings.units, len(found)):
            free = np.where(np.isin(np.arange(len(found)), chosen)[:, None], -np.inf, found)
            for label in np.argsort(-free.max(axis=0), kind="stable"):
                order = np.argsort(-free[:, label], kind="stable")
                chosen.append(next(int(unit) for unit in order if unit not in chosen))
                if len(chosen) == min(self._settings.units, len(found)):
                    break
        return sorted(chosen)

    def _accuracy(self, measured) -> float | None:
        if self._names(self._network.classes) is None:
            return None
        names = np.array(self._names(self._network.classes))
        truth = np.array(self._dataset.synsets)[measured.labels]
        return float((names[measured.probabilities.argmax(axis=1)] == truth).mean())

    def _names(self, outputs: int) -> Sequence[str] | None:
        """What the outputs are called; the data's names only where there are as many."""
        if self._network.class_names is not None:
            return self._network.class_names
        return self._dataset.synsets if self._dataset.classes == outputs else None

    def _neighbours(self, measured, pages):
        count = min(_NEIGHBOURS, len(measured.labels) - 1)
        if not count or not pages:
            return [([], []) for _ in pages]
        rows, distances = features.nearest(measured.hidden, np.array(pages), count)
        return list(zip(rows, distances, strict=True))

    def _crops(self, wanted: set[int]) -> dict[int, np.ndarray]:
        """The wanted images as the network sees them, uint8; writes each as a file."""
        batches = evaluation_data.evaluation_batches(
            self._dataset,
            self._settings.split,
            _BATCH,
            self._network.crop_size,
            image_size=self._network.image_size,
        )
        found: dict[int, np.ndarray] = {}
        for images, _, indices in batches.take(max(wanted) // _BATCH + 1):
            for image, index in zip(images.numpy()[:, 0], indices.numpy(), strict=True):
                if int(index) in wanted:
                    found[int(index)] = np.clip(np.round(image), 0, 255).astype(np.uint8)
        for number, image in sorted(found.items()):
            name = self._image_file(number)
            if not self._storage.has(name):
                self._storage.write_image(name, image)
        return found

    def _image_file(self, number: int) -> str:
        return image_name(f"image-{number:05d}", self._network.crop_size)

    def _layer(self, block, shown: list[int]) -> dict[str, Any]:
        layer = self._model.get_layer(block.name)
        field = self._fields[block.name]
        before = self.layers.index(block.name) - 1
        slug = self._slugs[block.name]
        kernels = None
        shape = tuple(layer.output.shape[1:])
        first = before < 0 and len(layer.weights[0].shape) == 4
        if first:
            kernels = f"assets/kernels-{slug}.png"
            if not self._storage.has(kernels):
                found, groups = plots.first_kernels(self._model), plots.kernel_groups(self._model)
                self._storage.write_image(kernels, 255 * plots.kernel_mosaic(found, groups=groups))
        return {
            "name": block.name,
            "slug": slug,
            "words": self._words(block),
            "shape": list(shape),
            "units": block.maps,
            "parameters": block.parameters,
            "field": None if field is None else field.size,
            "stride": None if field is None else field.stride,
            "then": [text.replace("\n", " ") for text in block.then],
            "halves": block.columns if block.columns > 1 else None,
            "before": None if before < 0 else self.layers[before],
            "kernels": kernels,
            "shown": shown,
        }

    def _words(self, block) -> str:
        return diagram.words(block).split(": ", 1)[1]

    def _units(self, layer, measured, tops, crops) -> list[dict[str, Any]]:
        """The numbers of a layer's units, after writing their images."""
        name, units = layer["name"], layer["shown"]
        files = [image_name(f"unit-{layer['slug']}-{unit}", self._patch(name)[2]) for unit in units]
        kernels = self._kernels(layer)
        found = self._storage.measured(
            f"units-{layer['slug']}",
            lambda: self._measured_units(layer, measured, tops, crops, files),
        )
        for one, kernel in zip(found, kernels, strict=True):
            one["kernel"] = kernel
        return found

    def _measured_units(self, layer, measured, tops, crops, files) -> list[dict[str, Any]]:
        name, units = layer["name"], layer["shown"]
        responses, labels = measured.responses[name], measured.labels
        names = self._dataset.synsets
        rectified = np.maximum(responses, 0)
        means = selectivity.class_means(rectified, labels, len(names))
        selective = selectivity.class_selectivity(means)
        by_label = selectivity.label_correlations(responses, labels, len(names))
        weights = incoming_weights.incoming_weights(self._model, name, units)
        last = self._names(layer["units"]) if name == self.layers[-1] else None
        respond = self._responder(name)
        self._maximize(layer, files)
        found = []
        work = list(zip(units, files, strict=True))
        for position, (unit, file) in enumerate(self._progress(f"{name}, units", work, len(work))):
            patches = tops[name, unit]
            favourites = np.argsort(-np.nan_to_num(means[unit]), kind="stable")[:_CLASSES]
            linked = np.argsort(-by_label[unit], kind="stable")[: min(3, len(names))]
            excited = [crops[patch.image] for patch in patches[:_COLOURED]]
            found.append(
                {
                    "layer": name,
                    "unit": unit,
                    "class": None if last is None else last[unit],
                    "image": file,
                    "inputs": [
                        {"unit": one.unit, "strength": one.strength, "weight": one.weight}
                        for one in incoming_weights.strongest_inputs(weights[position], _INPUTS)
                    ]
                    if layer["before"]
                    else [],
                    "top": [
                        {"image": patch.image, "response": patch.response, "box": patch.box}
                        for patch in patches
                    ],
                    "active": float((responses[:, unit] > 0).mean()),
                    "mean": float(rectified[:, unit].mean()),
                    "largest": float(responses[:, unit].max()),
                    "classes": [
                        {"class": names[n], "mean": float(means[unit, n])}
                        for n in favourites
                        if not np.isnan(means[unit, n])
                    ],
                    "class_selectivity": float(selective[unit]),
                    "labels": [
                        {"class": names[n], "correlation": float(by_label[unit, n])} for n in linked
                    ],
                    "colour": self._colour(respond, unit, np.stack(excited)),
                    "neighbours": [
                        {"unit": other, "correlation": value}
                        for other, value in selectivity.nearest_units(responses, unit, _NEIGHBOURS)
                    ],
                }
            )
        return found

    def _kernels(self, layer) -> list[str | None]:
        """Files of the kernels of a first layer's units, None elsewhere."""
        if layer["kernels"] is None:
            return [None] * len(layer["shown"])
        all_kernels = plots.first_kernels(self._model)
        found: list[str | None] = []
        for unit in layer["shown"]:
            name = f"assets/kernel-{layer['slug']}-{unit}.png"
            if not self._storage.has(name):
                one = all_kernels[..., unit : unit + 1]
                self._storage.write_image(name, 255 * plots.kernel_mosaic(one, groups=1))
            found.append(name)
        return found

    def _patch(self, name: str) -> tuple[int, int, int]:
        """(top, left, side) of what the middle of a layer's maps sees, inside the image."""
        field, side = self._fields[name], self._network.crop_size
        if field is None:
            return 0, 0, side
        shape = self._model.get_layer(name).output.shape
        top, left, size = field.box(shape[1] // 2, shape[2] // 2)
        size = min(size, side)
        return min(max(top, 0), side - size), min(max(left, 0), side - size), size

    def _maximize(self, layer, files: Sequence[str]) -> None:
        """Writes the images that the units answer most to, cut to what they see."""
        units = layer["shown"]
        left_out = [n for n, file in enumerate(files) if not self._storage.has(file)]
        if not left_out:
            return
        top, left, side = self._patch(layer["name"])
        # A small field has neither room to move nor many pixels that are to be alike.
        share = min(1.0, side / 150)
        steps = self._settings.steps
        done = iter(self._progress(f"{layer['name']}, images made", range(steps), steps))
        images = activation_maximization.maximize(
            self._model,
            layer["name"],
            units,
            steps=steps,
            jitter=max(1, min(6, side // 12)),
            smoothness=0.15 * share,
            seed=self._settings.seed,
            progress=lambda _: next(done),
        )
        next(done, None)  # closes the bar
        for n in left_out:
            self._storage.write_image(files[n], images[n, top : top + side, left : left + side])

    def _responder(self, name: str):
        """A function of images (b, h, w, channels) and a unit: its largest responses, (b,)."""
        part = keras.Model(self._model.input, self._model.get_layer(name).output)
        shape = (None, *self._model.input_shape[1:])

        @tf.function(
            input_signature=[tf.TensorSpec(shape, tf.float32), tf.TensorSpec([], tf.int32)]
        )
        def respond(images, unit):
            values = tf.gather(tf.cast(part(images, training=False), tf.float32), unit, axis=-1)
            return tf.reduce_max(tf.reshape(values, (tf.shape(values)[0], -1)), axis=1)

        return respond

    def _colour(self, respond, unit: int, images: np.ndarray) -> dict[str, Any] | None:
        """The unit's responses to what excites it most in other colours; None for grey networks."""
        if images.shape[-1] != 3:
            return None
        hues = (None, *selectivity.HUES)
        sets = [images, selectivity.in_grey(images)]
        sets += [selectivity.in_hue(images, hue) for hue in hues]
        stacked = np.concatenate([np.asarray(one, np.float32) for one in sets])
        values = respond(tf.constant(stacked), tf.constant(unit)).numpy()
        values = np.maximum(values, 0).reshape(len(sets), len(images))
        means = values[2:].mean(axis=1)
        return {
            "share": selectivity.colour_share(values[0], values[1]),
            "grey": float(means[0]),
            "hues": dict(zip(selectivity.HUES, map(float, means[1:]), strict=True)),
        }


def _slugs(names: Sequence[str]) -> dict[str, str]:
    """Layer names as parts of file names, all different."""
    found: dict[str, str] = {}
    for number, name in enumerate(names):
        plain = re.sub(r"[^A-Za-z0-9_]", "_", name)[:40]
        found[name] = f"{plain}_{number}" if plain in found.values() or plain != name else plain
    return found


def _spread(labels: np.ndarray, count: int) -> list[int]:
    """Rows of up to `count` images, the first of each class, then the second of each, ..."""
    turns = np.zeros(len(labels), int)
    seen: dict[int, int] = {}
    for row, label in enumerate(labels):
        turns[row] = seen[int(label)] = seen.get(int(label), -1) + 1
    order = np.lexsort((labels, turns))[:count]
    return [int(row) for row in sorted(order, key=lambda row: (labels[row], row))]
