"""Batches from a tf.data service, for when one machine cannot decode fast enough.

The service's workers read, shuffle and decode; the trainer's device augments, as without a service.
Images and batches are the same bits as without it; only the order of the batches within an epoch
differs.

A worker gets parts of an epoch, one after the other. It reads and shuffles all records to find its
part, and decodes only that.
"""

import socket

import tensorflow as tf

from alexnet_tf.data import pipeline, records
from alexnet_tf.data.augmentation import Augmentation
from alexnet_tf.data.options import with_options

_PARTS = 8  # of an epoch, dealt to the service's workers on demand
_PATIENCE = 10.0  # seconds for the dispatcher to answer


def require_dispatcher(address: str) -> None:
    """Checks that a dispatcher listens there; tf.data itself would retry for a long time.

    Args:
      address: "grpc://HOST:PORT".

    Raises:
      ValueError: the address has another form.
      OSError: nothing listens.
    """
    scheme, _, place = address.partition("://")
    host, _, port = place.rpartition(":")
    if scheme != "grpc" or not host or not port.isdigit():
        raise ValueError(
            f"The data service {address!r} is not understood: expected grpc://HOST:PORT, the "
            "dispatcher's address."
        )
    try:
        socket.create_connection((host, int(port)), timeout=_PATIENCE).close()
    except OSError as error:
        raise OSError(
            f"No tf.data service dispatcher answers at {address} ({error}): start one, or train "
            "without --data_service."
        ) from error


def epoch_from_service(
    dataset: records.PreparedDataset,
    augmentation: Augmentation,
    schedule: pipeline.Schedule,
    epoch: int,
    address: str,
) -> tf.data.Dataset:
    """One epoch's batches, in any order.

    Args:
      dataset: a data set that the service's workers see under the same path.
      augmentation, schedule: as in `pipeline.training_inputs`; of the epoch of
        schedule.first_step, the batches that are done are left out.
      epoch: which one.
      address: "grpc://HOST:PORT" of the dispatcher.

    Returns:
      A dataset like that of `pipeline.training_inputs`, of one epoch.
    """
    rows_of = pipeline.epoch_rows(dataset, augmentation, schedule)
    share = schedule.batch_size // schedule.workers

    def rows_of_part(part):
        numbered = rows_of(tf.constant(epoch, tf.int64)).enumerate()
        # Whole batches, so that a batch holds the same images as without the service.
        ours = numbered.filter(lambda n, row: (n // share) % _PARTS == part)
        return ours.map(lambda n, row: row)

    distribute = tf.data.experimental.service.distribute(
        processing_mode=tf.data.experimental.service.ShardingPolicy.DYNAMIC,
        service=address,
        compression=None,  # pixels of photographs hardly shrink
    )
    rows = tf.data.Dataset.range(_PARTS).flat_map(rows_of_part)
    # The processors are the workers'.
    batches = pipeline.decoded_batches(rows, dataset, share, calls=tf.data.AUTOTUNE)
    batches = batches.apply(distribute)
    replicas = schedule.replicas // schedule.workers
    if replicas > 1:  # consecutive elements are one global batch
        batches = batches.map(lambda *batch: _split(batch, replicas)).unbatch()
    return with_options(batches.prefetch(2))


def _split(batch, replicas: int):
    return tf.nest.map_structure(
        lambda values: tf.reshape(
            values, (replicas, values.shape[0] // replicas, *values.shape[1:])
        ),
        batch,
    )
