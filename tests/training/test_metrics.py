"""An epoch's metrics from the sums of calls."""

import numpy as np
import pytest
import tensorflow as tf
from tqdm import tqdm

from alexnet_tf.training.checkpoints import Checkpoints, Progress
from alexnet_tf.training.cluster import Cluster
from alexnet_tf.training.errors import Diverged
from alexnet_tf.training.metrics import EpochMetrics, epoch_row
from alexnet_tf.training.pace import Pace

NAMES = ("loss", "wrong1", "wrong5", "stop")


@pytest.fixture
def metrics_of(tmp_path):
    """A function from the sums of calls, (steps, 4) each, to (metrics, progress)."""

    def make(*calls):
        progress = Progress(step=3)
        metrics = EpochMetrics(
            progress,
            10,
            Pace(Cluster(tf.distribute.get_strategy())),
            Checkpoints(tmp_path, tf.train.Checkpoint()),
            tqdm(disable=True),
            "epoch 1/1",
        )
        for sums in calls:
            metrics.add(dict(zip(NAMES, np.transpose(sums), strict=True)))
        metrics.flush()
        return metrics, progress

    return make


def test_sums_do_not_depend_on_the_steps_in_a_call(metrics_of):
    steps = np.array([[1e8, 4, 2, 0], [0.1, 3, 1, 0], [0.2, 2, 0, 1]], np.float32)
    metrics, one = metrics_of(steps)
    _, three = metrics_of(*steps[:, None])
    assert metrics.stop
    sums = {name: one.sums[name] for name in ("loss", "wrong1", "wrong5", "images")}
    assert sums == {name: three.sums[name] for name in sums}
    assert sums["loss"] == sum(steps[:, 0].astype(np.float64)) and sums["images"] == 30
    one.sums["learning_rate"] = 0.1
    row = epoch_row(one, {"validation_loss": None})
    assert (row["epoch"], row["step"]) == (1, 3)
    assert (row["top1_error"], row["top5_error"]) == (0.3, 0.1)


def test_a_loss_that_is_not_finite_is_divergence(metrics_of):
    with pytest.raises(Diverged, match=r"loss is nan after step 3.*No checkpoint.*learning_rate"):
        metrics_of(np.array([[1, 0, 0, 0], [np.nan, 0, 0, 0]], np.float32))
