"""Converts a Keras model to ONNX, using a few times the memory of its weights.

tf2onnx copies a graph's constants a dozen times: AlexNet's 240 MB took 10 GB. So it is given a
graph that takes the weights as inputs, and their values are added to the converted model.
"""

import collections
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf


def convert(model: keras.Model):
    """An `onnx.ModelProto` with input "crops", output "probabilities" and an open batch size.

    Weights are initializers with Keras' names ("conv1/kernel"), in ONNX's axis order.

    Args:
      model: one input, float32 (batch, height, width, channels), and one output.
    """
    import tf2onnx

    weights = {f"weight_{number}": weight for number, weight in enumerate(model.weights)}

    @tf.function
    def network(crops, *values):
        with keras.StatelessScope(state_mapping=zip(weights.values(), values, strict=True)):
            return {"probabilities": model(crops, training=False)}

    signature = [tf.TensorSpec((None, *model.input_shape[1:]), tf.float32, name="crops")]
    for name, weight in weights.items():
        signature.append(tf.TensorSpec(weight.shape, weight.dtype, name=name))
    converted, _ = tf2onnx.convert.from_function(network, signature)
    _fill(converted, weights)
    return converted


def _fill(converted, weights: Mapping[str, Any]) -> None:
    """Replaces inputs by values and folds constants.

    Args:
      converted: an `onnx.ModelProto`, changed in place.
      weights: input name -> Keras variable.
    """
    import onnx
    from onnx.reference import ReferenceEvaluator

    graph = converted.graph
    # Each constant, with the weights that it is computed from.
    origins: dict[str, set[str]] = {tensor.name: set() for tensor in graph.initializer}
    origins |= {name: {name} for name in weights}
    computed, kept = [], []
    for node in graph.node:
        if node.input and all(name in origins for name in node.input):
            sources = set().union(*(origins[name] for name in node.input))
            origins |= dict.fromkeys(node.output, sources)
            computed.append(node)
        else:
            kept.append(node)
    used = {name for node in kept for name in node.input}
    wanted = [name for name in origins if name in used and origins[name]]

    constants = onnx.helper.make_graph(computed, "constants", [], [], graph.initializer)
    constants.output.extend(onnx.ValueInfoProto(name=name) for name in wanted)
    opsets = {opset.domain: opset.version for opset in converted.opset_import}
    values = ReferenceEvaluator(constants, opsets=opsets).run(
        None, {name: weight.numpy() for name, weight in weights.items()}
    )

    # A weight that is used as a single array keeps its name; uses of its shape do not count.
    arrays = [
        (name, tuple(origins[name]))
        for name, value in zip(wanted, values, strict=True)
        if value.dtype.kind == "f"
    ]
    uses = collections.Counter(sources for _, sources in arrays)
    renamed = {
        name: weights[sources[0]].path
        for name, sources in arrays
        if len(sources) == uses[sources] == 1
    }
    for node in kept:
        node.input[:] = [renamed.get(name, name) for name in node.input]
    initializers = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.node[:], graph.input[1:], graph.initializer[:]
    graph.node.extend(kept)
    graph.initializer.extend(initializers)
    for name, value in zip(wanted, values, strict=True):
        graph.initializer.append(onnx.numpy_helper.from_array(value, renamed.get(name, name)))
