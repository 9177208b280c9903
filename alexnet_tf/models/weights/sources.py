"""Maps tensors of other programs to layers.

Independent of Keras. Reads names and shapes, but no values.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from alexnet_tf.models import layer_names
from alexnet_tf.models.weights import graphs, onnx_files, safetensors_files, torch_files
from alexnet_tf.models.weights.stored import FLOATS, StoredTensor

HEAD = "fc8"
_ROLES = {"weight": "kernel", "bias": "bias"}
# Prefixes that DataParallel and torch.compile add to names of the network or of a part of it.
_WRAPPERS = ("module", "_orig_mod")


@dataclasses.dataclass(frozen=True)
class SourceTensor:
    """A tensor of a file. name: its name in the file. layer, role: its place in the network."""

    name: str
    layer: str
    role: str  # "kernel" or "bias"
    stored: StoredTensor


@dataclasses.dataclass(frozen=True)
class Source:
    """An AlexNet in a file.

    Attributes:
      path: the file's path.
      tensors: kernels (O, I / groups, kh, kw) or (O, I), and biases (O,).
      convention: the network's preprocessing, a key of `assignment.CONVENTIONS`.
      steps: its operations, see `graphs`.
      mean: the RGB mean given in the file, (h, w, 3) or (3,), or None.
      class_names: names in output order, if the file has them.
      notes: assumptions that the file does not confirm, in words.
    """

    path: str
    tensors: tuple[SourceTensor, ...]
    convention: str
    steps: tuple[str, ...]
    mean: np.ndarray | None = None
    class_names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()

    @property
    def classes(self) -> int:
        """The number of outputs of the last layer.

        Raises:
          ValueError: the file is too short for a last layer of that many classes.
        """
        for tensor in self.tensors:
            if (tensor.layer, tensor.role) == (HEAD, "kernel") and len(tensor.stored.shape) == 2:
                require_floats(tensor, self.path)
                if tensor.stored.span < tensor.stored.size:
                    raise ValueError(
                        f"{tensor.name} in {self.path} has the shape {tensor.stored.shape}, but "
                        f"only {tensor.stored.span} numbers: expected a tensor that holds its "
                        "values."
                    )
                return tensor.stored.shape[0]
        raise ValueError(f"{self.path} has no last layer, {HEAD}: expected an AlexNet.")


def open_torch(path: str) -> Source:
    """See `openers.open_source`."""
    return _torchvision(torch_files.state_dict(path), path)


def open_safetensors(path: str) -> Source:
    """See `openers.open_source`."""
    return _torchvision(safetensors_files.read(path), path)


def open_onnx(path: str) -> Source:
    """See `openers.open_source`. With response normalisation it is Caffe's, else torchvision's."""
    graph, layers = onnx_files.read(path)
    try:
        steps = graphs.graph_steps(graph, path)
    # Attributes of another type or length than their operation requires.
    except (TypeError, IndexError, ZeroDivisionError, OverflowError) as error:
        raise ValueError(f"The graph in {path} is damaged ({error}).") from error
    tensors = [
        SourceTensor(name, layer, role, stored)
        for layer, parts in layers
        for role, (name, stored) in parts.items()
    ]
    convention = "caffe" if any(graphs.is_norm(step) for step in steps) else "torchvision"
    return Source(path, tuple(tensors), convention, tuple(steps))


def _torchvision(content: Mapping[Any, Any], path: str) -> Source:
    places = {
        f"{module}.{suffix}": (layer, role)
        for module, layer in layer_names.TORCHVISION_WEIGHTS.items()
        for suffix, role in _ROLES.items()
    }
    names = _unwrapped(content, path)
    for name, plain in names.items():
        value = content[name]
        if isinstance(value, torch_files.UnreadableTensor):
            raise ValueError(
                f"{name} in {path} is a {value.kind} tensor, which holds no plain array of numbers:"
                " save the weights as dense floating-point tensors."
            )
        if not isinstance(value, StoredTensor):
            raise ValueError(
                f"{name} in {path} is a {type(value).__name__}: expected a tensor, in a state "
                "dictionary of tensors only."
            )
        if plain not in places:
            raise ValueError(
                f"{path} has an extra tensor {name} of shape {value.shape}: expected only the "
                f"{len(places)} tensors of torchvision's AlexNet, features.0.weight to "
                "classifier.6.bias."
            )
    lacking = [name for name in places if name not in names.values()]
    if lacking:
        raise ValueError(
            f"{path} lacks the tensor {lacking[0]}: expected the {len(places)} tensors of "
            "torchvision's AlexNet."
        )
    tensors = tuple(SourceTensor(n, *places[plain], content[n]) for n, plain in names.items())
    dense = []
    for tensor in sorted(tensors, key=lambda tensor: tensor.layer):
        if tensor.layer.startswith("fc") and tensor.role == "kernel":
            if len(tensor.stored.shape) != 2:
                raise ValueError(
                    f"{tensor.name} in {path} has shape {tensor.stored.shape}: expected (outputs, "
                    "inputs)."
                )
            dense.append(tensor.stored.shape[::-1])
    return Source(path, tensors, "torchvision", tuple(graphs.torch_steps(dense)))


def _unwrapped(content: Mapping[Any, Any], path) -> dict[str, str]:
    """Name in the file -> name in the network, without added prefixes."""
    strange = [name for name in content if not isinstance(name, str)]
    if strange:
        raise ValueError(
            f"{path} has the key {strange[0]!r:.40}, a {type(strange[0]).__name__}: expected the "
            "names of tensors, in a state dictionary."
        )
    parts = {n: [part for part in n.split(".") if part not in _WRAPPERS] for n in content}
    known = {name.split(".")[0] for name in layer_names.TORCHVISION_WEIGHTS}
    # In a nested network ("model.features.0.weight") all names have the same prefix.
    while len(first := {p[0] for p in parts.values() if p}) == 1 and not first & known:
        parts = {name: p[1:] for name, p in parts.items()}
    names = {name: ".".join(p) for name, p in parts.items()}
    for name, plain in names.items():
        twice = next((n for n, p in names.items() if p == plain and n != name), None)
        if twice is not None:
            raise ValueError(
                f"{path} has two tensors for {plain}, {name} and {twice}: expected one network."
            )
    return names


def require_floats(tensor: SourceTensor, path) -> None:
    """Refuses types that are not weights: integers, complex numbers, 8-bit floats.

    Raises:
      ValueError: the tensor has such a type.
    """
    if tensor.stored.dtype not in FLOATS:
        raise ValueError(
            f"{tensor.name} in {path} holds {tensor.stored.dtype}: expected floating-point numbers "
            "of 16, 32 or 64 bits."
        )
