"""What `placement` reads of the graphs that TensorFlow placed."""

import tensorflow as tf

from alexnet_tf.perf.placement import placement


def test_the_gradient_of_a_bias_that_one_kernel_computes_with_the_kernels_has_its_own_size():
    """oneDNN's fused kernel has two outputs where the operation that was traced has one."""

    @tf.function
    def gradients(images, kernel, bias):
        with tf.device("CPU:1"):
            with tf.GradientTape() as tape:
                tape.watch([kernel, bias])
                maps = tf.nn.bias_add(tf.nn.conv2d(images, kernel, 2, "VALID"), bias)
                loss = tf.reduce_sum(tf.nn.relu(maps) ** 2)
            found = tape.gradient(loss, [kernel, bias])
        with tf.device("CPU:0"):
            return [gradient + 1.0 for gradient in found]

    arguments = tf.ones((4, 35, 35, 3)), tf.ones((5, 5, 3, 8)), tf.ones(8)
    transfers = placement(gradients, *arguments).transfers
    sizes = sorted(transfer.size for transfer in transfers if transfer.source == "CPU:1")
    assert sizes == [4 * 8, 4 * 5 * 5 * 3 * 8]
