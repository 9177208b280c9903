"""Writes a SavedModel version directory for TF Serving.

A version is written under a name that a polling server ignores, checked, flushed to disk and
renamed, so the server sees all of it or nothing.
"""

import contextlib
import errno
import json
import os
import re

import numpy as np
import tensorflow as tf

from alexnet_tf import files
from alexnet_tf.models import card, saved_run
from alexnet_tf.serving import messages, signatures

LABELS_FILE = "assets/labels.txt"
KNOWLEDGE_FILE = "assets/knowledge.json"
WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
# Ops that call back into a Python process, which a server does not have.
_PYTHON_OPS = {"PyFunc", "PyFuncStateless", "EagerPyFunc", "NumpyFunction"}
_WARMUP_BATCH = 8
_LAST_VERSION = 2**63 - 1  # TF Serving counts in int64


def export_saved_model(
    network: saved_run.TrainedModel, class_names, output: str, version: int | None = None
) -> str:
    """Writes `output`/VERSION with the signatures of `signatures.signatures`.

    Args:
      network: the classifier.
      class_names: one name per output; written into the graph and assets/labels.txt.
      output: the model's base directory; its last part is the name in the warm-up requests.
      version: a positive unused number; None for the highest existing one plus 1.

    Returns:
      The path of the version's directory.

    Raises:
      FileExistsError: the version exists already. OSError: it cannot be written.
      ValueError: the version is not a positive number, the network's outputs are not finite, or
        the graph has operations that a server refuses.
    """
    if version is not None and not 0 < version <= _LAST_VERSION:
        raise ValueError(
            f"Version {version} is no positive number of 64 bits: TF Serving looks for those."
        )
    if version is not None and version in versions(output):
        raise _taken(output, version)
    _require_finite_answer(network)
    try:
        # Not a number, so a server that polls the directory does not take it for a version.
        with files.aside(output) as aside:
            _write(network, class_names, aside, os.path.basename(os.path.normpath(output)))
            require_servable(aside)
            files.sync_tree(aside)
            return _publish(aside, output, version)
    except tf.errors.OpError as error:
        # TensorFlow raises this if a file cannot be written.
        reason = re.sub(r"\{\{.*?\}\}|\[Op:.*?\]", "", error.message).split(";")[-1].strip()
        raise OSError(
            f"The model could not be written to {output} ({reason}): free some space or choose "
            "another directory. No version was added."
        ) from error


def versions(output: str) -> list[int]:
    """The version numbers in a model's base directory, ascending."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return sorted(int(name) for name in os.listdir(output) if name.isdecimal())
    return []


def require_servable(path: str) -> None:
    """Raises ValueError if TF Serving on a CPU cannot run the SavedModel at `path`.

    It cannot run a function that must be compiled by XLA (such as Keras' grouped convolution), an
    op that needs Python, or an op that this TensorFlow does not know.
    """
    from tensorflow.core.protobuf import saved_model_pb2
    from tensorflow.python.framework import op_def_registry

    with open(os.path.join(path, saved_run.SAVED_MODEL_FILE), "rb") as file:
        saved = saved_model_pb2.SavedModel.FromString(file.read())
    for graph in saved.meta_graphs:
        library = graph.graph_def.library
        for function in library.function:
            if function.attr["_XlaMustCompile"].b:
                raise ValueError(
                    f"The function {function.signature.name} must be compiled by XLA, which a CPU "
                    "TF Serving refuses: use alexnet_tf's GroupedConv2D for grouped convolutions."
                )
        functions = {function.signature.name for function in library.function}
        nodes = [*graph.graph_def.node, *(n for f in library.function for n in f.node_def)]
        for op in {node.op for node in nodes} - functions:
            if op in _PYTHON_OPS or op_def_registry.get(op) is None:
                raise ValueError(f"The graph holds the op {op}, which TF Serving does not have.")


def _write(network, class_names, path: str, name: str) -> None:
    functions = signatures.signatures(network, class_names)
    module = signatures.trackable(network)
    tf.saved_model.save(module, path, signatures=functions)
    labels = os.path.join(path, LABELS_FILE)
    os.makedirs(os.path.dirname(labels), exist_ok=True)
    with open(labels, "w", encoding="utf-8") as file:
        file.writelines(f"{label}\n" for label in class_names)
    with open(os.path.join(path, KNOWLEDGE_FILE), "w", encoding="utf-8") as file:
        json.dump(network.known, file, indent=1)
    with open(os.path.join(path, card.CARD_FILE), "w", encoding="utf-8") as file:
        file.write(card.of_run(network))
    warmup = os.path.join(path, WARMUP_FILE)
    os.makedirs(os.path.dirname(warmup), exist_ok=True)
    with tf.io.TFRecordWriter(warmup) as writer:
        for request in warmup_requests(network, name):
            writer.write(messages.prediction_log(request))


def _require_finite_answer(network: saved_run.TrainedModel) -> None:
    window = (1, network.crop_size, network.crop_size, network.channels)
    answer = np.asarray(network.model(np.full(window, 128, np.float32), training=False))
    if not np.isfinite(answer).all():
        raise ValueError(
            f"{network.path} gives NaN or infinity for a grey image, so nothing is exported: its "
            "training diverged, or its arithmetic overflows."
        )


def warmup_requests(network: saved_run.TrainedModel, name: str):
    """Yields a request per signature and batch size, which a server runs before it is ready."""
    size, channels = network.image_size, network.channels
    ramp = np.linspace(0, 255, size).astype(np.uint8)
    image = np.broadcast_to(ramp[:, None, None], (size, size, channels))
    encoded = tf.io.encode_jpeg(image).numpy()
    for batch in (1, _WARMUP_BATCH):
        pixels = np.broadcast_to(image, (batch, *image.shape))
        inputs = {"image_bytes": [encoded] * batch}
        yield messages.predict_request(name, signatures.SERVING_DEFAULT, inputs)
        yield messages.predict_request(name, signatures.IMAGE_TENSOR, {"images": pixels})
        yield messages.predict_request(name, signatures.FEATURES, inputs)
        window = pixels[:, : network.crop_size, : network.crop_size].astype(np.float32)
        yield messages.predict_request(name, signatures.CROPS, {"crops": window})


def _publish(aside: str, output: str, version: int | None) -> str:
    while True:
        number = max(versions(output), default=0) + 1 if version is None else version
        target = os.path.join(output, str(number))
        try:
            os.rename(aside, target)
            files.sync(output)
            return target
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            if version is not None:
                raise _taken(output, version) from error
            # Another export took the number in the meantime: try the next one.


def _taken(output: str, version: int) -> FileExistsError:
    return FileExistsError(
        f"{output} already holds version {version}: choose another, or leave --version out."
    )
