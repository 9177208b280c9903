"""Which AlexNet is in a file of weights, whether it was trained, and what it answers."""

import dataclasses
import hashlib
import os
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf.data import imagenet, preprocessing
from alexnet_tf.models import catalog, hub, knowledge, layers, saved_run, spec, weights
from alexnet_tf.models.weights import assignment, conversion, inspection

# Checksums of published files: (algorithm, beginning of the checksum, what it is). torchvision's
# are part of its file names, Caffe's in its model zoo's readme.md.
PUBLISHED = (
    ("sha256", "7be5be79", "torchvision's alexnet-owt-7be5be79.pth (IMAGENET1K_V1)"),
    ("sha256", "4df8aa71", "torchvision's alexnet-owt-4df8aa71.pth, of before 2021"),
    ("sha1", "9116a64c0fbe4459d18f4bb6b56d647b63920377", "BVLC's bvlc_alexnet.caffemodel"),
    (
        "sha1",
        "4c8d77deb20ea792f84eb5e6d0a11ca0a8660a46",
        "BVLC's bvlc_reference_caffenet.caffemodel",
    ),
)
VERDICTS = ("trained", "partly random", "hardly trained", "random")


@dataclasses.dataclass(frozen=True)
class Identity:
    """What is known about a file of weights.

    Attributes:
      path: the file.
      sha256: of it.
      published: the published file that it is, by its checksum, or None.
      variants: names of the networks with the file's shapes, those that compute the same first.
      lineage: what kind of file it is and, where it says so, what it came from.
      groups: of conv2.
      channel_order: "rgb" or "bgr", of what the first kernels read.
      expects: which pixels the numbers expect, in words.
      classes: the number of outputs.
      layers: the evidence, in order.
      answer: (class, probability) of the five most probable classes of scikit-image's photograph
        `chelsea`, a cat; None where no network here has the file's shapes.
    """

    path: str
    sha256: str
    published: str | None
    variants: tuple[str, ...]
    lineage: str
    groups: int
    channel_order: str
    expects: str
    classes: int
    layers: tuple[inspection.LayerEvidence, ...]
    answer: tuple[tuple[str, float], ...] | None

    @property
    def verdict(self) -> str:
        """ "trained", "partly random", "hardly trained" (only biases moved) or "random"."""
        random = [layer for layer in self.layers if layer.random]
        if not random:
            return "trained"
        if len(random) < len(self.layers):
            return "partly random"
        learned = any(layer.biases == "learned" for layer in random)
        return "hardly trained" if learned else "random"

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        return {**dataclasses.asdict(self), "verdict": self.verdict}

    def text(self) -> str:
        """The same in words."""
        names = ", ".join(self.variants) or "none of this package"
        random = ", ".join(layer.layer for layer in self.layers if layer.random)
        means = {
            "trained": "trained: every kernel has what training leaves",
            "partly random": f"partly random: {random} look as before training",
            "hardly trained": "hardly trained: kernels as before training, biases that moved",
            "random": "random: every kernel looks as before training",
        }
        lines = [
            f"{self.path}: {self.lineage}, {self.classes} classes",
            f"  sha256    {self.sha256}",
            f"  published {self.published or 'no checksum that is known here'}",
            f"  network   {names}; conv2 in {self.groups} group(s)",
            f"  pixels    {self.expects}",
            f"  weights   {means[self.verdict]}",
            *(f"    {layer.text()}" for layer in self.layers),
        ]
        if self.answer is not None:
            shown = ", ".join(f"{name} {score:.1%}" for name, score in self.answer)
            lines.append(f"  answer    scikit-image's cat `chelsea`: {shown}")
        return "\n".join(lines)


def identify(path: str | os.PathLike, answer: bool = True) -> Identity:
    """Identifies a weights file of any format that `weights.open_source` reads, or `.keras`.

    Args:
      path: the file, a checkpoint of TensorFlow 1, or a run's workdir.
      answer: whether to build the network and predict an image with it.

    Raises:
      FileNotFoundError, ValueError: no such file, a damaged one, or no AlexNet.
    """
    path = os.fspath(path)
    if path.endswith(".keras") or os.path.isdir(path) or hub.is_remote(path):
        return _of_model(saved_run.find_model_file(path), answer)
    source = weights.open_source(weights.existing(path))
    parts = {(t.layer, t.role): t for t in source.tensors}
    names = list(dict.fromkeys(tensor.layer for tensor in source.tensors))
    shapes, found = {}, []
    for name in names:
        for role in ("kernel", "bias"):
            if (name, role) not in parts:
                raise ValueError(f"{path} has no {role} for the layer {name}.")
            weights.sources.require_floats(parts[name, role], path)
        kernel, bias = (_numbers(parts[name, role], path) for role in ("kernel", "bias"))
        shapes[name] = kernel.shape
        found.append(inspection.evidence(name, kernel, bias))
    variants = _variants(shapes, source)
    first = assignment.CONVENTIONS[source.convention]
    asked = None
    if answer and variants:
        model = catalog.build_model(variants[0], classes=source.classes)
        weights.assign(model, source)
        asked = _answer(model, 256 if model.input_shape[1] > 128 else model.input_shape[1], None)
    file = path if os.path.isfile(path) else _data_file(path)
    return Identity(
        path=path,
        sha256=_checksum(file, "sha256"),
        published=_published(file),
        variants=variants,
        lineage=conversion.CONVENTIONS[source.convention].split(":")[0].split(",")[0],
        groups=_groups(shapes),
        channel_order=first.channel_order,
        expects=_expects(first.mean if source.mean is None else source.mean, first),
        classes=source.classes,
        layers=tuple(found),
        answer=asked,
    )


def _of_model(path: str, answer: bool) -> Identity:
    network = saved_run.open_model(path)
    found, shapes = [], {}
    for layer in network.model.layers:
        if not hasattr(layer, "kernel") or not hasattr(layer, "bias") or layer.bias is None:
            continue
        kernel, bias = np.asarray(layer.kernel), np.asarray(layer.bias)
        # In columns (g, I, O) too: outputs first.
        kernel = np.moveaxis(kernel, -1, 0)
        if kernel.ndim == 4 and isinstance(layer, keras.layers.Conv2D):
            kernel = kernel.transpose(0, 3, 1, 2)
        else:
            kernel = kernel.reshape(len(kernel), -1)
        shapes[layer.name] = kernel.shape
        found.append(inspection.evidence(layer.name, kernel, bias.ravel()))
    if not found:
        raise ValueError(f"{path} has no layer with a kernel and a bias: expected an AlexNet.")
    first = next(
        (one for one in network.model.layers if isinstance(one, layers.PixelNormalization)), None
    )
    lineage = knowledge.of(network.model).get("lineage", {})
    known = ", ".join(f"{key} {value}" for key, value in lineage.items() if isinstance(value, str))
    expects = "as they are, 0..255"
    if first is not None:
        order = spec.Preprocessing((0.0, 0.0, 0.0), first.scale, first.channel_order)
        expects = f"RGB, 0..255; its first layer makes of them {_expects(first.mean, order)}"
    name = network.model.name
    return Identity(
        path=path,
        sha256=_checksum(path, "sha256"),
        published=None,
        variants=(name,) if name in catalog.list_models() else _variants(shapes, None),
        lineage="a network of this package" + (f" ({known})" if known else ""),
        groups=int(getattr(_layer(network.model, "conv2"), "groups", 1)),
        channel_order="rgb" if first is None else first.channel_order,
        expects=expects,
        classes=network.classes,
        layers=tuple(found),
        answer=_answer(network.model, network.image_size, network.class_names) if answer else None,
    )


def _layer(model, name):
    return next((layer for layer in model.layers if layer.name == name), None)


def _numbers(tensor, path) -> np.ndarray:
    if tensor.stored.span < tensor.stored.size:  # the same numbers again and again
        raise ValueError(
            f"{tensor.name} in {path} has the shape {tensor.stored.shape}, but only "
            f"{tensor.stored.span} numbers: expected a tensor that holds its values."
        )
    try:
        value = tensor.stored.read()
    except (ValueError, OSError) as error:
        raise ValueError(f"{tensor.name} in {path} cannot be read ({error}).") from error
    value = value.astype(np.float32)
    if not value.size or not np.isfinite(value).all():
        raise ValueError(f"{tensor.name} in {path} holds numbers that are not finite, or none.")
    return value


def _shapes(variant: spec.Variant) -> dict[str, tuple[int, ...]]:
    """Kernels of a variant as (O, I / groups, kh, kw) and (O, I); without the last one's O."""
    found: dict[str, tuple[int, ...]] = {}
    channels, side = variant.channels, variant.feature_size(variant.crop_size)
    for entry in variant.features:
        if isinstance(entry, spec.Conv):
            found[entry.name] = (
                entry.filters,
                channels // entry.groups,
                entry.kernel,
                entry.kernel,
            )
            channels = entry.filters
    inputs = channels * side * side
    for entry in variant.top:
        if isinstance(entry, spec.Dense):
            found[entry.name] = (entry.units or -1, inputs // entry.columns)
            inputs = entry.units or -1
    return found


def _variants(shapes, source) -> tuple[str, ...]:
    """Variants with these shapes; those that compute what the file's network does come first."""
    wanted = {name: shape if name != "fc8" else (-1, *shape[1:]) for name, shape in shapes.items()}
    fitting = [
        name for name in catalog.list_models() if _shapes(catalog.find_variant(name)) == wanted
    ]
    if source is None:
        return tuple(fitting)
    order = assignment.CONVENTIONS[source.convention].channel_order
    pools = [step.startswith("max-pool") for step in source.steps]
    norms = ["normalisation" in step for step in source.steps]

    def unlike(name: str) -> tuple[bool, bool, bool, str]:
        variant = catalog.find_variant(name)
        kinds = [type(entry) for entry in variant.features]
        pool_first = spec.Norm in kinds and kinds.index(spec.Pool) < kinds.index(spec.Norm)
        theirs = any(norms) and any(pools) and pools.index(True) < norms.index(True)
        side = f"images of {variant.crop_size}x{variant.crop_size}"
        return (
            variant.channel_order != order and source.convention != "matconvnet",
            pool_first != theirs or any(norms) != (spec.Norm in kinds),
            source.steps[0] != side,
            name,
        )

    return tuple(sorted(fitting, key=unlike))


def _groups(shapes) -> int:
    first, second = shapes.get("conv1"), shapes.get("conv2")
    return first[0] // second[1] if first and second and second[1] else 1


def _expects(mean, first: spec.Preprocessing) -> str:
    """What is done to RGB pixels before the first kernels."""
    average = np.mean(mean, axis=tuple(range(np.ndim(mean) - 1)))
    text = f"{first.channel_order.upper()}, 0..255, minus "
    text += "a mean image of about " if np.ndim(mean) == 3 else ""
    text += ", ".join(f"{value:.5g}" for value in np.ravel(average)) + " (R, G, B)"
    scale = np.ravel(first.scale)
    if not np.allclose(scale, 1):
        text += ", times " + ", ".join(f"{value:.4g}" for value in scale)
    return text


def _answer(model, image_size: int, names) -> tuple[tuple[str, float], ...]:
    import skimage.data

    side, channels = model.input_shape[1], model.input_shape[3]
    photograph = tf.constant(skimage.data.chelsea())
    if channels == 1:
        photograph = tf.image.rgb_to_grayscale(photograph)
    crop = preprocessing.evaluation_crop(photograph, side, max(side, image_size))
    scores = np.asarray(model(tf.cast(crop, tf.float32)[tf.newaxis], training=False))[0]
    if names is None and len(scores) == len(imagenet.class_names()):
        names = imagenet.class_names()
    best = np.argsort(-scores, kind="stable")[:5]
    return tuple((names[n] if names else f"class {n}", float(scores[n])) for n in best)


def _data_file(prefix: str) -> str:
    """The file with the numbers of a checkpoint, of which the prefix is no file."""
    return next(
        (
            os.path.join(os.path.dirname(prefix) or ".", name)
            for name in sorted(os.listdir(os.path.dirname(prefix) or "."))
            if name.startswith(f"{os.path.basename(prefix)}.data-")
        ),
        f"{prefix}.index",
    )


def _checksum(path: str, algorithm: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def _published(path: str) -> str | None:
    sums = {name: _checksum(path, name) for name in {name for name, _, _ in PUBLISHED}}
    return next((what for name, begin, what in PUBLISHED if sums[name].startswith(begin)), None)
