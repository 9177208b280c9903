"""Representational dissimilarity matrices (Kriegeskorte, Mur, Bandettini, 2008).

The dissimilarity of two images in a layer is 1 minus Pearson's correlation of their activations, or
the Euclidean distance of these.
"""

import os
from collections.abc import Mapping, Sequence

import numpy as np

from alexnet_tf import files
from alexnet_tf.analysis import plots

KINDS = ("correlation", "euclidean")
LARGEST = 5000  # images: the matrix then has 25 million numbers, 100 MB as float32
_COLUMNS = 4096  # features per partial product: 164 MB for 5000 images
_LABELS = {"correlation": "1 - Pearson's r", "euclidean": "Euclidean distance"}


def require_size(count: int, largest: int = LARGEST) -> None:
    """Raises ValueError for more images than a matrix should have, or fewer than two."""
    if count > largest:
        raise ValueError(
            f"A dissimilarity matrix of {count} images has {count**2:,} numbers, and --rdm_max is "
            f"{largest}: choose fewer images, or raise it."
        )
    if count < 2:
        raise ValueError(f"Found {count} image(s): a dissimilarity matrix needs at least two.")


def dissimilarity(features: np.ndarray, kind: str = "correlation") -> np.ndarray:
    """Computes the dissimilarity of every pair of images.

    Args:
      features: float (n, ...), a row per image; what follows is flattened. It may be on the disk.
      kind: "correlation", 1 - r, 0 to 2; NaN for an image whose features are all the same number.
        Or "euclidean".

    Returns:
      float64 (n, n), symmetric, 0 on the diagonal.

    Raises:
      ValueError: another kind, or fewer than two images.
    """
    if kind not in KINDS:
        raise ValueError(f"rdm is {kind!r}: expected one of {', '.join(KINDS)}.")
    rows = np.asanyarray(features).reshape(len(features), -1)
    require_size(len(rows), max(LARGEST, len(rows)))
    width = rows.shape[1]
    # Either around each image's mean, as the correlation is, or around the mean image, which
    # changes no distance and keeps digits in the squares of the numbers.
    means = np.zeros(len(rows))
    for first in range(0, len(rows), 64):
        means[first : first + 64] = rows[first : first + 64].mean(axis=1, dtype=np.float64)
    products = np.zeros((len(rows), len(rows)))
    for first in range(0, width, _COLUMNS):
        part = rows[:, first : first + _COLUMNS].astype(np.float64)
        part -= means[:, None] if kind == "correlation" else part.mean(axis=0)
        products += part @ part.T
    squares = np.diag(products).copy()
    if kind == "correlation":
        # Rounding leaves something of features that are all the same.
        squares[squares <= width * (1e-7 * np.abs(means)) ** 2] = np.nan
        with np.errstate(invalid="ignore"):
            found = 1 - products / np.sqrt(np.outer(squares, squares))
        found = np.clip(found, 0, 2)
    else:
        found = np.sqrt(np.maximum(squares[:, None] + squares[None] - 2 * products, 0))
    found = (found + found.T) / 2
    np.fill_diagonal(found, np.where(np.isnan(squares), np.nan, 0))
    return found


def save(
    matrices: Mapping[str, np.ndarray], names: Sequence[str], kind: str, output: str
) -> tuple[str, str]:
    """Writes OUTPUT-rdm.npz and OUTPUT-rdm.png, where OUTPUT is without its ending.

    The first has a float32 (n, n) per layer and "file_names".

    Returns:
      The two paths.
    """
    root = f"{os.path.splitext(output)[0]}-rdm"
    arrays = {name: matrix.astype(np.float32) for name, matrix in matrices.items()}
    with files.replacing(f"{root}.npz") as aside:
        np.savez(aside, file_names=np.array(names), **arrays)  # type: ignore[arg-type]
    draw(matrices, names, kind, f"{root}.png")
    return f"{root}.npz", f"{root}.png"


def draw(matrices: Mapping[str, np.ndarray], names: Sequence[str], kind: str, output: str) -> None:
    """Draws a matrix per layer; images of one folder, where they follow each other, have a name."""
    import matplotlib
    from matplotlib.figure import Figure

    colours = matplotlib.colormaps["viridis"].with_extremes(bad="0.75")  # grey where it is NaN
    columns = min(len(matrices), 4)
    rows = -(-len(matrices) // columns)
    figure = Figure(figsize=(3.6 * columns + 1.2, 3.3 * rows + 0.9), dpi=110, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    groups = _groups(names)
    for axes in grid.flat[len(matrices) :]:
        axes.set_axis_off()
    for number, (axes, (layer, matrix)) in enumerate(
        zip(grid.flat, matrices.items(), strict=False)
    ):
        high = float(np.nanmax(matrix)) if np.isfinite(matrix).any() else 0.0
        image = axes.imshow(matrix, cmap=colours, vmin=0, vmax=high or 1, interpolation="nearest")
        axes.set_title(layer, fontsize=10)
        centres = [(first + last - 1) / 2 for _, first, last in groups]
        labels = [plots.shortened(name, 18) for name, _, _ in groups]
        axes.set_xticks([])
        axes.set_yticks(centres if number % columns == 0 else [])
        if number % columns == 0:
            axes.set_yticklabels(labels, fontsize=7)
        for _, first, _ in groups[1:]:
            axes.axhline(first - 0.5, color="white", linewidth=0.6)
            axes.axvline(first - 0.5, color="white", linewidth=0.6)
        bar = figure.colorbar(image, ax=axes, shrink=0.8)
        bar.ax.tick_params(labelsize=7)
        bar.set_label(_LABELS[kind], fontsize=7)
    plots.save_figure(figure, output)


def _groups(names: Sequence[str]) -> list[tuple[str, int, int]]:
    """(folder, first, behind the last) of images that follow each other; none of more than 24."""
    folders = [os.path.basename(os.path.dirname(name)) or os.path.dirname(name) for name in names]
    starts = [n for n in range(len(folders)) if n == 0 or folders[n] != folders[n - 1]]
    ends = [*starts[1:], len(folders)]
    found = [(folders[first], first, last) for first, last in zip(starts, ends, strict=True)]
    if len(found) > 24 or len(found) < 2:
        return []
    return found
