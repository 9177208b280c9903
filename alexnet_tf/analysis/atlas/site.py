"""Makes an atlas: measures a network, writes the pages."""

import dataclasses
from collections.abc import Iterable
from typing import Any

from alexnet_tf import files
from alexnet_tf.analysis.atlas import pages, storage, survey
from alexnet_tf.analysis.atlas.settings import Settings
from alexnet_tf.data import identity, records
from alexnet_tf.models import saved_run

# Of the numbers and images: raise it when the same network, data and settings give others.
_FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Built:
    """What was made. index: path of the page to open; the others are numbers of pages."""

    index: str
    layers: int
    units: int
    images: int
    already: bool


def build(model_path: str, data_dir: str, output: str, settings: Settings) -> Built:
    """Writes an atlas as a directory of pages, or goes on with one that was interrupted.

    Args:
      model_path: a run's workdir or a .keras file.
      data_dir: a prepared data set whose images have labels.
      output: a directory: new, empty, or with the same atlas.
      settings: how much is shown.

    Raises:
      FileNotFoundError: no such model or data.
      ValueError: data of another kind, an image without a label, or another directory's files.
      OSError: `output` cannot be written.
    """
    network = saved_run.open_model(model_path)
    dataset = records.open_dataset(data_dir)
    dataset = dataset.viewed(network.image_size, network.channels, network.apply_exif)
    dataset.require_split(settings.split)
    made_from: dict[str, Any] = {
        "format": _FORMAT,
        "model": files.fingerprint(network.path).sha256,
        "data": identity.fingerprint(dataset),
        "settings": dataclasses.asdict(settings),
    }
    place = storage.Storage(output, made_from)
    index = f"{output.rstrip('/')}/{storage.INDEX_FILE}"
    if place.finished:
        numbers = place.numbers()
        return _built(index, numbers, True)
    numbers = survey.Survey(network, dataset, settings, place, _with_progress).measure()
    numbers["network"]["path"] = model_path
    pages.write_pages(place, numbers, network.model, settings, made_from)
    place.finish(numbers)
    return _built(index, numbers, False)


def _built(index: str, numbers: dict[str, Any], already: bool) -> Built:
    return Built(
        index, len(numbers["layers"]), len(numbers["units"]), len(numbers["images"]), already
    )


def _with_progress(what: str, items: Iterable, count: int) -> Iterable:
    from alexnet_tf.progress import tqdm

    return tqdm(items, total=count, desc=f"atlas: {what}")
