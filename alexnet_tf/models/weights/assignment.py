"""Assigns named arrays to a Keras model, after converting and checking all of them."""

import dataclasses
import zipfile

import keras
import numpy as np

from alexnet_tf.models import spec
from alexnet_tf.models.layers import Dropout, GroupedDense, PixelNormalization
from alexnet_tf.models.weights import sources
from alexnet_tf.models.weights.graphs import differences, model_steps
from alexnet_tf.models.weights.sources import Source, SourceTensor

# How the networks of a source preprocess RGB pixels in 0..255.
CONVENTIONS = {
    "caffe": spec.CAFFE,
    # The same network, with its first kernels converted to RGB.
    "matconvnet": dataclasses.replace(spec.CAFFE, channel_order="rgb"),
    "slim": spec.SLIM,
    "torchvision": spec.TORCHVISION,
}


@dataclasses.dataclass(frozen=True)
class ImportReport:
    """Report of an import.

    convention: a key of `CONVENTIONS`, the assumed preprocessing of the file's network.
    tensors: (name in the file, layer of the model, shape in the file) of every tensor.
    conversions: changes to values beyond reordering, in words.
    modelling: differences between the functions that the source's network and the model compute,
    in words; empty if they are the same.
    preprocessing: differences in preprocessing that the conversion did not compensate.
    """

    convention: str
    tensors: tuple[tuple[str, str, tuple[int, ...]], ...]
    conversions: tuple[str, ...]
    modelling: tuple[str, ...]
    preprocessing: tuple[str, ...]


def assign(model: keras.Model, source: Source, new_head: bool = False) -> ImportReport:
    """Sets all weights of the model, or raises and sets none.

    Args:
      model: a network of the AlexNet family with its top.
      source: the file.
      new_head: whether the last layer keeps the model's weights instead of the file's.

    Raises:
      ValueError: a tensor is missing, extra, of another shape, or not finite.
    """
    path = source.path
    layers = {layer.name: layer for layer in model.layers if layer.weights}
    kept = {sources.HEAD} if new_head else set()
    tensors = {(t.layer, t.role): t for t in source.tensors if t.layer not in kept}
    for tensor in tensors.values():
        if tensor.layer not in layers:
            raise ValueError(
                f"{tensor.name} in {path} belongs to the layer {tensor.layer}, which the model "
                f"{model.name!r} does not have: expected a file of the same network."
            )
        _require_fit(model, layers[tensor.layer], tensor, path)
    wanted = [(name, role) for name in layers if name not in kept for role in ("kernel", "bias")]
    for name, role in wanted:
        if (name, role) not in tensors:
            raise ValueError(
                f"{path} has no {role} for the layer {name} of the model {model.name!r}: expected "
                "a file of the same network."
            )
    # Memory is allocated only after all names and shapes were checked.
    places = {(n, r): _convert(model, layers[n], tensors[n, r], path) for n, r in wanted}
    conversions: list[str] = []
    first = next(iter(layers))
    places[first, "kernel"] = _fit_first_layer(
        model, places[first, "kernel"], source.convention, conversions
    )
    for name, factor in _kernels_after_paper_dropout(model):
        if name in kept:
            continue
        places[name, "kernel"] = places[name, "kernel"] * np.float32(factor)
        conversions.append(f"the kernel of {name} times {factor:g}, for a dropout scaled at test")
    for (name, role), value in places.items():
        getattr(layers[name], role).assign(value)
    steps, file_steps = model_steps(model), source.steps
    if new_head:
        steps, file_steps = steps[:-1], file_steps[:-1]
        conversions.append(
            f"{sources.HEAD} begins anew with {model.output_shape[-1]} classes; the file's "
            f"{source.classes} are left out"
        )
    return ImportReport(
        convention=source.convention,
        tensors=tuple((t.name, t.layer, t.stored.shape) for t in tensors.values()),
        conversions=tuple(conversions),
        modelling=tuple(differences(file_steps, steps)),
        preprocessing=(*_preprocessing_differences(model, source), *source.notes),
    )


def _require_fit(model, layer, tensor: SourceTensor, path) -> None:
    """Checks a tensor's shape and type against its layer."""
    target = tuple(getattr(layer, tensor.role).shape)
    if tensor.role == "bias":
        expected = target
    elif len(target) == 4:
        expected = (target[3], target[2], target[0], target[1])
    elif isinstance(layer, GroupedDense):
        raise ValueError(
            f"The layer {layer.name} of the model {model.name!r} is in columns, which no file of "
            "another program has: expected a model such as alexnet_caffe or alexnet_owt."
        )
    else:
        expected = target[::-1]
    if tensor.stored.shape != expected:
        raise ValueError(
            f"{tensor.name} in {path} has shape {tensor.stored.shape}, but the {tensor.role} of "
            f"{layer.name} in the model {model.name!r} takes {expected}: expected a file of the "
            "same network."
        )
    sources.require_floats(tensor, path)


def _convert(model, layer, tensor: SourceTensor, path) -> np.ndarray:
    """Returns a tensor's checked values in the model's layout."""
    try:
        value = tensor.stored.read()
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"The tensor {tensor.name} in {path} cannot be read ({error}): the file is damaged."
        ) from error
    with np.errstate(over="ignore"):
        value = value.astype(np.float32)
    if not np.isfinite(value).all():
        bad = int(np.count_nonzero(~np.isfinite(value)))
        raise ValueError(
            f"{tensor.name} in {path} holds {bad} numbers that are not finite (NaN or infinity): "
            "expected finite weights."
        )
    if tensor.role == "bias":
        return value
    if value.ndim == 4:
        return value.transpose(2, 3, 1, 0)
    if layer.name == "fc6":
        _, h, w, c = model.get_layer("flatten").input.shape
        # The file's inputs run over c, h, w; the model's over h, w, c.
        value = value.reshape(-1, c, h, w).transpose(0, 2, 3, 1).reshape(len(value), -1)
    return value.T


def _preprocessing_of(model) -> PixelNormalization | None:
    found = [layer for layer in model.layers if isinstance(layer, PixelNormalization)]
    return found[0] if found else None


def _fit_first_layer(model, kernel, source, conversions):
    """Adapts conv1's kernel (kh, kw, c, O) to the model's channel order and scale.

    A model without preprocessing is assumed to get the same input as the file's network.
    """
    layer, original = _preprocessing_of(model), CONVENTIONS[source]
    if layer is None:
        return kernel
    # Per RGB channel: the file's kernel times the file's scale, divided by the model's.
    rgb = kernel[:, :, ::-1] if original.channel_order == "bgr" else kernel
    scale = np.broadcast_to(np.asarray(original.scale, np.float64), 3)
    model_scale = np.broadcast_to(np.asarray(layer.scale, np.float64), 3)
    factor = (scale / model_scale)[:, None]
    if not np.allclose(factor, 1, rtol=1e-6, atol=0):
        rgb = (rgb * factor).astype(np.float32)
        conversions.append("the kernel of conv1 scaled per channel, for pixels scaled otherwise")
    if layer.channel_order != original.channel_order:
        conversions.append(
            f"the input channels of conv1 reversed, from {original.channel_order.upper()} to "
            f"{layer.channel_order.upper()}"
        )
    return rgb[:, :, ::-1] if layer.channel_order == "bgr" else rgb


def _kernels_after_paper_dropout(model):
    """(name, 1 / keep) of each layer whose input is a dropout scaled at test time."""
    pending = 1.0
    for layer in model.layers:
        if isinstance(layer, Dropout) and layer.scaling == "paper":
            pending /= 1.0 - layer.rate
        elif layer.weights and pending != 1.0:
            yield layer.name, pending
            pending = 1.0


def _preprocessing_differences(model, source: Source):
    layer, original = _preprocessing_of(model), CONVENTIONS[source.convention]
    mean = original.mean if source.mean is None else source.mean
    whole = layer is not None and layer.mean.ndim == 3
    shown = _shown(np.mean(mean, axis=tuple(range(np.ndim(mean) - 1))))
    if layer is None:
        yield (
            f"the model has no preprocessing layer: give it {original.channel_order.upper()} "
            f"pixels of 0..255, minus {shown} (in RGB order), times {_shown(original.scale)}"
        )
    elif np.ndim(mean) == layer.mean.ndim and np.allclose(layer.mean, mean, rtol=0, atol=1e-3):
        pass
    elif layer.mean.ndim == 3:
        yield f"the model subtracts a mean per pixel, the file's network {shown} (RGB)"
    elif np.ndim(mean) == 3:
        yield (
            f"the model subtracts {_shown(layer.mean)}, the file's network a mean per pixel, on "
            f"average {shown} (RGB)"
        )
    else:
        yield (
            f"the model subtracts {_shown(layer.mean)}, the file's network {shown} "
            "(RGB); no weight can make up for it where conv1 pads"
        )
    if source.convention in ("caffe", "matconvnet"):
        yield (
            "the file's network was trained on images warped to 256x256 and a mean per pixel; "
            "this package keeps their proportions"
            + ("" if whole else ", and subtracts that mean's average over the image")
        )


def _shown(numbers) -> str:
    return ", ".join(f"{number:.6g}" for number in np.ravel(numbers))
