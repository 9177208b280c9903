"""How many steps TensorFlow is given at once."""

import tensorflow as tf

from alexnet_tf.training import cluster

_SECONDS = 0.2  # that a call may last: so long a wish to stop waits
_MOST = 64  # steps of a call
# Calls before which several workers choose anew; the first ones trace and compile.
_AGREED_AT, _AGREE_EVERY = (3, 8, 16, 32, 64, 128), 256


class Pace:
    """Chooses the steps of a call by how long steps take.

    A step of milliseconds would wait for Python. How many steps there are in a call changes nothing
    that is computed: all are iterations of the same compiled loop. Several workers must make the
    same calls, so the chief's clock counts.

    Args:
      strategy: the run's.
      one_by_one: always one step, so that callbacks are told of each when it is done.
    """

    def __init__(self, strategy: tf.distribute.Strategy, one_by_one: bool = False):
        self._strategy, self.one_by_one = strategy, one_by_one
        self._calls, self._wanted, self._agreed = 0, 1, 1
        self._steps = self._seconds = 0.0

    def steps(self) -> int:
        """Steps of the next call, at most."""
        if cluster.workers(self._strategy) == 1:
            return self._wanted
        regular = self._calls and self._calls % _AGREE_EVERY == 0
        if regular or self._calls in _AGREED_AT:
            self._agreed = int(cluster.from_chief(self._strategy, [self._wanted])[0])
        self._calls += 1
        return self._agreed

    def measured(self, steps: int, seconds: float) -> None:
        """Says how many steps ended and how long ago the last ones had."""
        if not self.one_by_one:
            # Over the last few calls: where a call returns at its end, the time that passes between
            # two looks is that of another call than the one that is looked at.
            self._steps = self._steps / 2 + steps
            self._seconds = self._seconds / 2 + seconds
            fitting = round(_SECONDS * self._steps / max(self._seconds, 1e-9))
            # Twice as many at most: a measurement may be of a moment when buffers were full.
            self._wanted = max(1, min(fitting, 2 * self._wanted, _MOST))
