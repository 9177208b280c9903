"""Whether XLA compiles a run's step: `--jit_compile=auto|true|false`."""

import tensorflow as tf

from alexnet_tf.training.distribution import TwoTowers, uses_gpu

CHOICES = ("auto", "true", "false")
# Images after which compiling has paid on a GPU. One H200 trained 22,790 images/s compiled and
# 9,120 plain (float32, batch 512, TensorFlow 2.21), which saves a minute in a million images. How
# long the compiler takes there was not measured.
_WORTHWHILE = 1_000_000


def is_worthwhile(wanted: str, strategy: tf.distribute.Strategy, images: int) -> bool:
    """Decides by what stays the same when a run is resumed: its length and its devices.

    Args:
      wanted: one of CHOICES. "auto" compiles on a GPU when there are enough images; on processors
        XLA's convolutions are slower than TensorFlow's.
      strategy: the run's.
      images: that are trained on, or seen, in the whole run.

    Raises:
      ValueError: `wanted` is none of CHOICES, or "true" under towers.
    """
    if wanted not in CHOICES:
        raise ValueError(f"jit_compile is {wanted!r}: expected one of {', '.join(CHOICES)}.")
    if isinstance(strategy, TwoTowers):
        if wanted == "true":
            raise ValueError(
                "jit_compile=true needs another strategy than towers: XLA compiles for one device, "
                "and the halves of the network are on two."
            )
        return False
    if wanted == "auto":
        return images >= _WORTHWHILE and uses_gpu(strategy)
    return wanted == "true"
