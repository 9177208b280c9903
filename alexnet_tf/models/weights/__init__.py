"""Loads weights of other programs: ONNX, PyTorch, Caffe, MatConvNet, TensorFlow 1, safetensors.

    model = alexnet_tf.build_model("alexnet_owt")
    report = weights.load_torch(model, "alexnet-owt-7be5be79.pth")

Files are read without PyTorch, and names and shapes are checked before any value is read. Every
tensor of the file is used once and every weight of the model is set once, or nothing is set.
Conversions:

| in the file                     | in the model                     | what is done              |
|---------------------------------|----------------------------------|---------------------------|
| convolution (O, I/g, kh, kw)    | (kh, kw, I/g, O)                 | transposed; groups stay   |
| first dense layer (O, I), c h w | (I, O), h w c                    | permuted, transposed      |
| other dense layers (O, I)       | (I, O)                           | transposed                |
| conv1 reads BGR (Caffe)         | what its preprocessing says      | input channels reversed   |
| conv1 reads scaled pixels       | pixels scaled otherwise          | kernel scaled per channel |
| dropout scaled in training      | dropout scaled at test (paper)   | next kernel / (1 - rate)  |

Remaining differences are reported: `ImportReport.modelling` lists where the file's network computes
a different function than the model, `ImportReport.preprocessing` where the means
subtracted from the pixels differ.
"""

import os

import keras

from alexnet_tf.models import keras_files
from alexnet_tf.models.weights import openers, sources
from alexnet_tf.models.weights.assignment import ImportReport, assign
from alexnet_tf.models.weights.openers import open_source
from alexnet_tf.models.weights.sources import Source

__all__ = [
    "ImportReport",
    "Source",
    "assign",
    "load",
    "load_caffe",
    "load_checkpoint",
    "load_matconvnet",
    "load_numpy",
    "load_onnx",
    "load_safetensors",
    "load_torch",
    "open_source",
]


def load(model: keras.Model, path: str | os.PathLike) -> ImportReport | None:
    """Sets the model's weights from a file of any supported format, recognised by its suffix.

    Args:
      model: a network of this package with its top.
      path: `.onnx`, `.pth`, `.pt`, `.pth.tar`, `.safetensors`, `.caffemodel`, `.mat`, `.npy`, a
        checkpoint of TensorFlow 1; or `.keras` or `.weights.h5` of the same network.

    Returns:
      The report of the import; None for Keras files, which need no conversion.

    Raises:
      FileNotFoundError: no such file. ValueError: another suffix, or a file that does not fit.
    """
    path = existing(path)
    if not path.endswith((".keras", ".weights.h5")):
        return assign(model, open_source(path))
    try:
        keras_files.require_harmless(path)
        # Keras also reads the weights of a full model file here, and checks their shapes.
        model.load_weights(path)
    except Exception as error:  # Keras and h5py raise any exception for a damaged file
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise ValueError(
            f"{path} does not fit the model {model.name!r} ({reason}): expected weights that "
            "the same network saved."
        ) from error
    return None


def load_onnx(model: keras.Model, path: str | os.PathLike) -> ImportReport:
    """Sets the weights from an ONNX graph, such as the model zoo's `bvlcalexnet`.

    The graph's convolutions and dense layers (Gemm) are used in order, whatever the names of their
    tensors. A graph with response normalisation is assumed to read BGR pixels of 0..255, as Caffe's
    networks do; one without, such as `torch.onnx.export` writes for torchvision's AlexNet, RGB
    pixels scaled as in torchvision.

    Raises:
      FileNotFoundError: no such file. ValueError: see `load`; also when `onnx` is not installed.
    """
    return assign(model, sources.open_onnx(existing(path)))


def load_torch(model: keras.Model, path: str | os.PathLike) -> ImportReport:
    """Sets the weights from a PyTorch file of torchvision's AlexNet.

    The file is a state dictionary, alone or within a checkpoint, of any PyTorch version since 2017.
    PyTorch is not needed. Only tensors, dictionaries, lists, numbers and text are unpickled: an
    untrusted file cannot run code.

    Raises:
      FileNotFoundError: no such file. ValueError: see `load`.
    """
    return assign(model, sources.open_torch(existing(path)))


def load_caffe(model: keras.Model, path: str | os.PathLike) -> ImportReport:
    """Sets the weights from a `.caffemodel`, such as BVLC's AlexNet or CaffeNet.

    Its convolutions and dense layers are used in order, whatever their names: a fine-tuned network
    has another name for the last one. Expects BGR pixels of 0..255, minus a mean.

    Raises:
      FileNotFoundError: no such file. ValueError: see `load`.
    """
    return assign(model, openers.open_caffe(existing(path)))


def load_matconvnet(model: keras.Model, path: str | os.PathLike) -> ImportReport:
    """Sets the weights from MatConvNet's `.mat` file, such as imagenet-caffe-alex.mat.

    SciPy reads it in a separate process. Expects RGB pixels of 0..255, minus a mean.

    Raises:
      FileNotFoundError: no such file. ValueError: see `load`.
    """
    return assign(model, openers.open_matconvnet(existing(path)))


def load_numpy(model: keras.Model, path: str | os.PathLike) -> ImportReport:
    """Sets the weights from a pickled dictionary of arrays, such as bvlc_alexnet.npy.

    The pickle is read by the same restricted reader as PyTorch files: an untrusted file cannot run
    code. The network is assumed to be Caffe's: BGR pixels of 0..255, minus a mean.

    Raises:
      FileNotFoundError: no such file. ValueError: see `load`.
    """
    return assign(model, openers.open_numpy(existing(path)))


def load_checkpoint(model: keras.Model, path: str | os.PathLike) -> ImportReport:
    """Sets the weights from a TensorFlow 1 checkpoint.

    Args:
      model: alexnet_slim for a checkpoint of TF-Slim's alexnet_v2, alexnet_caffe for one with
        grouped kernels.
      path: the checkpoint's prefix, such as model.ckpt-1000.

    Raises:
      FileNotFoundError: no such file. ValueError: see `load`.
    """
    return assign(model, openers.open_checkpoint(existing(path)))


def load_safetensors(model: keras.Model, path: str | os.PathLike) -> ImportReport:
    """Sets the weights from a `.safetensors` file with the tensor names of torchvision's AlexNet.

    Raises:
      FileNotFoundError: no such file. ValueError: see `load`.
    """
    return assign(model, sources.open_safetensors(existing(path)))


def existing(path: str | os.PathLike) -> str:
    """The path as text.

    Raises:
      FileNotFoundError: there is no file or checkpoint of that name.
    """
    path = os.fspath(path)
    if not os.path.isfile(path) and not os.path.isfile(f"{path}.index"):
        raise FileNotFoundError(f"There is no file of weights {path}.")
    return path
