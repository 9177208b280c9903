"""A run's batches, prefetched onto the strategy's devices."""

import contextlib
import dataclasses
from collections.abc import Iterator

import tensorflow as tf

from alexnet_tf.data import service
from alexnet_tf.data.augmentation import Augmentation
from alexnet_tf.data.pipeline import Schedule, steps_per_epoch, training_inputs
from alexnet_tf.data.records import PreparedDataset

_PREFETCHED = 2  # batches on each device


class Feed:
    """The run's distributed batches from schedule.first_step on.

    Args:
      strategy: its devices get the batches.
      dataset, augmentation, schedule: see `alexnet_tf.data.pipeline`.
      data_service: grpc://HOST:PORT of a tf.data service, or "" to read and decode here.

    Raises:
      ValueError, OSError: see `alexnet_tf.data.service`.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        dataset: PreparedDataset,
        augmentation: Augmentation,
        schedule: Schedule,
        data_service: str = "",
    ):
        self._strategy, self._dataset, self._augmentation = strategy, dataset, augmentation
        self._schedule, self._service = schedule, data_service
        if data_service:
            service.require_dispatcher(data_service)
            self._steps = steps_per_epoch(dataset, schedule.batch_size)
        else:
            self._batches = self._distributed(training_inputs, schedule)

    def of_epoch(self, epoch: int) -> Iterator:
        """An iterator of (images, labels, draws) per replica, at the epoch's next batch."""
        if not self._service:
            return self._batches
        first_step = max(self._schedule.first_step, epoch * self._steps)
        schedule = dataclasses.replace(self._schedule, first_step=first_step)

        def remote(dataset, augmentation, schedule):
            return service.epoch_from_service(dataset, augmentation, schedule, epoch, self._service)

        return self._distributed(remote, schedule)

    @contextlib.contextmanager
    def explained(self, epoch: int) -> Iterator[None]:
        """Turns the error of batches that end too soon into a message."""
        try:
            yield
        except tf.errors.FailedPreconditionError as error:
            if "infinite number of elements" not in str(error.message):
                raise
            if self._service:
                raise OSError(
                    f"The data service gave fewer batches than epoch {epoch + 1} has: it lost a "
                    "worker. Start the same command again: the run continues from its last "
                    "checkpoint."
                ) from error
            path = self._dataset.path
            raise ValueError(
                f"{path} has fewer training images than its metadata says: run "
                f"`python -m data_prep.verify --data_dir={path}`."
            ) from error

    def _distributed(self, make, schedule: Schedule) -> Iterator:
        def of_worker(context: tf.distribute.InputContext):
            own = dataclasses.replace(
                schedule, workers=context.num_input_pipelines, worker=context.input_pipeline_id
            )
            batches = make(self._dataset, self._augmentation, own)
            # Finite datasets make several workers agree before each step that all have a batch.
            endless = tf.data.experimental.INFINITE_CARDINALITY
            return batches.apply(tf.data.experimental.assert_cardinality(endless))

        return dealt(self._strategy, of_worker)


def dealt(strategy: tf.distribute.Strategy, batches_of) -> Iterator:
    """An iterator of batches, prefetched onto the strategy's devices.

    Args:
      strategy: its devices get the batches.
      batches_of: from a `tf.distribute.InputContext` to a dataset of one element per replica.
    """
    options = tf.distribute.InputOptions(experimental_per_replica_buffer_size=_PREFETCHED)
    return iter(strategy.distribute_datasets_from_function(batches_of, options))
