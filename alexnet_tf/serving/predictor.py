"""Predicts classes of images with a model file or a SavedModel; a bad image fails alone."""

import dataclasses
import glob
import os
import sys
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from alexnet_tf import files
from alexnet_tf.serving.classifier import Classifier, ImageError, reason

STANDARD_INPUT = "-"
_SUFFIXES = (".jpg", ".jpeg", ".png")
_BATCH = 32
# JSON has no NaN or infinity, and no class is the most probable one among them.
_NOT_FINITE = (
    "The network gives NaN or infinity for this image: its training diverged, or its arithmetic "
    "overflows; use another model."
)


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The prediction for one image.

    Attributes:
      source: the file's path, or "-".
      classes: the most probable class names, best first; empty if the image failed.
      scores: their probabilities, float32.
      error: None, or why the image has no prediction, in one line.
      probabilities: float32 probabilities of all classes in output order; None if the image failed.
    """

    source: str
    classes: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()
    error: str | None = None
    probabilities: np.ndarray | None = None

    def as_json(self) -> dict:
        """{"file", "predictions": [{"class", "score"}]} or {"file", "error"}."""
        if self.error is not None:
            return {"file": self.source, "error": self.error}
        pairs = zip(self.classes, self.scores, strict=True)
        return {
            "file": self.source,
            "predictions": [{"class": name, "score": float(score)} for name, score in pairs],
        }


def open_classifier(path: str, labels: str | None = None) -> Classifier:
    """Opens a `.keras` file, a workdir, a SavedModel, or an ONNX or LiteRT file as a classifier.

    Args:
      path: the model; for a directory with numbered versions, the newest is used.
      labels: file with class names; not for a SavedModel, which has its own.

    Raises:
      FileNotFoundError, ValueError: there is no model, or it lacks the signature.
    """
    if path.endswith((".onnx", ".tflite")):
        from alexnet_tf.serving import portable_classifier

        return portable_classifier.open_file(path, labels)
    saved_model = find_saved_model(path)
    if saved_model is None:
        return _from_keras(path, labels)
    if labels is not None:
        raise ValueError(f"{saved_model} holds its class names: leave --labels out.")
    return _from_saved_model(saved_model)


def find_saved_model(path: str) -> str | None:
    """Returns the SavedModel directory: `path`, its newest version, or None if neither is one."""
    if os.path.exists(os.path.join(path, "saved_model.pb")):
        return path
    if not os.path.isdir(path):
        return None
    # TF Serving reads 00000007 as version 7.
    versions = [name for name in os.listdir(path) if name.isdecimal()]
    newest = os.path.join(path, max(versions, key=int, default="0"))
    return newest if os.path.exists(os.path.join(newest, "saved_model.pb")) else None


def find_images(arguments: Sequence[str]) -> list[str]:
    """Expands files, directories (their JPEG and PNG files), globs and "-" to a list of files.

    Raises:
      FileNotFoundError: an argument matches no file.
    """
    found = []
    for argument in arguments:
        if argument == STANDARD_INPUT:
            found.append(argument)
        elif os.path.isdir(argument):
            inside = [
                os.path.join(directory, name)
                for directory, _, names in os.walk(argument)
                for name in names
                if name.lower().endswith(_SUFFIXES)
            ]
            if not inside:
                raise FileNotFoundError(
                    f"The directory {argument} holds no image: expected names that end in "
                    f"{', '.join(_SUFFIXES)}."
                )
            found += sorted(inside)
        elif os.path.lexists(argument):
            found.append(argument)  # a path that is not a regular file is reported later
        else:
            matches = sorted(m for m in glob.glob(argument, recursive=True) if not os.path.isdir(m))
            if not matches:
                raise FileNotFoundError(
                    f"There is no image {argument}: name files, directories or a glob."
                )
            found += matches
    return found


def predict(classifier: Classifier, sources: Iterable[str]) -> Iterator[Prediction]:
    """Yields a prediction for each source, in order.

    Images are processed in batches. If a batch is refused, its images are retried one by one, so
    that only the bad ones fail.
    """
    batch: list[tuple[str, bytes | OSError]] = []
    for source in sources:
        batch.append((source, _read(source)))
        if len(batch) == _BATCH:
            yield from _predict_batch(classifier, batch)
            batch = []
    yield from _predict_batch(classifier, batch)


def _read(source: str) -> bytes | OSError:
    try:
        if source == STANDARD_INPUT:
            return sys.stdin.buffer.read()
        with files.open_regular(source) as file:
            return file.read()
    except OSError as error:
        return error


def _predict_batch(classifier, batch) -> Iterator[Prediction]:
    readable = [content for _, content in batch if isinstance(content, bytes)]
    try:
        rows = iter(_rows(classifier(readable)) if len(readable) > 1 else ())
    except ImageError:
        rows = iter(())
    for source, content in batch:
        if isinstance(content, OSError):
            yield Prediction(source, error=content.strerror or str(content))
            continue
        row = next(rows, None)
        try:
            row = row or _rows(classifier([content]))[0]
        except ImageError as error:
            yield Prediction(source, error=str(error))
            continue
        yield dataclasses.replace(row, source=source)


def _rows(arrays: dict[str, np.ndarray]) -> list[Prediction]:
    return [
        Prediction("", tuple(map(_text, classes)), tuple(scores), probabilities=probabilities)
        if np.isfinite(probabilities).all() and np.isfinite(scores).all()
        else Prediction("", error=_NOT_FINITE)
        for classes, scores, probabilities in zip(
            arrays["classes"], arrays["scores"], arrays["probabilities"], strict=True
        )
    ]


def _text(value) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _from_keras(path: str, labels: str | None) -> Classifier:
    from alexnet_tf.models import saved_run
    from alexnet_tf.serving import labels as names
    from alexnet_tf.serving import signatures

    network = saved_run.open_model(path)
    class_names = names.class_names(network, labels)
    functions = signatures.signatures(network, class_names)
    return _guarded(functions[signatures.SERVING_DEFAULT])


def _from_saved_model(path: str) -> Classifier:
    # Plain TensorFlow: a SavedModel needs neither Keras nor the networks' code.
    import tensorflow as tf

    loaded = tf.saved_model.load(path)
    function = loaded.signatures.get("serving_default")
    outputs = set(function.structured_outputs) if function is not None else set()
    wanted = {"probabilities", "classes", "scores"}
    if not wanted <= outputs:
        raise ValueError(
            f"{path} is a SavedModel of another kind: its serving_default gives "
            f"{sorted(outputs) or 'nothing'}, expected {sorted(wanted)}. Export it with "
            "`python -m alexnet_tf.export`."
        )
    # The loaded object owns the variables and must outlive its function.
    return _guarded(lambda image_bytes, owner=loaded: function(image_bytes=image_bytes))


def _guarded(function) -> Classifier:
    import tensorflow as tf

    def classify(files: list[bytes]) -> dict[str, np.ndarray]:
        try:
            outputs = function(tf.constant(files, tf.string))
        except tf.errors.InvalidArgumentError as error:
            raise ImageError(reason(error.message)) from None
        return {name: value.numpy() for name, value in outputs.items()}

    return classify
