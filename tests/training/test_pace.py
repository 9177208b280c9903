"""The number of steps in a call."""

import tensorflow as tf

from alexnet_tf.training.cluster import Cluster
from alexnet_tf.training.pace import Pace

ALONE = Cluster(tf.distribute.get_strategy())


def test_a_call_lasts_a_fifth_of_a_second():
    pace = Pace(ALONE)
    assert pace.steps() == 1
    for expected in (2, 4, 8, 16, 20, 20):  # steps of 10 ms
        pace.measured(10, 0.1)
        assert pace.steps() == expected
    for _ in range(3):
        pace.measured(3, 15.0)
    assert pace.steps() == 1
    # Where calls return at their end, the time is that of the call after the one looked at.
    before, found = 1, []
    for _ in range(40):
        now = pace.steps()
        pace.measured(before, now * 0.01)
        before = now
        found.append(now)
    assert min(found[20:]) >= 15 and max(found[20:]) <= 25
    one_by_one = Pace(ALONE, one_by_one=True)
    one_by_one.measured(100, 0.1)
    assert one_by_one.steps() == 1
