"""Writes a network's weights as safetensors files in PyTorch's layout.

The tensors of torchvision's AlexNet (`alexnet_owt`) have torchvision's names, so
`torchvision.models.alexnet().load_state_dict(safetensors.torch.load_file(path))` loads them, and
`import_weights` reads them back. Other networks use layer names: conv1.weight, fc8.bias. Kernels
are (O, I / groups, kh, kw) and (O, I), the first dense one over c, h, w. If a network scales
dropout at test time, the scaling is folded into the next kernel.
"""

import json

import keras
import numpy as np

from alexnet_tf import files
from alexnet_tf.models import card, layer_names, saved_run, spec
from alexnet_tf.models.layers import Dropout, PixelNormalization
from alexnet_tf.models.weights import safetensors_files

_ENDING = ".safetensors"


def export_safetensors(network: saved_run.TrainedModel, class_names, output: str) -> list[str]:
    """Writes the weights.

    Args:
      network: the classifier.
      class_names: one per output; in the metadata under "class_names", as JSON.
      output: path ending in .safetensors; written to a temporary name and renamed.

    Returns:
      The tensors' names.

    Raises:
      ValueError: another file name, or a network with layers that PyTorch's layout lacks.
    """
    if not output.endswith(_ENDING):
        raise ValueError(f"{output} should end in {_ENDING}.")
    tensors = named_tensors(network)
    metadata = {
        "format": "pt",
        "class_names": json.dumps(list(class_names)),
        "image_size": str(network.image_size),
        "preprocessing": json.dumps(_preprocessing(network.model)),
        "knowledge": json.dumps(network.known),
        "card": card.of_run(network),
    }
    with files.replacing(output) as aside:
        safetensors_files.write(aside, tensors, metadata)
    return list(tensors)


def named_tensors(network: saved_run.TrainedModel) -> dict[str, np.ndarray]:
    """Name -> float32 tensor in PyTorch's layout.

    Raises:
      ValueError: see `export_safetensors`.
    """
    model = network.model
    found: dict[str, np.ndarray] = {}
    scale, flat = 1.0, None
    for layer in model.layers:
        if isinstance(layer, Dropout) and layer.scaling == "paper":
            scale *= 1.0 - layer.rate
        elif isinstance(layer, keras.layers.Flatten):
            flat = layer.input.shape[1:]
        if not layer.weights:
            continue
        if not isinstance(layer, keras.layers.Conv2D | keras.layers.Dense) or layer.bias is None:
            raise ValueError(
                f"The layer {layer.name} of {network.path} is a {type(layer).__name__}, which "
                "PyTorch's layout has not: export saved_model or onnx, or keep the .keras file."
            )
        kernel = np.asarray(layer.kernel, np.float32) * np.float32(scale)
        scale = 1.0
        if kernel.ndim == 4:
            kernel = kernel.transpose(3, 2, 0, 1)
        else:
            if flat is not None and len(flat) == 3:
                # Rows run over h, w, c in Keras, over c, h, w in PyTorch.
                kernel = kernel.reshape(*flat, -1).transpose(2, 0, 1, 3).reshape(len(kernel), -1)
            kernel, flat = kernel.T, None
        found[f"{layer.name}.weight"] = np.ascontiguousarray(kernel)
        found[f"{layer.name}.bias"] = np.asarray(layer.bias, np.float32)
    if not found:
        raise ValueError(f"{network.path} has no weights.")
    return _torchvisions(model, found)


def _torchvisions(model, found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Uses torchvision's names if the network and its preprocessing are torchvision's."""
    first = _first(model)
    layers = {layer: module for module, layer in layer_names.TORCHVISION_WEIGHTS.items()}
    shapes = {name.split(".")[0] for name in found}
    own = first is not None and np.allclose(first.scale, spec.TORCHVISION.scale)
    norms = any("norm" in layer.name for layer in model.layers if layer is not first)
    if not own or norms or shapes != set(layers):
        return found
    return {
        f"{layers[name.split('.')[0]]}.{name.split('.')[1]}": value for name, value in found.items()
    }


def _first(model):
    return next((one for one in model.layers if isinstance(one, PixelNormalization)), None)


def _preprocessing(model) -> dict | None:
    """The first layer's operation on RGB pixels: (p - mean) * scale, then the channel order."""
    first = _first(model)
    if first is None:
        return None
    return {
        "mean": np.asarray(first.mean, float).tolist() if first.mean.ndim == 1 else "an image",
        "scale": np.ravel(first.scale).astype(float).tolist(),
        "channel_order": first.channel_order,
    }
