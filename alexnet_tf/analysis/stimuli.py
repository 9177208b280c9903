"""Images to compute activations of: files in the given order, or a split of a data set."""

import dataclasses
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf

from alexnet_tf.analysis import images
from alexnet_tf.data import evaluation_data, preprocessing, records
from alexnet_tf.models import saved_run


@dataclasses.dataclass(frozen=True)
class Batch:
    """Some images in order.

    Attributes:
      positions: int (b,), of the images among all stimuli.
      images: float32 or uint8 (b, crop, crop, channels), RGB or grey, 0..255.
      failed: position -> why that image cannot be read; these have no row.
      end: the number of stimuli up to and with this batch.
    """

    positions: np.ndarray
    images: np.ndarray
    failed: Mapping[int, str]
    end: int


class FileStimuli:
    """JPEG and PNG files of any size, cropped as `predict` does.

    Args:
      paths: files, in the order in which their rows are wanted.
      network: whose crop and channels count.
    """

    labels = None

    def __init__(self, paths: Sequence[str], network: saved_run.TrainedModel):
        self.names = tuple(paths)
        self._network = network

    def identity(self) -> str:
        """Changes when a file does, by its length and its time."""
        digest = hashlib.sha256()
        for path in self.names:
            try:
                about = os.stat(path)
                said = f"{about.st_size} {about.st_mtime_ns}"
            except OSError as error:
                said = error.strerror or "missing"
            digest.update(f"{path}\0{said}\0".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def batches(self, start: int, size: int) -> Iterator[Batch]:
        """Batches of `size` from the stimulus `start` on."""
        for first in range(start, len(self.names), size):
            end = min(first + size, len(self.names))
            crops: dict[int, np.ndarray] = {}
            failed: dict[int, str] = {}
            for position in range(first, end):
                try:
                    crops[position] = self._crop(self.names[position])
                except ValueError as error:
                    failed[position] = str(error)
                except OSError as error:
                    failed[position] = error.strerror or str(error)
            side, channels = self._network.crop_size, self._network.channels
            rows = np.zeros((0, side, side, channels), np.float32)
            yield Batch(
                np.array(list(crops), int),
                np.stack(list(crops.values())) if crops else rows,
                failed,
                end,
            )

    def _crop(self, path: str) -> np.ndarray:
        network = self._network
        image = images.decoded_file(path, network.channels, network.apply_exif)
        size = max(network.image_size, network.crop_size)
        return preprocessing.evaluation_crop(image, network.crop_size, size).numpy()


class DatasetStimuli:
    """The centre crops of a split of a data set, in the records' order.

    Args:
      dataset: as the network wants to see it, see `PreparedDataset.viewed`.
      split: its split.
      network: whose crop counts.

    Raises:
      ValueError: no such split, or images of another number of channels.
    """

    def __init__(
        self, dataset: records.PreparedDataset, split: str, network: saved_run.TrainedModel
    ):
        dataset.require_split(split)
        if dataset.format.channels != network.channels:
            raise ValueError(
                f"{dataset.path} stores {dataset.format.channels} channel(s), but the network "
                f"takes {network.channels}: name the kind of images that it was trained on."
            )
        self._dataset, self._split, self._crop_size = dataset, split, network.crop_size
        self.names, self.labels = records.names_and_labels(dataset, split)

    def identity(self) -> str:
        """Changes when a shard does, by its length and its time."""
        digest = hashlib.sha256(f"{self._dataset.format}{self._split}".encode())
        for path in self._dataset.shards[self._split]:
            about = tf.io.gfile.stat(path)
            digest.update(f"{path}\0{about.length} {about.mtime_nsec}\0".encode())
        return digest.hexdigest()

    def batches(self, start: int, size: int) -> Iterator[Batch]:
        """Batches of `size` from the stimulus `start` on, a multiple of `size`."""
        found = evaluation_data.evaluation_batches(
            self._dataset, self._split, size, self._crop_size
        )
        for crops, _, indices in found.skip(start // size):
            positions = indices.numpy()
            real = positions >= 0
            yield Batch(
                positions[real], crops[:, 0].numpy()[real], {}, int(positions[real].max()) + 1
            )


Stimuli = FileStimuli | DatasetStimuli
