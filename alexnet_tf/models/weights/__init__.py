"""Loads other programs' weights: ONNX, PyTorch, Caffe, MatConvNet, TensorFlow 1, safetensors.

    model = alexnet_tf.build_model("alexnet_owt")
    report = weights.load_torch(model, "alexnet-owt-7be5be79.pth")

Files are read without PyTorch, and names and shapes are compared before any value is read. Every
tensor of the file is used once and every weight of the model is set once, or nothing is set.
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
    """Sets the model's weights from a file of any kind that is known by its suffix.

    Args:
      model: a network of this package with its top.
      path: `.onnx`, `.pth`, `.pt`, `.pth.tar`, `.safetensors`, `.caffemodel`, `.mat`, `.npy`, a
        checkpoint of TensorFlow 1; or `.keras` or `.weights.h5` of the same network.

    Returns:
      The report of the import; None for Keras' own files, which need no conversion.

    Raises:
      FileNotFoundError: no such file. ValueError: another suffix, or a file that does not fit.
    """
    path = existing(path)
    if not path.endswith((".keras", ".weights.h5")):
        return assign(model, open_source(path))
    try:
        keras_files.require_harmless(path)
        # Keras reads the weights of a whole model file here too, and checks their shapes.
        model.load_weights(path)
    except Exception as error:  # of Keras and h5py, for a damaged file: any
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise ValueError(
            f"{path} does not fit the model {model.name!r} ({reason}): expected weights that "
            "the same network saved."
        ) from error
    return None


def load_onnx(model: keras.Model, path: str | os.PathLike) -> ImportReport:
    """Sets the weights from an ONNX graph, such as the model zoo's `bvlcalexnet`.

    The graph's convolutions and dense layers (Gemm) are taken in order, whatever their tensors are
    called. A graph with response normalisation is taken to read BGR pixels of 0..255, as the
    networks of Caffe do; one without, as `torch.onnx.export` writes for torchvision's, RGB pixels
    that were scaled as torchvision does.

    Raises:
      FileNotFoundError: no such file. ValueError: see `load`; also when `onnx` is not installed.
    """
    return assign(model, sources.open_onnx(existing(path)))


def load_torch(model: keras.Model, path: str | os.PathLike) -> ImportReport:
    """Sets the weights from a file that PyTorch saved of torchvision's AlexNet.

    That is a state dictionary, alone or beside other things in a checkpoint, of any of PyTorch's
    versions since 2017. PyTorch is not needed. Only tensors, dictionaries, lists, numbers and text
    are unpickled: a file from a stranger cannot run code.

    Raises:
      FileNotFoundError: no such file. ValueError: see `load`.
    """
    return assign(model, sources.open_torch(existing(path)))


def load_caffe(model: keras.Model, path: str | os.PathLike) -> ImportReport:
    """Sets the weights from a `.caffemodel`, such as BVLC's AlexNet or CaffeNet.

    Its convolutions and dense layers are taken in order, whatever they are called; a network that
    was fine-tuned has another name for the last one. BGR pixels of 0..255, minus a mean.

    Raises:
      FileNotFoundError: no such file. ValueError: see `load`.
    """
    return assign(model, openers.open_caffe(existing(path)))


def load_matconvnet(model: keras.Model, path: str | os.PathLike) -> ImportReport:
    """Sets the weights from a `.mat` file of MatConvNet, such as imagenet-caffe-alex.mat.

    SciPy reads it in a process of its own. RGB pixels of 0..255, minus a mean.

    Raises:
      FileNotFoundError: no such file. ValueError: see `load`.
    """
    return assign(model, openers.open_matconvnet(existing(path)))


def load_numpy(model: keras.Model, path: str | os.PathLike) -> ImportReport:
    """Sets the weights from a pickled dictionary of arrays, such as bvlc_alexnet.npy.

    The pickle is read as those of PyTorch are: a file from a stranger cannot run code. The file is
    taken to be of Caffe's network: BGR pixels of 0..255, minus a mean.

    Raises:
      FileNotFoundError: no such file. ValueError: see `load`.
    """
    return assign(model, openers.open_numpy(existing(path)))


def load_checkpoint(model: keras.Model, path: str | os.PathLike) -> ImportReport:
    """Sets the weights from a checkpoint of TensorFlow 1.

    Args:
      model: alexnet_slim for one of TF-Slim's alexnet_v2, alexnet_caffe for one with kernels in
        groups.
      path: as TensorFlow names it, model.ckpt-1000.

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
      FileNotFoundError: there is no file there, nor a checkpoint of that name.
    """
    path = os.fspath(path)
    if not os.path.isfile(path) and not os.path.isfile(f"{path}.index"):
        raise FileNotFoundError(f"There is no file of weights {path}.")
    return path
