"""What training makes of an image: random crop, mirror, colour noise (paper, section 4.1)."""

import numpy as np
import tensorflow as tf

from alexnet_tf.analysis import images, plots
from alexnet_tf.data import imagenet, preprocessing, records
from alexnet_tf.data.augmentation import Augmentation
from alexnet_tf.models.alexnet import IMAGENET_MEAN

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_NOISES = {"paper": "noise, the paper's text", "source": "noise, the authors' program"}
VIEWS = len(_COLOURS)


class _LikeImagenet(records.PreparedDataset):
    """No records, and the statistics of ImageNet."""

    def statistics(self) -> dict[str, np.ndarray]:
        return {**imagenet.colour_statistics(), "rgb_mean": np.array(IMAGENET_MEAN)}


def like_imagenet(path: str, image_size: int = 256) -> records.PreparedDataset:
    """What `views` needs of a data set, for an image that is of none: ImageNet's sizes and colours.

    Args:
      path: the image's, for sentences.
      image_size: side of the stored image in pixels.
    """
    form = records.RecordFormat(image_size, 3, "raw")
    return _LikeImagenet(path=path, format=form, synsets=(), shards={}, counts={})


def views(
    image: np.ndarray, dataset: records.PreparedDataset, crop_size: int, seed: int = 0
) -> list[dict]:
    """The views of one image in the first epochs of a run.

    The draws are those of `pipeline.training_batches` for the first image of each epoch.

    Args:
      image: uint8 (size, size, channels), as the data set stores it.
      dataset: whose statistics the colour noise follows.
      crop_size: side of the crop in pixels.
      seed: the run's.

    Returns:
      Six dictionaries: "top", "left" (pixels), "mirrored", "crop" (uint8), "mirror" (uint8: the
      crop, mirrored or not) and, for colour images, for each kind of noise its name, a dictionary
      of "shift" (3 pixel values), "divisor" and "image" (float32).

    Raises:
      ValueError: a crop larger than the image.
    """
    size = dataset.format.image_size
    if not 1 <= crop_size <= size:
        raise ValueError(
            f"A crop of {crop_size} pixels does not fit the images of {dataset.path}, which have "
            f"{size}: expected 1 to {size} for --crop_size."
        )
    noises = _noises(dataset)
    found = []
    for epoch in range(VIEWS):
        drawn = {kind: _draw(dataset, crop_size, noise, seed, epoch) for kind, noise in noises}
        first = next(iter(drawn.values()))
        top, left = (int(n) for n in first["crop"])
        crop = image[top : top + crop_size, left : left + crop_size]
        mirrored = bool(first["mirror"])
        mirror = crop[:, ::-1] if mirrored else crop
        view = {"top": top, "left": left, "mirrored": mirrored, "crop": crop, "mirror": mirror}
        for kind, noise in noises:
            if noise is not None:
                shift, divisor = drawn[kind]["shift"], drawn[kind]["divisor"]
                pixels = tf.constant(mirror[None], tf.float32)
                shifted = noise.add(pixels, shift[None], np.array([divisor], np.float32))
                view[kind] = {
                    "shift": shift,
                    "divisor": float(divisor),
                    "image": np.asarray(shifted)[0],
                }
        found.append(view)
    return found


def draw_augmentation(
    image: np.ndarray,
    dataset: records.PreparedDataset,
    crop_size: int,
    output: str,
    seed: int = 0,
) -> dict:
    """Draws an image and its views, a column per view.

    Args:
      image: uint8 (size, size, channels), as the data set stores it.
      dataset: whose statistics the colour noise follows.
      crop_size: side of the crop in pixels.
      output: path of the PNG, SVG or PDF.
      seed: the run's.

    Returns:
      {"crop_size", "views": [{"top", "left", "mirrored", "paper": {"shift", "divisor"}, ...}]}.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    found = views(image, dataset, crop_size, seed)
    noises = [kind for kind in _NOISES if kind in found[0]]
    rows = 2 + len(noises)
    figure = Figure(figsize=(4.3 + 1.55 * VIEWS, 1.85 * rows + 0.2), dpi=110, layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[4.1, 1.6 * VIEWS])  # type: ignore[misc]
    axes = left.subplots()
    images.show(axes, image)
    axes.set_title(f"stored: {image.shape[1]} x {image.shape[0]} pixels", fontsize=10)
    axes.set_xlabel(f"each frame is one of the crops of {crop_size} x {crop_size}", fontsize=9)
    for view, colour in zip(found, _COLOURS, strict=True):
        corner = (view["left"] - 0.5, view["top"] - 0.5)
        axes.add_patch(Rectangle(corner, crop_size, crop_size, fill=False, edgecolor=colour, lw=2))
    grid = right.subplots(rows, VIEWS, squeeze=False)
    names = ["random crop", "mirror", *(_NOISES[kind] for kind in noises)]
    for row, name in enumerate(names):
        grid[row, 0].set_ylabel(name.replace(", ", ",\n"), fontsize=9)
    for column, (view, colour) in enumerate(zip(found, _COLOURS, strict=True)):
        shown = [view["crop"], view["mirror"], *(view[kind]["image"] for kind in noises)]
        titles = [
            f"from ({view['top']}, {view['left']})",
            "mirrored" if view["mirrored"] else "as it is",
            *(" ".join(f"{value:+.1f}" for value in view[kind]["shift"]) for kind in noises),
        ]
        for row, (one, title) in enumerate(zip(shown, titles, strict=True)):
            cell = grid[row, column]
            images.show(cell, one)
            cell.set_title(title, fontsize=8)
            cell.spines[:].set_color(colour)
            cell.spines[:].set_linewidth(2)
    if noises:
        note = "above the noise: what is added to red, green, blue; the program also divides by 1.1"
        right.supxlabel(note, fontsize=9)
    plots.save_figure(figure, output)
    return {"crop_size": crop_size, "seed": seed, "views": [_numbers(view) for view in found]}


def _numbers(view: dict) -> dict:
    numbers = {name: view[name] for name in ("top", "left", "mirrored")}
    for kind in _NOISES:
        if kind in view:
            shift = [float(value) for value in view[kind]["shift"]]
            numbers[kind] = {"shift": shift, "divisor": view[kind]["divisor"]}
    return numbers


def _noises(dataset) -> list[tuple[str, preprocessing.ColourNoise | None]]:
    if dataset.format.channels == 1:
        return [("none", None)]
    statistics = dataset.statistics()
    mean = statistics["rgb_mean"]
    return [
        (kind, preprocessing.ColourNoise.from_statistics(statistics, kind, mean))
        for kind in _NOISES
    ]


def _draw(dataset, crop_size: int, noise, seed: int, epoch: int) -> dict:
    augmentation = Augmentation(crop_size=crop_size, noise=noise)
    draws = augmentation.draws(dataset, seed, tf.constant(epoch, tf.int64), 1)
    return next(iter(draws.as_numpy_iterator()))
