"""A run's batches, spread over the strategy's replicas."""

import dataclasses
from collections.abc import Iterator

import tensorflow as tf

from alexnet_tf.data import service
from alexnet_tf.data.pipeline import Augmentation, Schedule, steps_per_epoch, training_batches
from alexnet_tf.data.records import PreparedDataset


def batches(
    strategy: tf.distribute.Strategy,
    dataset: PreparedDataset,
    augmentation: Augmentation,
    schedule: Schedule,
    data_service: str = "",
) -> Iterator:
    """The run's distributed batches from schedule.first_step on.

    Args:
      strategy: whose replicas get them.
      dataset, augmentation, schedule: see `alexnet_tf.data.pipeline`.
      data_service: grpc://HOST:PORT of a tf.data service, or "" to read and decode here.

    Raises:
      ValueError, OSError: see `alexnet_tf.data.service`.
    """

    def distributed(make):
        def of_worker(context: tf.distribute.InputContext):
            return make(context.num_input_pipelines, context.input_pipeline_id)

        return iter(strategy.distribute_datasets_from_function(of_worker))

    def here(workers, worker):
        own = dataclasses.replace(schedule, workers=workers, worker=worker)
        return training_batches(dataset, augmentation, own)

    if not data_service:
        return distributed(here)
    service.require_dispatcher(data_service)

    def open_epoch(schedule, epoch):
        def remote(workers, worker):
            own = dataclasses.replace(schedule, workers=workers, worker=worker)
            return service.epoch_from_service(dataset, augmentation, own, epoch, data_service)

        return distributed(remote)

    return service.all_epochs(schedule, steps_per_epoch(dataset, schedule.batch_size), open_epoch)
