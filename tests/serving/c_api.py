"""A served model through TensorFlow's C API: the loader of TF Serving, and no Python TensorFlow.

Run as a program: `python c_api.py MODEL_DIR JOB.json`. The job names signatures' input and output
tensors and the images; the answers are printed as JSON. Structs and calls are those of
tensorflow/c/c_api.h and tf_tstring.h in the wheel's include/ directory.
"""

import concurrent.futures
import ctypes
import importlib.util
import json
import pathlib
import sys

import numpy as np

TF_FLOAT, TF_UINT8, TF_STRING = 1, 4, 7
TF_OK, TF_INVALID_ARGUMENT = 0, 3
TSTRING_SIZE = 24


class Output(ctypes.Structure):
    _fields_ = [("oper", ctypes.c_void_p), ("index", ctypes.c_int)]


class Buffer(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("length", ctypes.c_size_t),
        ("deallocator", ctypes.c_void_p),
    ]


def load_library():
    # Found without importing the package.
    root = pathlib.Path(importlib.util.find_spec("tensorflow").origin).parent
    ctypes.CDLL(str(root / "libtensorflow_framework.so.2"), ctypes.RTLD_GLOBAL)
    library = ctypes.CDLL(str(root / "libtensorflow_cc.so.2"), ctypes.RTLD_GLOBAL)
    pointer, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    text = ctypes.c_char_p
    for name, result, arguments in (
        ("TF_NewStatus", pointer, []),
        ("TF_GetCode", number, [pointer]),
        ("TF_Message", text, [pointer]),
        ("TF_NewGraph", pointer, []),
        ("TF_NewSessionOptions", pointer, []),
        (
            "TF_LoadSessionFromSavedModel",
            pointer,
            [pointer, pointer, text, ctypes.POINTER(text), number, pointer, pointer, pointer],
        ),
        ("TF_GraphOperationByName", pointer, [pointer, text]),
        ("TF_AllocateTensor", pointer, [number, ctypes.POINTER(ctypes.c_int64), number, size]),
        ("TF_TensorData", pointer, [pointer]),
        ("TF_NumDims", number, [pointer]),
        ("TF_Dim", ctypes.c_int64, [pointer, number]),
        ("TF_TensorType", number, [pointer]),
        ("TF_DeleteTensor", None, [pointer]),
        ("TF_StringInit", None, [pointer]),
        ("TF_StringCopy", None, [pointer, text, size]),
        ("TF_StringGetDataPointer", pointer, [pointer]),
        ("TF_StringGetSize", size, [pointer]),
        ("TF_StringDealloc", None, [pointer]),
        (
            "TF_SessionRun",
            None,
            [
                *[pointer] * 2,
                *[ctypes.POINTER(Output), ctypes.POINTER(pointer), number] * 2,
                *[pointer, number, pointer, pointer],
            ],
        ),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


class Session:
    """A loaded SavedModel."""

    def __init__(self, path):
        self.tf = load_library()
        status = self.tf.TF_NewStatus()
        self.graph = self.tf.TF_NewGraph()
        tags = (ctypes.c_char_p * 1)(b"serve")
        self.session = self.tf.TF_LoadSessionFromSavedModel(
            self.tf.TF_NewSessionOptions(),
            None,
            str(path).encode(),
            tags,
            1,
            self.graph,
            None,
            status,
        )
        self._check(status)

    def _check(self, status):
        code = self.tf.TF_GetCode(status)
        if code != TF_OK:
            raise StatusError(code, self.tf.TF_Message(status).decode(errors="replace"))

    def _output(self, tensor_name):
        name, index = tensor_name.rsplit(":", 1)
        operation = self.tf.TF_GraphOperationByName(self.graph, name.encode())
        if not operation:
            raise KeyError(tensor_name)
        return Output(operation, int(index))

    def _strings(self, values):
        dims = (ctypes.c_int64 * 1)(len(values))
        tensor = self.tf.TF_AllocateTensor(TF_STRING, dims, 1, TSTRING_SIZE * len(values))
        data = self.tf.TF_TensorData(tensor)
        for number, value in enumerate(values):
            self.tf.TF_StringInit(data + TSTRING_SIZE * number)
            self.tf.TF_StringCopy(data + TSTRING_SIZE * number, value, len(value))
        return tensor

    def _numbers(self, values):
        dims = (ctypes.c_int64 * values.ndim)(*values.shape)
        kind = {"uint8": TF_UINT8, "float32": TF_FLOAT}[values.dtype.name]
        tensor = self.tf.TF_AllocateTensor(kind, dims, values.ndim, values.nbytes)
        ctypes.memmove(self.tf.TF_TensorData(tensor), values.ctypes.data, values.nbytes)
        return tensor

    def _array(self, tensor):
        shape = [self.tf.TF_Dim(tensor, n) for n in range(self.tf.TF_NumDims(tensor))]
        data, count = self.tf.TF_TensorData(tensor), int(np.prod(shape))
        if self.tf.TF_TensorType(tensor) == TF_STRING:
            items = []
            for n in range(count):
                place = data + TSTRING_SIZE * n
                start, size = (
                    self.tf.TF_StringGetDataPointer(place),
                    self.tf.TF_StringGetSize(place),
                )
                items.append(ctypes.string_at(start, size).decode())
                self.tf.TF_StringDealloc(place)
            return np.array(items).reshape(shape)
        assert self.tf.TF_TensorType(tensor) == TF_FLOAT
        raw = ctypes.string_at(data, 4 * count)
        return np.frombuffer(raw, np.float32).reshape(shape)

    def run(self, input_name, value, output_names):
        """One request; raises StatusError with TensorFlow's code."""
        status = self.tf.TF_NewStatus()
        tensor = self._strings(value) if isinstance(value, list) else self._numbers(value)
        inputs = (Output * 1)(self._output(input_name))
        outputs = (Output * len(output_names))(*map(self._output, output_names))
        results = (ctypes.c_void_p * len(output_names))()
        self.tf.TF_SessionRun(
            self.session,
            None,
            inputs,
            (ctypes.c_void_p * 1)(tensor),
            1,
            outputs,
            results,
            len(output_names),
            None,
            0,
            None,
            status,
        )
        self.tf.TF_DeleteTensor(tensor)
        self._check(status)
        arrays = [self._array(result) for result in results]
        for result in results:
            self.tf.TF_DeleteTensor(result)
        return arrays


class StatusError(Exception):
    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


def main(model, job_file):
    job = json.loads(pathlib.Path(job_file).read_text())
    session = Session(model)

    def answer(request):
        if "npy" in request:
            value = np.load(request["npy"])
        else:
            value = [pathlib.Path(file).read_bytes() for file in request["files"]]
        try:
            arrays = session.run(request["input"], value, list(request["outputs"].values()))
        except StatusError as error:
            return {"code": error.code, "message": str(error)}
        return dict(zip(request["outputs"], (array.tolist() for array in arrays), strict=True))

    with concurrent.futures.ThreadPoolExecutor(job["threads"]) as pool:
        answers = list(pool.map(answer, job["requests"]))
    assert not any(name.split(".")[0] in ("tensorflow", "keras") for name in sys.modules)
    print(json.dumps(answers))


if __name__ == "__main__":
    main(*sys.argv[1:])
