"""What the processes of `--strategy=multi_worker` have to know of each other and agree on."""

import contextlib
from collections.abc import Sequence

import tensorflow as tf


def workers(strategy: tf.distribute.Strategy) -> int:
    """Processes that train together: 1 except under "multi_worker"."""
    resolver = strategy.cluster_resolver
    if resolver is None or resolver.task_type is None:
        return 1
    cluster = resolver.cluster_spec().as_dict()
    return len(cluster.get("chief", ())) + len(cluster.get("worker", ()))


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process writes the run's files: exactly one of a cluster's does."""
    resolver = strategy.cluster_resolver
    if workers(strategy) == 1:
        return True
    first = "chief" if "chief" in resolver.cluster_spec().jobs else "worker"
    return (resolver.task_type, resolver.task_id) == (first, 0)


def from_chief(strategy: tf.distribute.Strategy, numbers: Sequence[float]) -> list[float]:
    """The chief's numbers, in every process: what a run decides by must not differ by a bit."""
    if workers(strategy) == 1:
        return list(numbers)
    own = tf.constant(list(numbers) if is_chief(strategy) else [0.0] * len(numbers), tf.float64)
    return list(_sum_over_workers(strategy, own).numpy().tolist())


def any_of(strategy: tf.distribute.Strategy, wish: bool) -> bool:
    """Whether any process of the cluster wishes it; every process must ask."""
    if workers(strategy) == 1:
        return wish
    return bool(_sum_over_workers(strategy, tf.constant(float(wish), tf.float64)) > 0)


def require_same_step(strategy: tf.distribute.Strategy, step: int) -> None:
    """Raises ValueError unless all processes of a cluster go on from the same step."""
    chief = int(from_chief(strategy, [step])[0])
    differs = tf.constant(float(step != chief), tf.float64)
    if workers(strategy) > 1 and _sum_over_workers(strategy, differs) > 0:
        raise ValueError(
            f"The workers found different checkpoints: this one is at step {step}, the chief at "
            f"{chief}. Give all workers a --workdir on a disk that they share."
        )


def _sum_over_workers(strategy, own: tf.Tensor) -> tf.Tensor:
    local = strategy.num_replicas_in_sync // workers(strategy)

    def of_replica():
        # A worker may have several replicas: only its first one speaks for it.
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        return tf.where(replica % local == 0, own, tf.zeros_like(own))

    @tf.function
    def total():
        return strategy.reduce(tf.distribute.ReduceOp.SUM, strategy.run(of_replica), axis=None)

    return total()


class WorkerLost(OSError):
    """Another process of the cluster is gone."""


@contextlib.contextmanager
def lost_workers():
    """Turns TensorFlow's many errors about a process that is gone into one `WorkerLost`."""
    try:
        yield
    except (
        tf.errors.AbortedError,
        tf.errors.CancelledError,
        tf.errors.DeadlineExceededError,
        tf.errors.FailedPreconditionError,
        tf.errors.InternalError,
        tf.errors.UnavailableError,
        tf.errors.UnknownError,
    ) as error:
        raise WorkerLost(
            "A worker of the cluster is gone (its own output says why), so this one cannot go on: "
            "start the same command on every worker again, and the run goes on from its last "
            "checkpoint."
        ) from error
