"""A trained network on disk: the model file, and the run's config.json beside it.

A model file has its metadata in its configuration (`knowledge.py`). Files of older versions have
none; for them, a run's `config.json` beside `model.keras` has the class names and the size to which
images were resized before the crop.
"""

import dataclasses
import json
import os
from typing import TYPE_CHECKING, Any

from alexnet_tf.models import hub, knowledge

if TYPE_CHECKING:
    import keras

MODEL_FILE = "model.keras"
CONFIG_FILE = "config.json"
# A SavedModel is known by this file; it is no model that Keras can evaluate or export again.
SAVED_MODEL_FILE = "saved_model.pb"
_DEFAULT_IMAGE_SIZE = 256
_MAX_CONFIG = 16 * 2**20  # bytes; 20,000 class names are 0.3 MB
_MAX_SIDE = 10_000  # pixels: a square of it has as many as an image from a stranger may have


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """A trained network and its metadata.

    Attributes:
      path: the model file.
      model: the Keras model: (b, crop, crop, channels) pixels 0..255 -> (b, classes).
      class_names: names in output order, or None if unknown.
      image_size: side in pixels of the square to which images are resized before the crop.
      known: the file's metadata, see `knowledge`.
    """

    path: str
    model: "keras.Model"
    class_names: tuple[str, ...] | None
    image_size: int
    known: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def apply_exif(self) -> bool:
        """Whether to apply the EXIF orientation of images; False if unknown."""
        return bool(self.known.get("apply_exif"))

    @property
    def crop_size(self) -> int:
        return self.model.input_shape[1]

    @property
    def channels(self) -> int:
        return self.model.input_shape[3]

    @property
    def classes(self) -> int:
        return self.model.output_shape[-1]


def find_model_file(path: str) -> str:
    """Finds the `.keras` file: `path` itself, in a run's workdir, or on the Hub.

    Raises:
      FileNotFoundError: there is nothing at `path`, or a directory without a model.
      ValueError: `path` is a SavedModel or some other file.
    """
    if hub.is_remote(path):
        return hub.local_file(path)
    wanted = f"Name a .keras file, a workdir that holds {MODEL_FILE}, or hf://OWNER/NAME."
    if os.path.isdir(path):
        inside = os.path.join(path, MODEL_FILE)
        if os.path.exists(inside):
            return inside
        if is_saved_model(path):
            raise ValueError(f"{path} is a SavedModel, which is only for prediction. {wanted}")
        raise FileNotFoundError(f"The directory {path} holds no {MODEL_FILE}. {wanted}")
    if not os.path.exists(path):
        raise FileNotFoundError(f"There is no model {path}. {wanted}")
    if not path.endswith(".keras"):
        raise ValueError(f"{path} is no .keras file. {wanted}")
    return path


def is_saved_model(path: str) -> bool:
    """Whether `path` is the directory of a SavedModel (or of a version of a served model)."""
    return os.path.exists(os.path.join(path, SAVED_MODEL_FILE))


def open_model(path: str) -> TrainedModel:
    """Loads a model file or a workdir's, with what its `config.json` says.

    Raises:
      FileNotFoundError, ValueError: see `find_model_file`; or the file is damaged, has weights that
        are not finite, or is a network that does not take images to one vector of class scores; or
        `config.json` is of another network, or damaged.
    """
    from alexnet_tf.models import load_model

    file = find_model_file(path)
    config = run_config(file)
    beside = os.path.join(os.path.dirname(file), CONFIG_FILE)
    model = load_model(file)
    in_shape: Any = getattr(model, "input_shape", None)
    out_shape: Any = getattr(model, "output_shape", None)
    images = isinstance(in_shape, tuple) and len(in_shape) == 4 and None not in in_shape[1:]
    if not images or not isinstance(out_shape, tuple) or len(out_shape) != 2:
        raise ValueError(
            f"{file} takes {in_shape} and gives {out_shape}: expected images (batch, height, "
            "width, channels) and one score per class (batch, classes). Save the whole classifier."
        )
    _require_finite(model, file)
    known = knowledge.of(model)
    config = {**config, **known}
    names = config.get("class_names")
    if names is not None and len(names) != out_shape[-1]:
        raise ValueError(
            f"{beside} names {len(names)} classes, but {file} has {out_shape[-1]} outputs: the two "
            "are not of the same run."
        )
    image_size = config.get("image_size") or default_image_size(in_shape[1])
    if image_size < max(in_shape[1:3]):
        raise ValueError(
            f"{beside} has an image_size of {image_size}, but {file} takes images of "
            f"{in_shape[1]}x{in_shape[2]}: the two are not of the same run."
        )
    return TrainedModel(
        path=file,
        model=model,
        class_names=None if names is None else tuple(names),
        image_size=image_size,
        known=known,
    )


def _require_finite(model: "keras.Model", file: str) -> None:
    import numpy as np

    for weight, value in zip(model.weights, model.get_weights(), strict=True):
        bad = int(np.count_nonzero(~np.isfinite(value)))
        if bad:
            raise ValueError(
                f"{file} holds {bad} numbers in {weight.path} that are not finite (NaN or "
                "infinity): its training diverged; use a model or a checkpoint from before that."
            )


def default_image_size(crop_size: int) -> int:
    """256 for the networks of 224 and 227; networks for small images see the whole image."""
    return _DEFAULT_IMAGE_SIZE if crop_size > 128 else crop_size


def run_config(model_file: str) -> dict:
    """The run's `config.json` beside `model_file`; empty when there is none.

    Raises:
      ValueError: the file is no JSON object, or its `class_names` or `image_size` cannot be meant.
    """
    path = os.path.join(os.path.dirname(model_file), CONFIG_FILE)
    if not os.path.exists(path):
        return {}
    if not os.path.isfile(path) or os.path.getsize(path) > _MAX_CONFIG:
        raise ValueError(f"{path} is no file of a run, or longer than {_MAX_CONFIG:,} bytes.")
    with open(path, "rb") as file:
        try:
            config = json.loads(file.read().decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"{path} is no JSON ({_first_line(error)}); restore it or remove it."
            ) from error
    if not isinstance(config, dict):
        raise ValueError(f"{path} holds no JSON object; restore it or remove it.")
    names, size = config.get("class_names"), config.get("image_size")
    if names is not None and not (
        isinstance(names, list) and names and all(isinstance(name, str) for name in names)
    ):
        raise ValueError(
            f"{path} has {_shortened(names)} as class_names: expected a list of names; restore it "
            "or remove it."
        )
    if size is not None and not (type(size) is int and 1 <= size <= _MAX_SIDE):
        raise ValueError(
            f"{path} has {_shortened(size)} as image_size: expected a whole number of 1 to "
            f"{_MAX_SIDE:,}; restore it or remove it."
        )
    return config


def _first_line(error: Exception) -> str:
    return str(error).split("\n")[0]


def _shortened(value) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def read_labels(path: str, classes: int) -> tuple[str, ...]:
    """Class names from a text file with one name per line, in output order.

    Raises:
      FileNotFoundError: no such file.
      ValueError: the number of lines is not `classes`. A name may occur twice, as "crane" does
        among ImageNet's.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"There is no label file {path}.")
    with open(path, encoding="utf-8") as file:
        names = [line.strip() for line in file if line.strip()]
    if len(names) != classes:
        raise ValueError(
            f"{path} has {len(names)} names, but the model has {classes} classes: give one name "
            "per line, in the order of the model's outputs."
        )
    return tuple(names)
