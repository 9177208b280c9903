"""Weights of other programs into these networks: ONNX, PyTorch, safetensors.

    model = alexnet_tf.build_model("alexnet_owt")
    report = weights.load_torch(model, "alexnet-owt-7be5be79.pth")

Every tensor of the file is used once and every weight of the model is set once, or nothing is set.
On the way:

| in the file                     | in the model                     | what is done              |
|---------------------------------|----------------------------------|---------------------------|
| convolution (O, I/g, kh, kw)    | (kh, kw, I/g, O)                 | transposed; groups stay   |
| first dense layer (O, I), c h w | (I, O), h w c                    | permuted, transposed      |
| other dense layers (O, I)       | (I, O)                           | transposed                |
| conv1 reads BGR (Caffe)         | what its preprocessing says      | input channels reversed   |
| conv1 reads scaled pixels       | pixels scaled otherwise          | kernel scaled per channel |
| dropout scaled in training      | dropout scaled at test (paper)   | next kernel / (1 - rate)  |

What weights cannot carry is reported: `ImportReport.modelling` lists where the network that the
file was trained in computes something else than the model, `ImportReport.preprocessing` where the
means differ that are subtracted from the pixels.
"""

import os

import keras

from alexnet_tf.models.weights import readers
from alexnet_tf.models.weights.assignment import ImportReport, assign
from alexnet_tf.models.weights.graphs import differences, graph_steps, model_steps, torch_steps

__all__ = ["ImportReport", "load", "load_onnx", "load_safetensors", "load_torch"]

TORCH_SUFFIXES = (".pth", ".pt")


def load(model: keras.Model, path: str | os.PathLike) -> ImportReport | None:
    """Sets the model's weights from a file of any kind that is known by its suffix.

    Args:
      model: a network of this package with its top.
      path: `.onnx`, `.pth`, `.pt`, `.safetensors`; or `.keras` or `.weights.h5` of the same
        network.

    Returns:
      The report of the import; None for Keras' own files, which need no conversion.

    Raises:
      FileNotFoundError: no such file. ValueError: another suffix, or a file that does not fit.
    """
    path = os.fspath(path)
    if not os.path.isfile(path):
        raise FileNotFoundError(f"There is no file of weights {path}.")
    if path.endswith(".onnx"):
        return load_onnx(model, path)
    if path.endswith(TORCH_SUFFIXES):
        return load_torch(model, path)
    if path.endswith(".safetensors"):
        return load_safetensors(model, path)
    if path.endswith((".keras", ".weights.h5")):
        try:
            # Keras reads the weights of a whole model file here too, and checks their shapes.
            model.load_weights(path)
        except (ValueError, KeyError, OSError) as error:
            reason = str(error).strip().split("\n")[0]
            raise ValueError(
                f"{path} does not fit the model {model.name!r} ({reason}): expected weights that "
                "the same network saved."
            ) from error
        return None
    raise ValueError(
        f"{path} has no known suffix: expected .onnx, .pth, .pt, .safetensors, .keras or "
        ".weights.h5."
    )


def load_onnx(model: keras.Model, path: str | os.PathLike) -> ImportReport:
    """Sets the weights from an ONNX graph, such as the model zoo's `bvlcalexnet`.

    The graph's convolutions and dense layers (Gemm) are taken in order, whatever their tensors are
    called. Its first layer is taken to read BGR pixels of 0..255, as the networks of Caffe do.

    Raises:
      FileNotFoundError: no such file. ValueError: see `load`; also when `onnx` is not installed.
    """
    graph = readers.read_onnx(path)
    found = differences(graph_steps(graph.proto, path), model_steps(model))
    return assign(model, graph.tensors, "caffe", path, found)


def load_torch(model: keras.Model, path: str | os.PathLike) -> ImportReport:
    """Sets the weights from a state dictionary of torchvision's AlexNet, saved by PyTorch.

    Only tensors are unpickled (`weights_only`): a file from a stranger cannot run code.

    Raises:
      FileNotFoundError: no such file. ValueError: see `load`; also when `torch` is not installed.
    """
    tensors = readers.by_torchvision_layers(readers.read_torch(path), path)
    return assign(
        model, tensors, "torchvision", path, differences(torch_steps(), model_steps(model))
    )


def load_safetensors(model: keras.Model, path: str | os.PathLike) -> ImportReport:
    """Sets the weights from a `.safetensors` file with the tensor names of torchvision's AlexNet.

    Raises:
      FileNotFoundError: no such file. ValueError: see `load`; also when `safetensors` is not
        installed.
    """
    tensors = readers.by_torchvision_layers(readers.read_safetensors(path), path)
    return assign(
        model, tensors, "torchvision", path, differences(torch_steps(), model_steps(model))
    )
