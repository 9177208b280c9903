"""Where a layer's operations will run, which decides the form in which they are fast and exact."""


def is_compiled() -> bool:
    """Whether XLA compiles the TensorFlow function that is being traced.

    Not so for an exported signature: it is traced for any device, and TensorFlow Serving on a
    processor refuses what only XLA can run.
    """
    import keras

    if keras.backend.backend() != "tensorflow":
        return False
    from tensorflow.python.framework import ops
    from tensorflow.python.ops import control_flow_util

    return control_flow_util.GraphOrParentsInXlaContext(ops.get_default_graph())


def is_on_gpu() -> bool:
    """Whether the operations made now are told to run on a GPU, by `tf.device` or a strategy."""
    import tensorflow as tf

    device = tf.zeros(0).device if tf.executing_eagerly() else tf.constant(0).op.device
    return tf.DeviceSpec.from_string(device or "").device_type == "GPU"
