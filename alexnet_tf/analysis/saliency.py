"""Locates the pixels that a network's prediction depends on, by two independent methods.

Occlusion: a grey square is moved over the image, and the class's probability is measured at each
place (Zeiler and Fergus, 2014, section 4.2). Gradient: how strongly the class's logit answers to
each pixel (Simonyan, Vedaldi, Zisserman, 2013, section 3).
"""

import dataclasses

import numpy as np
import tensorflow as tf

from alexnet_tf.analysis import images, plots
from alexnet_tf.data import preprocessing
from alexnet_tf.data.records import PreparedDataset
from alexnet_tf.models import logits_model
from alexnet_tf.models.saved_run import TrainedModel

_BATCH = 32


@dataclasses.dataclass(frozen=True)
class Saliency:
    """What was measured.

    Attributes:
      label: the class's number.
      probability: of the class, for the whole image, 0..1.
      occluded: float32 (rows, columns), its probability with the square at each place.
      square: its side, in pixels.
      tops, lefts: int (rows,) and (columns,), where the squares start, in pixels.
      gradient: float32 (h, w), the largest magnitude over the channels of d logit / d pixel.
    """

    label: int
    probability: float
    occluded: np.ndarray
    square: int
    tops: np.ndarray
    lefts: np.ndarray
    gradient: np.ndarray


def compiled(model):
    """The network as a function of any number of images: for `measure`, when it is called often."""
    pixels = tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)
    return tf.function(lambda images: model(images, training=False), input_signature=[pixels])


def measure(
    model, image: np.ndarray, label: int | None = None, places: int = 14, call=None
) -> Saliency:
    """Measures both maps of one image.

    Args:
      model: (b, h, w, channels) pixels 0..255 -> probabilities (b, classes), with a layer "prob".
      image: float (h, w, channels), 0..255, of the model's input size.
      label: the class to look for; None takes the most probable.
      places: positions of the square along each side, at least 2.
      call: `compiled(model)`; None compiles it for this call.

    Raises:
      ValueError: an image of another size, or a model without a layer "prob".
    """
    image = np.asarray(image, np.float32)
    wanted = tuple(model.input_shape[1:])
    if image.shape != wanted:
        raise ValueError(f"The network takes images {wanted}, found {image.shape}.")
    call = call or compiled(model)
    whole = call(tf.constant(image[None])).numpy()[0]
    label = int(whole.argmax()) if label is None else label
    side = min(image.shape[:2])
    # Squares overlap by half, so that none is missed between two places.
    square = max(1, min(side, 2 * side // places))
    tops = _places(image.shape[0], square, places)
    lefts = _places(image.shape[1], square, places)
    hidden = _occluded(image, square, tops, lefts)
    probabilities = np.concatenate(
        [
            call(tf.constant(hidden[start : start + _BATCH])).numpy()[:, label]
            for start in range(0, len(hidden), _BATCH)
        ]
    )
    return Saliency(
        label=label,
        probability=float(whole[label]),
        occluded=probabilities.reshape(len(tops), len(lefts)),
        square=square,
        tops=tops,
        lefts=lefts,
        gradient=_gradient(model, image, label),
    )


def draw_image_saliency(
    network: TrainedModel,
    output: str,
    image: str | tuple[PreparedDataset, str, int],
) -> dict:
    """Draws the saliency of an image for its most probable class.

    Args:
      network: the trained network.
      output: path of the PNG or SVG.
      image: a JPEG or PNG file, or a record: (data set, split, number).

    Returns:
      What `draw_saliency` returns, with "image", the file or None, and "truth", the record's class.
    """
    names, truth = network.class_names, None
    file = image if isinstance(image, str) else None
    if isinstance(image, str):
        stored = images.of_file(image, network.image_size, network.channels, network.apply_exif)
    else:
        dataset, split, number = image
        stored, truth = images.of_split(dataset, split, number)
        # The data set's names fit only as many outputs.
        if names is None and dataset.classes == network.classes:
            names = dataset.synsets
    size = max(network.image_size, network.crop_size)
    view = preprocessing.evaluation_crop(tf.constant(stored), network.crop_size, size).numpy()
    measured = measure(network.model, view)
    name = names[measured.label] if names else f"class {measured.label}"
    return {"image": file, "truth": truth, **draw_saliency(measured, view, name, output)}


def draw_saliency(measured: Saliency, image: np.ndarray, name: str, output: str) -> dict:
    """Draws the image, the occlusion map over it, and the gradient map, side by side.

    Args:
      measured: from `measure`.
      image: what was measured, (h, w, channels), 0..255.
      name: the class's name.
      output: path of the PNG, SVG or PDF.

    Returns:
      The numbers, JSON-ready: class, probability, square, the occlusion map, the centre of the
      square that costs most and the pixel of the largest gradient (row, column).
    """
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    height, width = measured.gradient.shape
    figure = Figure(figsize=(12.4, 4.5), dpi=110, layout="constrained")
    first, second, third = figure.subplots(1, 3)
    images.show(first, image)
    first.set_title(f"{plots.shortened(name)}, probability {measured.probability:.1%}")
    images.show(second, image)
    # Each measured place coloured around its centre; the outermost squares touch the edges.
    half = measured.square / 2
    extent = (half - 0.5, width - half - 0.5, height - half - 0.5, half - 0.5)
    lost = np.maximum(measured.probability - measured.occluded, 0)
    largest = max(float(lost.max()), 0.01)  # a smaller loss is none to look at
    # The more is lost the less of the image is seen through: where nothing is lost, all of it.
    colours = ScalarMappable(Normalize(0, largest), colormaps["autumn_r"])
    overlay = colours.to_rgba(lost)
    overlay[..., 3] = 0.75 * lost / largest
    second.imshow(overlay, extent=extent, interpolation="bilinear")
    second.set_xlim(-0.5, width - 0.5)
    second.set_ylim(height - 0.5, -0.5)
    title = f"occlusion (square of {measured.square} pixels)"
    second.set_title(title if lost.max() > 0.01 else f"{title}: 1 % lost at most")
    bar = figure.colorbar(colours, ax=second, shrink=0.8)
    bar.set_label("probability lost when the place is hidden")
    # A few pixels far above the others would leave the rest black.
    largest = max(float(np.percentile(measured.gradient, 99.5)), 1e-30)
    drawn = third.imshow(measured.gradient / largest, cmap="inferno", vmin=0, vmax=1)
    third.set_title("gradient of the class's logit")
    bar = figure.colorbar(drawn, ax=third, shrink=0.8)
    bar.set_label("magnitude per pixel; 1: the 99.5th percentile")
    for axes in (second, third):
        axes.set_xticks([])
        axes.set_yticks([])
    plots.save_figure(figure, output)
    lowest = np.unravel_index(measured.occluded.argmin(), measured.occluded.shape)
    peak = np.unravel_index(measured.gradient.argmax(), measured.gradient.shape)
    return {
        "class": name,
        "probability": measured.probability,
        "square": measured.square,
        "square_starts": {"rows": measured.tops.tolist(), "columns": measured.lefts.tolist()},
        "occluded_probability": np.round(measured.occluded, 6).tolist(),
        "most_needed_place": [
            float(measured.tops[lowest[0]] + half),
            float(measured.lefts[lowest[1]] + half),
        ],
        "largest_gradient_at": [int(n) for n in peak],
        "largest_gradient": float(measured.gradient.max()),
    }


def _places(side: int, square: int, places: int) -> np.ndarray:
    """Where squares start: evenly from edge to edge, in whole pixels."""
    count = min(places, side - square + 1)
    return np.unique(np.round(np.linspace(0, side - square, count)).astype(int))


def _occluded(image, square: int, tops, lefts) -> np.ndarray:
    # The image's own mean: a square that differs from it little, so that the hole is no object.
    fill = image.mean(axis=(0, 1))
    hidden = np.repeat(image[None], len(tops) * len(lefts), axis=0)
    corners = [(top, left) for top in tops for left in lefts]
    for one, (top, left) in zip(hidden, corners, strict=True):
        one[top : top + square, left : left + square] = fill
    return hidden


def _gradient(model, image: np.ndarray, label: int) -> np.ndarray:
    network = logits_model(model)
    images = tf.constant(image[None])
    with tf.GradientTape() as tape:
        tape.watch(images)
        logit = tf.cast(network(images, training=False), tf.float32)[0, label]
    gradient = tape.gradient(logit, images)
    return tf.reduce_max(tf.abs(gradient), axis=-1)[0].numpy()
