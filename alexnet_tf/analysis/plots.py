"""Plots: a run's curves, the first layer's kernels, predictions with their images.

Each `draw_*` function draws into matplotlib axes that it is given; `save_page` writes all three as
one image. matplotlib is imported only where a figure is made.
"""

import csv
import dataclasses
import os
from collections.abc import Sequence

import numpy as np

from alexnet_tf import files

# Legible on white in print and to colour-blind eyes (Okabe and Ito's palette).
_TRAIN, _VALID = "#0072B2", "#D55E00"
_RUNS = (_TRAIN, _VALID, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# Bars of the right class and of the others; both light enough for black text.
_RIGHT, _OTHER = "#F28E5C", "#A9C6DE"
_FILTERS_PER_ROW = 16
_ERRORS = ("top1_error", "validation_top1_error")
# What curves are drawn of, by their columns in metrics.csv.
_COLUMNS = {"loss": "loss", "top1_error": "top-1 error", "top5_error": "top-5 error"}


@dataclasses.dataclass(frozen=True)
class Shown:
    """An image with what a network says about it.

    Attributes:
      image: uint8 (height, width, 3) or (height, width).
      truth: its class's name; "" if unknown.
      classes: the most probable class names, best first.
      scores: their probabilities, 0..1.
    """

    image: np.ndarray
    truth: str
    classes: Sequence[str]
    scores: Sequence[float]


def read_curves(path: str) -> dict[str, np.ndarray]:
    """The columns of a run's metrics.csv as float arrays; empty cells are NaN.

    Args:
      path: the file, or its workdir.

    Raises:
      FileNotFoundError: no such file.
      ValueError: no row, columns of another kind of table, or a cell that is no number.
    """
    if os.path.isdir(path):
        path = os.path.join(path, "metrics.csv")
    if not os.path.isfile(path):
        raise FileNotFoundError(
            f"There is no {path}: name the workdir of a run that finished at least one epoch."
        )
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is no table: name a run's workdir or metrics.csv.") from error
    if not rows:
        raise ValueError(f"{path} has no row: name a run that finished at least one epoch.")
    missing = {"epoch", *_ERRORS} - set(rows[0])
    if missing:
        raise ValueError(
            f"{path} has no column {', '.join(sorted(missing))}: expected the metrics.csv of a run "
            "of alexnet_tf.train."
        )
    try:
        return {
            name: np.array([float(row[name]) if row[name] else np.nan for row in rows])
            for name in rows[0]
        }
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} is no table of numbers ({error}).") from error


def last_errors(metrics: dict[str, np.ndarray]) -> dict[str, float | int | None]:
    """The last known value of each error, and the epochs, JSON-ready; fractions 0..1."""
    last: dict[str, float | int | None] = {"epochs": int(metrics["epoch"][-1])}
    for column in _ERRORS:
        known = metrics[column][~np.isnan(metrics[column])]
        last[column] = float(known[-1]) if known.size else None
    return last


def first_kernels(model) -> np.ndarray:
    """The kernels of a network's first convolution, channels in RGB order.

    Returns:
      float32 (height, width, channels, kernels).

    Raises:
      ValueError: the network has no convolution.
    """
    for layer in model.layers:
        if layer.weights and len(layer.weights[0].shape) == 4:
            kernels = layer.weights[0].value.numpy()
            break
    else:
        raise ValueError(f"The model {model.name!r} has no convolution whose kernels can be shown.")
    orders = [getattr(layer, "channel_order", "rgb") for layer in model.layers]
    return kernels[:, :, ::-1] if "bgr" in orders else kernels


def kernel_groups(model) -> int:
    """Number of groups of a network's kernels, each on its own GPU in the paper: 1 or 2.

    A network has two when one of its layers is computed in two.
    """
    return 2 if any(getattr(layer, "groups", 1) == 2 for layer in model.layers) else 1


def split_groups(kernels: np.ndarray, groups: int | None = None) -> list[np.ndarray]:
    """An array of kernels (..., n) as that many arrays (..., n / groups).

    None means the paper's two halves if n is even and at least 32, else one group.
    """
    count = kernels.shape[-1]
    if groups is None:
        groups = 2 if count >= 32 and count % 2 == 0 else 1
    return np.split(kernels, groups, axis=-1)


def kernel_mosaic(kernels: np.ndarray, gap: int = 1, groups: int | None = None) -> np.ndarray:
    """Kernels side by side, sixteen in a row, the groups apart, as in the paper's Figure 3.

    Each kernel is scaled by its own largest magnitude: grey is zero, so that hue and contrast can
    be compared within a kernel, not between kernels.

    Args:
      kernels: float (height, width, 1 or 3, n).
      gap: white pixels between kernels; four times as many between the groups.
      groups: see `split_groups`.

    Returns:
      float32 (rows, columns, 3), 0..1.
    """
    height, width, channels, count = kernels.shape
    if channels not in (1, 3):
        raise ValueError(f"Kernels over {channels} channels are no image: expected 1 or 3.")
    largest = np.abs(kernels).max(axis=(0, 1, 2), keepdims=True)
    images = 0.5 + 0.5 * kernels / np.where(largest > 0, largest, 1)
    images = np.broadcast_to(images, (height, width, 3, count))
    mosaics = []
    for part in split_groups(images, groups):
        group = part.transpose(3, 0, 1, 2)
        rows = -(-len(group) // _FILTERS_PER_ROW)
        columns = min(_FILTERS_PER_ROW, len(group))
        mosaic = np.ones((rows * (height + gap) - gap, columns * (width + gap) - gap, 3))
        for index, image in enumerate(group):
            row, column = divmod(index, _FILTERS_PER_ROW)
            top, left = row * (height + gap), column * (width + gap)
            mosaic[top : top + height, left : left + width] = image
        mosaics += [mosaic, np.ones((4 * gap, mosaic.shape[1], 3))]
    return np.concatenate(mosaics[:-1]).astype(np.float32)


def run_names(paths: Sequence[str]) -> list[str]:
    """Names of runs for a legend: the end of each path, as short as tells them apart."""
    parts = []
    for path in paths:
        path = os.path.abspath(path)
        parts.append((os.path.dirname(path) if os.path.isfile(path) else path).split(os.sep))
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-length:]) for part in parts]
        if len(set(names)) == len(set(map(tuple, parts))):
            break
    if len(set(names)) < len(names):
        raise ValueError(f"A run is named twice in {', '.join(paths)}.")
    return names


def draw_curve(axes, metrics: dict[str, np.ndarray], column: str = "top1_error") -> None:
    """A column over epochs, of training and validation, with the last values written out.

    Args:
      axes: matplotlib's.
      metrics: from `read_curves`.
      column: "loss", "top1_error" or "top5_error".
    """
    for prefix, label, colour in (("", "training", _TRAIN), ("validation_", "validation", _VALID)):
        _draw_line(axes, metrics, prefix + column, label, color=colour)
    _finish_curve(axes, column)


def _draw_line(axes, metrics: dict[str, np.ndarray], column: str, label: str, **style) -> bool:
    """Whether the column has a value. Without `label` the line is not in the legend."""
    values = metrics.get(column, np.array([]))
    there = ~np.isnan(values)
    if not there.any():
        return False
    if label:
        last = values[there][-1]
        label += f", {last:.3g} at the end" if "loss" in column else f", {last:.1%} at the end"
    epochs = metrics["epoch"][there]
    style = {"marker": "o", "markersize": 3, "clip_on": False, **style}
    axes.plot(epochs, values[there], label=label or None, **style)
    return True


def _finish_curve(axes, column: str) -> None:
    if column == "loss":
        axes.set_ylim(bottom=0)
    else:
        axes.set_ylim(0, 1)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    axes.set_xlabel("epoch")
    axes.set_ylabel(_COLUMNS[column])
    axes.grid(color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)


def save_curves(output: str, runs: dict[str, dict[str, np.ndarray]]) -> None:
    """Loss, top-1 and top-5 error over epochs, of one run or several.

    Of one run training and validation have a colour each. Of several each run has a colour:
    validation is solid, training dashed.

    Args:
      output: path of the PNG, SVG or PDF.
      runs: name -> metrics, from `read_curves`.

    Raises:
      ValueError: a run without any error.
    """
    from matplotlib.figure import Figure

    for name, metrics in runs.items():
        if all(np.isnan(metrics[column]).all() for column in _ERRORS):
            raise ValueError(f"The metrics of {name} hold no error: expected top1_error.")
    figure = Figure(figsize=(14, 4.5), dpi=110, layout="constrained")
    for axes, column in zip(figure.subplots(1, 3), _COLUMNS, strict=True):
        if len(runs) == 1:
            draw_curve(axes, next(iter(runs.values())), column)
            continue
        for number, (name, metrics) in enumerate(runs.items()):
            colour, name = _RUNS[number % len(_RUNS)], shortened(name, 32)
            valid = _draw_line(axes, metrics, f"validation_{column}", name, color=colour)
            label = "" if valid else f"{name} (training)"
            faint = {"linestyle": "--", "marker": None, "linewidth": 1}
            _draw_line(axes, metrics, column, label, color=colour, **faint)
        _finish_curve(axes, column)
    names = list(runs)
    title = names[0] if len(names) == 1 else "solid: validation, dashed: training"
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    save_figure(figure, output)


def draw_kernels(axes, kernels: np.ndarray, groups: int | None = None) -> None:
    """The mosaic of `kernel_mosaic`."""
    axes.imshow(kernel_mosaic(kernels, groups=groups), interpolation="nearest")
    axes.set_axis_off()


def draw_prediction(image_axes, bar_axes, shown: Shown) -> None:
    """An image above the bars of its most probable classes; the correct one is highlighted."""
    grey = shown.image.ndim == 2 or shown.image.shape[-1] == 1
    image = np.squeeze(shown.image) if grey else shown.image
    image_axes.imshow(image, cmap="gray" if grey else None, vmin=0, vmax=255)
    image_axes.set_axis_off()
    image_axes.set_title(shortened(shown.truth), fontsize=10, fontweight="bold")
    places = np.arange(len(shown.classes))
    colours = [_RIGHT if name == shown.truth else _OTHER for name in shown.classes]
    bar_axes.barh(places, shown.scores, color=colours, height=0.85)
    for place, name, score in zip(places, shown.classes, shown.scores, strict=True):
        bar_axes.text(
            0.02, place, f"{shortened(name)}  {score:.0%}", va="center", ha="left", fontsize=8.5
        )
    bar_axes.set_xlim(0, 1)
    bar_axes.set_ylim(len(shown.classes) - 0.5, -0.5)
    bar_axes.set_axis_off()


def save_page(
    output: str,
    metrics: dict[str, np.ndarray],
    kernels: np.ndarray,
    shown: Sequence[Shown],
    groups: int | None = None,
    caption: str = "",
) -> None:
    """Writes curve, kernels and up to eight predictions as one image.

    Args:
      output: path of the PNG, SVG or PDF; it is written aside and renamed.
      metrics: from `read_curves`.
      kernels: from `first_kernels`.
      shown: predictions, as many as are there, at most eight.
      groups: of the kernels, see `split_groups`.
      caption: lines above everything else.
    """
    from matplotlib.figure import Figure

    shown = list(shown)[:8]
    columns = max(4, -(-len(shown) // 2))
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(11, 4.4 + 3.6 * rows), dpi=120, layout="constrained")
    if caption:
        figure.suptitle(caption, x=0.01, ha="left", fontsize=10)
    heights = [4.4, max(3.6 * rows, 0.1)]
    top, bottom = figure.subfigures(2, 1, height_ratios=heights)  # type: ignore[misc]
    curve_axes, kernel_axes = top.subplots(1, 2, width_ratios=[1, 1.25])
    curve_axes.set_title("Training", loc="left")
    draw_curve(curve_axes, metrics)
    kernel_axes.set_title(kernels_title(kernels), loc="left")
    draw_kernels(kernel_axes, kernels, groups)
    if shown:
        title = "Predictions: the truth above, the five most probable classes below"
        bottom.suptitle(title, x=0.01, ha="left")
        _draw_predictions(bottom, shown, rows, columns)
    save_figure(figure, output)


def save_panel(output: str, shown: Sequence[Shown], columns: int = 4) -> None:
    """Writes predictions alone, as in the left half of the paper's Figure 4."""
    from matplotlib.figure import Figure

    if not shown:
        raise ValueError("There is no prediction to draw.")
    columns = min(columns, len(shown))
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(2.7 * columns, 3.6 * rows), dpi=120, layout="constrained")
    _draw_predictions(figure, shown, rows, columns)
    save_figure(figure, output)


def _draw_predictions(figure, shown: Sequence[Shown], rows: int, columns: int) -> None:
    grid = figure.subplots(2 * rows, columns, height_ratios=[1.5, 1] * rows, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for number, one in enumerate(shown):
        row, column = divmod(number, columns)
        draw_prediction(grid[2 * row, column], grid[2 * row + 1, column], one)


def save_figure(figure, output: str) -> None:
    """Writes a PNG, SVG or PDF, by its name, atomically."""
    ending = image_ending(output)
    # Inches of white around each plot, so that nothing touches the edge.
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)
    # Names of files and classes are texts, and a $ in them begins no formula.
    for text in figure.findobj(lambda artist: hasattr(artist, "set_parse_math")):
        text.set_parse_math(False)
    # No date inside: the same figure is the same file.
    date = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(ending)
    with files.replacing(output) as aside:
        figure.savefig(aside, format=ending, metadata=date)


def image_ending(output: str) -> str:
    """ "png", "svg" or "pdf", as the name says.

    Raises:
      ValueError: another ending.
    """
    ending = os.path.splitext(output)[1].lstrip(".").lower()
    if ending not in ("png", "svg", "pdf"):
        raise ValueError(
            f"{output} is no name of an image: expected one that ends in .png, .svg or .pdf."
        )
    return ending


def kernels_title(kernels: np.ndarray) -> str:
    """What is shown, in words."""
    height, width, _, count = kernels.shape
    return f"The {count} kernels of the first layer, {height} x {width} pixels"


def shortened(name: str, length: int = 26) -> str:
    """`name`, with its end cut off where it is longer than `length`."""
    return name if len(name) <= length else name[: length - 1] + "…"
