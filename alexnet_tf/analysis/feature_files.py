"""Files of activations: `.npz`, `.h5` or `.nc` (netCDF), `.tfrecord`.

    .npz        an array per layer, "file_names" and, where they are known, "labels"
    .h5, .nc    the same as variables with named axes: ("image", "unit") for vectors,
                ("image", "row", "column", "channel") for maps, with the layer's name behind all but
                the first; `xarray.open_dataset(path, engine="h5netcdf")` reads it
    .tfrecord   a `tf.train.Example` per image: "file_name", "label" where it is known, and per
                layer LAYER (floats, row-major) and LAYER/shape (int64)

All are written in parts from arrays on disk.
"""

import json
import os
import zipfile
from collections.abc import Mapping
from typing import Any

import h5py
import numpy as np
import tensorflow as tf

from alexnet_tf import files
from alexnet_tf.analysis.activations import Activations

ENDINGS = (".npz", ".h5", ".nc", ".tfrecord")
_ROWS = 64
_AXES = {1: ("unit",), 3: ("row", "column", "channel")}
# NetCDF's mark of a dimension without coordinate values.
_PURE_DIMENSION = "This is a netCDF dimension but not a netCDF variable. {:>9d}"


def require_ending(output: str) -> str:
    """The ending of a file of activations.

    Raises:
      ValueError: another ending.
    """
    ending = os.path.splitext(output)[1]
    if ending not in ENDINGS:
        raise ValueError(f"{output} should end in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}.")
    return ending


def save(activations: Activations, output: str, about: Mapping[str, Any]) -> None:
    """Writes activations by the name's ending.

    Args:
      activations: what to write.
      output: the file, written aside and renamed.
      about: text and numbers about them: "about" of .npz (JSON), attributes of .h5 and .nc.

    Raises:
      ValueError: another ending. OSError: it cannot be written.
    """
    ending = require_ending(output)
    write = {".npz": _write_npz, ".tfrecord": _write_records}.get(ending, _write_netcdf)
    with files.replacing(output) as aside:
        write(aside, activations, about)


def _write_npz(path: str, activations: Activations, about: Mapping[str, Any]) -> None:
    small = {"file_names": np.array(activations.names), "about": np.array(json.dumps(dict(about)))}
    if activations.labels is not None:
        small["labels"] = activations.labels
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, array in {**small, **activations.arrays}.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=False)


def _write_netcdf(path: str, activations: Activations, about: Mapping[str, Any]) -> None:
    count = len(activations.names)
    with h5py.File(path, "w", track_order=True) as file:
        file.attrs["_NCProperties"] = f"version=2,h5py={h5py.__version__}"
        for key, value in about.items():
            file.attrs[key] = value
        names = [name.encode("utf-8", "surrogateescape") for name in activations.names]
        image = file.create_dataset("image", data=names, dtype=h5py.string_dtype())
        scales = {"image": image}
        image.make_scale("image")

        def variable(name, array, axes):
            for axis, length in zip(axes, array.shape, strict=True):
                if axis not in scales:
                    scales[axis] = file.create_dataset(axis, (length,), ">f4")
                    scales[axis].make_scale(_PURE_DIMENSION.format(length))
            data = file.create_dataset(name, array.shape, array.dtype)
            for first in range(0, count, _ROWS):
                data[first : first + _ROWS] = array[first : first + _ROWS]
            for axis, scale in enumerate(axes):
                data.dims[axis].attach_scale(scales[scale])
            return data

        if activations.labels is not None:
            variable("labels", activations.labels, ("image",))
        for name, array in activations.arrays.items():
            axes = _AXES.get(array.ndim - 1) or [f"axis{n}" for n in range(1, array.ndim)]
            variable(name, array, ("image", *(f"{axis}_{name}" for axis in axes)))
        for number, scale in enumerate(scales.values()):
            scale.attrs["_Netcdf4Dimid"] = np.int32(number)


def _write_records(path: str, activations: Activations, about: Mapping[str, Any]) -> None:
    with tf.io.TFRecordWriter(path) as writer:
        for number, name in enumerate(activations.names):
            example = tf.train.Example()
            feature = example.features.feature
            feature["file_name"].bytes_list.value.append(name.encode("utf-8", "surrogateescape"))
            if activations.labels is not None:
                feature["label"].int64_list.value.append(int(activations.labels[number]))
            for layer, array in activations.arrays.items():
                feature[layer].float_list.value.extend(array[number].ravel())
                feature[f"{layer}/shape"].int64_list.value.extend(array.shape[1:])
            writer.write(example.SerializeToString(deterministic=True))
