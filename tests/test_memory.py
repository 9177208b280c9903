"""Whether freed memory really stays: counted by the kernel, in a process of its own."""

import subprocess
import sys

import pytest

_COUNT = """
import resource
if {keep}:
    from alexnet_tf import memory
    memory.keep_freed_memory()
import tensorflow as tf
def step():
    tf.zeros((20_000_000,)) + 1.0                          # 80 MB each: a batch of float crops
    tf.strings.join([tf.fill([64], "x" * 200_000), "y"])   # raw records
for _ in range(4):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(8):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _faults(keep: bool) -> int:
    done = subprocess.run(
        [sys.executable, "-c", _COUNT.format(keep=keep)], capture_output=True, text=True, check=True
    )
    return int(done.stdout.split()[-1])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="counts what Linux counts")
def test_a_batch_takes_over_the_pages_of_the_one_before():
    assert _faults(keep=True) < 0.1 * _faults(keep=False)
