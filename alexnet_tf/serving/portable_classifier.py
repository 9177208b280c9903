"""Opens the ONNX and LiteRT files of `portable` as classifiers of image files."""

import dataclasses
import json
import os
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from alexnet_tf.data import preprocessing, untrusted
from alexnet_tf.models import saved_run
from alexnet_tf.serving import portable
from alexnet_tf.serving.classifier import Classifier, ImageError, reason

_TOP = 5


@dataclasses.dataclass(frozen=True)
class _Network:
    """An opened file.

    Attributes:
      run: float32 crops (b, crop, crop, channels), RGB 0..255 -> probabilities (b, classes).
      shape: (crop, crop, channels).
      facts: the file's metadata: "class_names", "image_size", "apply_exif".
    """

    run: Callable[[np.ndarray], np.ndarray]
    shape: tuple[int, int, int]
    facts: dict[str, Any]


def open_file(path: str, labels: str | None = None) -> Classifier:
    """Opens a file written by `python -m alexnet_tf.export` as a classifier.

    Images are decoded and cropped as for the original network.

    Args:
      path: a path ending in .onnx or .tflite.
      labels: file with class names; None uses those in the file.

    Raises:
      FileNotFoundError: no such file. ValueError: a package is missing, or the file is of another
        kind.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"There is no model {path}.")
    network = _open_onnx(path) if path.endswith(".onnx") else _open_litert(path)
    crop_size, _, channels = network.shape
    image_size = network.facts.get("image_size") or saved_run.default_image_size(crop_size)
    apply_exif = bool(network.facts.get("apply_exif"))
    classes = network.run(np.zeros((1, *network.shape), np.float32)).shape[-1]
    if labels is not None:
        network.facts["class_names"] = saved_run.read_labels(labels, classes)
    names = np.array(network.facts.get("class_names") or [f"class {n}" for n in range(classes)])
    if len(names) != classes:
        raise ValueError(f"{path} names {len(names)} classes, but has {classes} outputs.")

    def classify(contents: list[bytes]) -> dict[str, np.ndarray]:
        try:
            crops = [
                preprocessing.evaluation_crop(
                    untrusted.decode_untrusted(tf.constant(content), channels, apply_exif),
                    crop_size,
                    image_size,
                ).numpy()
                for content in contents
            ]
        except tf.errors.InvalidArgumentError as error:
            raise ImageError(reason(error.message)) from None
        probabilities = network.run(np.stack(crops).astype(np.float32))
        best = np.argsort(-probabilities, axis=-1, kind="stable")[:, :_TOP]
        return {
            "probabilities": probabilities,
            "classes": names[best],
            "scores": np.take_along_axis(probabilities, best, axis=-1),
        }

    return classify


def _open_onnx(path: str) -> _Network:
    try:
        import onnxruntime
    except ImportError as error:
        raise ValueError(
            f"{path} needs the package onnxruntime: pip install 'alexnet-tf[onnx]'."
        ) from error
    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions have no common base
        raise ValueError(_other_kind(path, error)) from error
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if [one.name for one in inputs] != ["crops"] or outputs[0].name != "probabilities":
        raise ValueError(_other_kind(path, f"its inputs are {[one.name for one in inputs]}"))
    metadata = session.get_modelmeta().custom_metadata_map
    facts = json.loads(metadata.get("knowledge", "{}"))
    for key in ("class_names", "image_size"):
        if key in metadata:
            facts[key] = json.loads(metadata[key])
    _, height, width, channels = inputs[0].shape
    return _Network(
        run=lambda crops: session.run(["probabilities"], {"crops": crops})[0],
        shape=(height, width, channels),
        facts=facts,
    )


def _open_litert(path: str) -> _Network:
    try:
        runner = portable.litert_runner(path)
        _, *shape = runner.get_input_details()["crops"]["shape"]
    except (ValueError, RuntimeError, KeyError) as error:
        raise ValueError(_other_kind(path, error)) from error
    facts: dict[str, Any] = {}
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if portable.KNOWLEDGE_FILE in archive.namelist():
                facts = json.loads(archive.read(portable.KNOWLEDGE_FILE))
            if portable.LABELS_FILE in archive.namelist():
                facts["class_names"] = archive.read(portable.LABELS_FILE).decode().splitlines()
    return _Network(
        run=lambda crops: portable.run_one_by_one(runner, crops),
        shape=(int(shape[0]), int(shape[1]), int(shape[2])),
        facts=facts,
    )


def _other_kind(path: str, reason) -> str:
    return (
        f"{path} is no network of this package ({str(reason).splitlines()[0]:.200}): expected a "
        "file that `python -m alexnet_tf.export` wrote."
    )
