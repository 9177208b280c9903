"""The processes that train together, and what they must agree on."""

import contextlib
from collections.abc import Sequence

import tensorflow as tf

from alexnet_tf.models import compilation


class Cluster:
    """The processes of a strategy: one, except under "multi_worker".

    Every process must call the same methods in the same order.

    Attributes:
      size: how many processes.
      is_chief: whether this one writes the run's files; exactly one does.
      local_strategy: for work that each process does alone.
    """

    def __init__(self, strategy: tf.distribute.Strategy):
        resolver = strategy.cluster_resolver
        alone = resolver is None or resolver.task_type is None
        jobs = {} if alone else resolver.cluster_spec().as_dict()
        self.size = 1 if alone else len(jobs.get("chief", ())) + len(jobs.get("worker", ()))
        first = ("chief" if "chief" in jobs else "worker", 0)
        self.is_chief = alone or (resolver.task_type, resolver.task_id) == first
        self.local_strategy = strategy if self.size == 1 else compilation.default_strategy()
        self._strategy = strategy

    def from_chief(self, numbers: Sequence[float]) -> list[float]:
        """The chief's numbers, in every process: decisions must not differ by a bit."""
        return self._sum(list(numbers) if self.is_chief else [0.0] * len(numbers))

    def any_of(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        return self._sum([float(flag)])[0] > 0

    def stops(self, own: bool, summed: bool) -> bool:
        """Whether to stop now: alone by the own flag, several by the flag in the last step's sums.

        So all processes stop at the same step.
        """
        return own if self.size == 1 else summed

    def require_same_step(self, step: int) -> None:
        """Raises ValueError unless all processes continue from the same step."""
        chief = int(self.from_chief([step])[0])
        if self.any_of(step != chief):
            raise ValueError(
                f"The workers found different checkpoints: this one is at step {step}, the chief "
                f"at {chief}. Give all workers a --workdir on a disk that they share."
            )

    def explained(self) -> contextlib.AbstractContextManager:
        """Inside, the loss of another process is one `WorkerLost`."""
        return lost_workers() if self.size > 1 else contextlib.nullcontext()

    def _sum(self, numbers: list[float]) -> list[float]:
        if self.size == 1:
            return numbers
        strategy, own = self._strategy, tf.constant(numbers, tf.float64)
        local = strategy.num_replicas_in_sync // self.size

        def of_replica():
            # Of a worker's replicas only the first one counts.
            replica = tf.distribute.get_replica_context().replica_id_in_sync_group
            return tf.where(replica % local == 0, own, tf.zeros_like(own))

        @tf.function
        def total():
            return strategy.reduce(tf.distribute.ReduceOp.SUM, strategy.run(of_replica), axis=None)

        return list(total().numpy().tolist())


class WorkerLost(OSError):
    """Another process of the cluster is gone."""


@contextlib.contextmanager
def lost_workers():
    """Turns TensorFlow's many errors about a lost process into one `WorkerLost`."""
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
            "start the same command on every worker again, and the run continues from its last "
            "checkpoint."
        ) from error
