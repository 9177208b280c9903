"""A model card: what a network is, what it was made from, its numbers and its limits, as Markdown.

Its content comes from the network's file and from the files beside it in a run's workdir.
"""

import glob
import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from alexnet_tf.models import catalog, knowledge, saved_run
from alexnet_tf.models.layers import PixelNormalization

if TYPE_CHECKING:
    import keras

CARD_FILE = "card.md"
_NAMES = 20  # of classes that are listed
_RECIPE: tuple[str, ...] = (
    "model",
    "epochs",
    "batch_size",
    "learning_rate",
    "schedule",
    "momentum",
)
_RECIPE += ("weight_decay", "initializer", "dropout", "colour_noise", "mirror", "precision")
_NUMBERS = {
    "validation_top1_error": "top-1 error, validation, centre crop",
    "validation_top5_error": "top-5 error, validation, centre crop",
    "top1_error": "top-1 error, training images as augmented",
    "epochs": "epochs",
    "steps": "steps",
}
_HEAD = """---
library_name: keras
pipeline_tag: image-classification
tags: [alexnet, tensorflow]
---
"""


def text(
    model: "keras.Model",
    config: Mapping[str, Any] | None = None,
    results: Mapping[str, Any] | None = None,
    evaluations: Mapping[str, Mapping[str, Any]] | None = None,
) -> str:
    """The card.

    Args:
      model: the network; what it knows is in it, see `knowledge`.
      config: the run's config.json, if there is one.
      results: its results.json.
      evaluations: name -> content of its evaluation-*.json.
    """
    known, config, results = knowledge.of(model), config or {}, results or {}
    lineage = known.get("lineage") or {}
    sections = {
        "What it is": _what(model, known),
        "Data": _data(known, config, lineage),
        "Recipe": _recipe(lineage, config),
        "Numbers": _numbers(results, evaluations or {}),
        "Limits": _limits(known, results, evaluations or {}),
    }
    body = "\n".join(
        f"\n## {title}\n\n" + "\n".join(f"- {line}" for line in lines)
        for title, lines in sections.items()
    )
    return f"{_HEAD}\n# {model.name}\n{body}\n"


def of_run(network: saved_run.TrainedModel) -> str:
    """The card of a network on disk, from its file and the files beside it."""
    directory = os.path.dirname(network.path)
    found = {
        os.path.basename(path): content
        for path in sorted(glob.glob(os.path.join(glob.escape(directory), "evaluation-*.json")))
        if (content := _json(path))
    }
    config = saved_run.run_config(network.path)
    return text(network.model, config, _json(os.path.join(directory, "results.json")), found)


def _json(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _what(model, known) -> list[str]:
    _, height, width, channels = model.input_shape
    lines = []
    if model.name in catalog.list_models():
        lines.append(f"{model.name}: {catalog.find_variant(model.name).summary}")
    lines += [
        f"{model.count_params():,} parameters",
        f"takes {height} x {width} x {channels} pixels, {'RGB' if channels == 3 else 'grey'}, "
        "0..255; gives one probability per class",
    ]
    first = next((one for one in model.layers if isinstance(one, PixelNormalization)), None)
    if first is not None:
        means = first.mean.ravel()  # one number, one of each channel, or an image
        mean = "a mean image" if len(means) > 3 else ", ".join(f"{m:.5g}" for m in means)
        lines.append(f"subtracts {mean} itself and then takes {first.channel_order.upper()}")
    names = known.get("class_names")
    lines.append(f"{model.output_shape[-1]} classes" + (f": {_listed(names)}" if names else ""))
    return lines


def _listed(names) -> str:
    shown = ", ".join(str(name) for name in names[:_NAMES])
    return shown if len(names) <= _NAMES else f"{shown} and {len(names) - _NAMES} more"


def _data(known, config, lineage) -> list[str]:
    counts = ", ".join(f"{n:,} {split}" for split, n in (config.get("counts") or {}).items())
    turned = known.get("apply_exif")
    lines = [
        counts and f"images: {counts}",
        lineage.get("data") and f"fingerprint of the data set: {lineage['data']}",
        f"images brought to {known['image_size']} pixels first" if "image_size" in known else "",
        "" if turned is None else f"{'turned' if turned else 'not turned'} by EXIF orientation",
    ]
    return [line for line in lines if line] or ["not known"]


def _recipe(lineage, config) -> list[str]:
    recipe = lineage.get("recipe")
    lines = [f"starts from weights of {lineage['weights']}"] if lineage.get("weights") else []
    if isinstance(recipe, Mapping):
        lines += [f"{key}: {recipe[key]}" for key in _RECIPE if recipe.get(key) is not None]
    elif recipe:
        lines.append(str(recipe))
    if "seed" in config:
        lines.append(f"seed: {config['seed']}; replicas: {config.get('replicas', 1)}")
    versions = config.get("versions") or {}
    if versions:
        lines.append(", ".join(f"{name} {version}" for name, version in versions.items()))
    if config.get("git_commit"):
        lines.append(f"commit {config['git_commit']}")
    return lines or ["not known"]


def _numbers(results, evaluations) -> list[str]:
    lines = []
    for key, title in _NUMBERS.items():
        value = results.get(key)
        if value is not None:
            lines.append(f"{title}: {value:.2%}" if "error" in key else f"{title}: {value:,}")
    for name, content in evaluations.items():
        for key in ("top1_error", "top5_error"):
            if isinstance(content.get(key), float):
                lines.append(f"{key.replace('_', ' ')}, {name}: {content[key]:.2%}")
    return lines or ["none measured"]


def _limits(known, results, evaluations) -> list[str]:
    lines = [
        "knows only the classes above, and gives one of them for any image",
        "probabilities are not calibrated; images unlike those of its training are outside of what "
        "was measured",
    ]
    if not results and not evaluations:
        lines.append("no error was measured with this file; evaluate it before use")
    if "apply_exif" not in known:
        lines.append("written by an older version: what it knows of its data is not in the file")
    return lines
