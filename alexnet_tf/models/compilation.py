"""Decides when XLA compiles, and tells whether it compiles the current graph."""

import keras

CHOICES = ("auto", "true", "false")
# Images from which compiling pays on a GPU. One H200 trained 22,790 images/s compiled and
# 9,120 plain (AlexNet, float32, batch 512, TensorFlow 2.21), which saves a minute in a million
# images; one H100 98,000 and 46,000 of the CIFAR-10 network (batch 128), which saves 11 seconds,
# and compiled that for 10.
_WORTHWHILE = 1_000_000


def is_worthwhile(wanted: str, strategy, images: int) -> bool:
    """Whether XLA is to compile a step: `--jit_compile`.

    Depends only on the run's length and devices, which do not change when a run is resumed.

    Args:
      wanted: one of CHOICES. "auto" compiles on a GPU when there are enough images; on processors
        XLA's convolutions are slower than TensorFlow's.
      strategy: the `tf.distribute` strategy whose devices do the work.
      images: number of images processed in the whole run.

    Raises:
      ValueError: `wanted` is not one of CHOICES.
    """
    if wanted not in CHOICES:
        raise ValueError(f"jit_compile is {wanted!r}: expected one of {', '.join(CHOICES)}.")
    if wanted == "auto":
        return images >= _WORTHWHILE and _uses_gpu(strategy)
    return wanted == "true"


def default_strategy():
    """The strategy of one device: the first GPU, else TensorFlow's default one."""
    import tensorflow as tf

    if tf.config.list_logical_devices("GPU"):
        # Unlike under the default strategy, batches wait on the device, and layers know it.
        return tf.distribute.OneDeviceStrategy("GPU:0")
    return tf.distribute.get_strategy()


def _uses_gpu(strategy) -> bool:
    import tensorflow as tf

    if not tf.distribute.has_strategy() and strategy is tf.distribute.get_strategy():
        return bool(tf.config.list_logical_devices("GPU"))  # the default strategy
    return any("GPU" in device for device in strategy.extended.worker_devices)


def is_compiled() -> bool:
    """Whether XLA compiles the TensorFlow function that is being traced.

    False for an exported signature: it is traced for any device, and TensorFlow Serving on a CPU
    refuses functions that only XLA can run.
    """
    if keras.backend.backend() != "tensorflow":
        return False
    from tensorflow.python.framework import ops
    from tensorflow.python.ops import control_flow_util

    return control_flow_util.GraphOrParentsInXlaContext(ops.get_default_graph())


def is_on_gpu() -> bool:
    """Whether operations created here are placed on a GPU by `tf.device` or a strategy."""
    import tensorflow as tf

    device = tf.zeros(0).device if tf.executing_eagerly() else tf.constant(0).op.device
    return tf.DeviceSpec.from_string(device or "").device_type == "GPU"
