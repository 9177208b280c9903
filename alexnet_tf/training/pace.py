"""How many steps TensorFlow is given at once."""

from alexnet_tf.training.cluster import Cluster

_SECONDS = 0.2  # length of a call; a stop signal waits as long
_MOST = 64  # steps of a call
# Calls before which several workers agree; the first ones trace and compile.
_AGREED_AT, _AGREE_EVERY = (3, 8, 16, 32, 64, 128), 256


class Pace:
    """Chooses the number of steps per call, so that short steps do not wait for Python.

    It changes no result: all are iterations of the same compiled loop. Several workers must make
    the same calls, so the chief's clock counts.

    Args:
      cluster: the run's processes.
      one_by_one: always one step per call, so that callbacks see each finished step.
    """

    def __init__(self, cluster: Cluster, one_by_one: bool = False):
        self._cluster, self.one_by_one = cluster, one_by_one
        self._calls, self._wanted, self._agreed = 0, 1, 1
        self._steps = self._seconds = 0.0

    def steps(self) -> int:
        """Steps of the next call, at most."""
        if self._cluster.size == 1:
            return self._wanted
        regular = self._calls and self._calls % _AGREE_EVERY == 0
        if regular or self._calls in _AGREED_AT:
            self._agreed = int(self._cluster.from_chief([self._wanted])[0])
        self._calls += 1
        return self._agreed

    def measured(self, steps: int, seconds: float) -> None:
        """Takes the number of steps that ended and the time since the last ones did."""
        if not self.one_by_one:
            # Averaged: where calls block, the time measured is another call's.
            self._steps = self._steps / 2 + steps
            self._seconds = self._seconds / 2 + seconds
            fitting = round(_SECONDS * self._steps / max(self._seconds, 1e-9))
            # At most doubled: a short time may only mean full buffers.
            self._wanted = max(1, min(fitting, 2 * self._wanted, _MOST))
