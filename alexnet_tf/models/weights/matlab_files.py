"""Reads MatConvNet's `.mat` files, such as imagenet-caffe-alex.mat, in a separate process.

SciPy's reader can crash on a damaged file (seen with SciPy 1.17), and a compressed file can request
any amount of memory; the separate process is limited to `_MEMORY`.

A file has `layers`, a cell array of structs: type "conv" with filters (kh, kw, I / groups, O) and
biases, as `weights` or, until 2014, as `filters` and `biases`; "relu"; "normalize" with param
[size, k, alpha, beta], alpha on the plain sum; "pool"; "softmax". Dense layers are convolutions
over the whole map. The first layer takes RGB. `normalization` (or `meta.normalization`) has the
mean image, `classes` (or `meta.classes`) the names.

Source: vlfeat/matconvnet, utils/import-caffe.py, matlab/simplenn/vl_simplenn_tidy.m.
"""

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from typing import Any

import numpy as np

_SECONDS = 300
_MEMORY = 6 * 2**30  # bytes of address space, ten times the original file's need


@dataclasses.dataclass(frozen=True)
class MatNet:
    """A MatConvNet network.

    Attributes:
      layers: {"type", and of "conv" "name", "pad", "stride"; of "normalize" "param"; of "pool"
        "pool", "stride", "pad", "method"}, in order.
      arrays: (filters, biases) of the convolutions, in order.
      average: RGB mean, (h, w, 3) or (3,), or None.
      classes: names, or none.
    """

    layers: tuple[dict[str, Any], ...]
    arrays: tuple[tuple[np.ndarray, np.ndarray], ...]
    average: np.ndarray | None
    classes: tuple[str, ...]


def read(path: str | os.PathLike) -> MatNet:
    """Reads a MatConvNet network.

    Raises:
      ValueError: the file is damaged, or not a network.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with tempfile.TemporaryDirectory() as folder:
        output = os.path.join(folder, "network.npz")
        command = [sys.executable, "-P", __file__, os.fspath(path), output]
        try:
            done = subprocess.run(command, capture_output=True, timeout=_SECONDS, env=environment)
        except subprocess.TimeoutExpired:
            raise ValueError(f"{path} cannot be read: reading it does not end.") from None
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            raise ValueError(
                f"{path} cannot be read as a network of MatConvNet "
                f"({(said or ['its reader crashed'])[-1]:.200}): it is truncated, damaged or of "
                "another kind; expected a file such as imagenet-caffe-alex.mat."
            )
        with np.load(output, allow_pickle=False) as found:
            about = json.loads(str(found["about"]))
            count = sum(name.startswith("filters") for name in found.files)
            return MatNet(
                layers=tuple(about["layers"]),
                arrays=tuple((found[f"filters{n}"], found[f"biases{n}"]) for n in range(count)),
                average=found["average"] if "average" in found.files else None,
                classes=tuple(about["classes"]),
            )


def _main(path: str, output: str) -> None:
    """Runs in the separate process."""
    import resource

    import scipy.io

    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    content = scipy.io.loadmat(path, struct_as_record=False)
    meta = _field(content["meta"], None) if "meta" in content else None
    layers: list[dict[str, Any]] = []
    arrays: dict[str, np.ndarray] = {}
    for cell in np.atleast_1d(content["layers"]).ravel():
        layer = cell.ravel()[0] if isinstance(cell, np.ndarray) else cell
        about: dict[str, Any] = {"type": str(_field(layer, "type"))}
        for name in ("name", "method"):
            if hasattr(layer, name):
                about[name] = str(_field(layer, name))
        for name in ("pad", "stride", "pool", "param"):
            if hasattr(layer, name):
                about[name] = [float(n) for n in np.ravel(getattr(layer, name))]
        if about["type"] == "conv":
            if hasattr(layer, "weights"):
                pair = [np.asarray(part) for part in np.ravel(layer.weights)[:2]]
            else:
                pair = [np.asarray(layer.filters), np.asarray(layer.biases)]
            filters, biases = pair
            number = len(arrays) // 2
            # MATLAB drops trailing axes of length one.
            arrays[f"filters{number}"] = filters.reshape(filters.shape + (1,) * (4 - filters.ndim))
            arrays[f"biases{number}"] = biases.ravel()
        layers.append(about)
    if meta is not None:
        normalization, classes = _field(meta, "normalization"), _field(meta, "classes")
    else:
        normalization = _field(content.get("normalization"), None)
        classes = _field(content.get("classes"), None)
    with contextlib.suppress(AttributeError, TypeError, ValueError):
        average = np.squeeze(np.asarray(normalization.averageImage, np.float64))
        if average.shape[-1:] == (3,) and average.ndim in (1, 3):
            arrays["average"] = average
    names: list[str] = []
    with contextlib.suppress(AttributeError, TypeError, ValueError):
        names = [str(np.ravel(name)[0]) for name in np.ravel(classes.name)]
    for name, array in arrays.items():
        if array.dtype.kind != "f":
            raise ValueError(f"{name} holds {array.dtype}: expected floating-point numbers")
    about_all = json.dumps({"layers": layers, "classes": names})
    np.savez(output, about=np.array(about_all), **arrays)  # type: ignore[arg-type]


def _field(value, name):
    """Unwraps a struct, text or field from MATLAB's arrays of one element."""
    if name is not None:
        value = getattr(value, name, None)
    while isinstance(value, np.ndarray) and value.size:
        value = value.ravel()[0]
    return value


if __name__ == "__main__":
    try:
        _main(*sys.argv[1:])
    except Exception as error:  # a damaged file can raise anything; the parent process reports it
        sys.exit(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
