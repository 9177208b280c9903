"""How many steps TensorFlow is given at once."""

import tensorflow as tf

from alexnet_tf.training import cluster

_SECONDS = 0.2  # that a call may last: so long a wish to stop waits
_MOST = 64  # steps of a call
_AGREE_EVERY = 256  # calls, after which several workers choose anew


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
        self._strategy, self._one_by_one = strategy, one_by_one
        self._calls, self._wanted, self._agreed = 0, 1, 1

    def steps(self) -> int:
        """Steps of the next call, at most."""
        if cluster.workers(self._strategy) == 1:
            return self._wanted
        if self._calls % _AGREE_EVERY == 3:  # the first calls trace and compile
            self._agreed = int(cluster.from_chief(self._strategy, [self._wanted])[0])
        self._calls += 1
        return self._agreed

    def measured(self, steps: int, seconds: float) -> None:
        """Says how long so many steps took."""
        if not self._one_by_one:
            fitting = int(_SECONDS * steps / max(seconds, 1e-9))
            # Twice as many at most: a measurement may be of a moment when buffers were full.
            self._wanted = max(1, min(fitting, 2 * self._wanted, _MOST))
