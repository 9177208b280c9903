"""When a run saves."""

import pytest

from alexnet_tf.training.run import CheckpointEvery


@pytest.mark.parametrize(
    ("text", "expected"), [("500", (500, 0.0)), ("10m", (0, 600.0)), ("1m", (0, 60.0))]
)
def test_checkpoint_intervals_are_steps_or_minutes(text, expected):
    assert CheckpointEvery.parse(text) == CheckpointEvery(*expected)


def test_when_a_checkpoint_is_due(monkeypatch):
    monkeypatch.setattr("time.monotonic", lambda: 1000.0)
    of_steps, of_time = CheckpointEvery(steps=5, seconds=0), CheckpointEvery(seconds=60.0)
    assert [step for step in range(1, 16) if of_steps.is_due(step, saved=0.0)] == [5, 10, 15]
    assert not of_time.is_due(5, saved=940.0)
    assert of_time.is_due(5, saved=939.9)
