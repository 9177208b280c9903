"""The first layer's kernels as in the paper's Figure 3, with a number for what it shows: one group
of kernels learns colour, the other mostly does not (section 6.1)."""

import numpy as np

from alexnet_tf.analysis import plots


def colour_selectivity(kernels: np.ndarray) -> np.ndarray:
    """For each kernel, how much of its energy is colour.

    A kernel is split into its grey part (the mean over the channels) and the rest; the measure is
    the rest's share of the sum of squares: 0 for a kernel that sees only brightness, 1 for one that
    sees only colour, 2/3 for independent noise in three channels.

    Args:
      kernels: float (height, width, channels, n).

    Returns:
      float64 (n,), 0..1; a kernel of zeros has 0.
    """
    kernels = np.asarray(kernels, np.float64)
    colour = kernels - kernels.mean(axis=2, keepdims=True)
    energy = (kernels**2).sum(axis=(0, 1, 2))
    return (colour**2).sum(axis=(0, 1, 2)) / np.where(energy > 0, energy, 1)


def draw_filters(kernels: np.ndarray, output: str, groups: int | None = None) -> dict:
    """Writes the mosaic as a PNG, SVG or PDF.

    Args:
      kernels: from `plots.first_kernels`.
      output: path of the image.
      groups: how many stand apart, see `plots.kernel_groups` and `plots.split_groups`.

    Returns:
      The numbers: {"kernels", "groups": [{"kernels", "mean_colour_selectivity"}], and each
      kernel's "colour_selectivity"}, JSON-ready.
    """
    from matplotlib.figure import Figure

    measure = colour_selectivity(kernels)
    halves = plots.split_groups(measure, groups)
    # As high as the mosaic is at this width, and a line for the title.
    high, wide, _ = plots.kernel_mosaic(kernels, groups=groups).shape
    figure = Figure(figsize=(9, 0.4 + 9 * high / wide), dpi=150, layout="constrained")
    axes = figure.subplots()
    plots.draw_kernels(axes, kernels, groups)
    said = ", ".join(f"{half.mean():.2f}" for half in halves)
    where = "upper and lower group" if len(halves) == 2 else "mean"
    axes.set_title(
        f"{plots.kernels_title(kernels)}. Colour selectivity, {where}: {said}",
        loc="left",
        fontsize=9,
    )
    plots.save_figure(figure, output)
    return {
        "kernels": len(measure),
        "groups": [
            {"kernels": len(half), "mean_colour_selectivity": float(half.mean())} for half in halves
        ],
        "colour_selectivity": measure.tolist(),
    }
