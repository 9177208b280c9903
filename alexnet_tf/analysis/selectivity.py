"""What a unit prefers: classes, colours, and which units prefer the same."""

import numpy as np

# Amounts of red, green and blue in luminance (ITU-R BT.601).
_LUMINANCE = np.array([0.299, 0.587, 0.114])
HUES = ("red", "yellow", "green", "cyan", "blue", "magenta")
_HUE_RGB = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 1, 1], [0, 0, 1], [1, 0, 1]], float)


def class_means(responses: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """The mean response of each unit to each class.

    Args:
      responses: float (n, units), a row per image.
      labels: int (n,), 0..classes - 1.
      classes: number of classes.

    Returns:
      float64 (units, classes); NaN for a class without an image.
    """
    sums = np.zeros((classes, responses.shape[1]))
    np.add.at(sums, labels, responses)
    counts = np.bincount(labels, minlength=classes)[:, None]
    return (sums / np.where(counts > 0, counts, np.nan)).T


def class_selectivity(means: np.ndarray) -> np.ndarray:
    """How far the preferred class is ahead: (largest - rest) / (largest + rest).

    `rest` is the mean over the other classes: 0 for a unit that answers to all classes alike, 1 for
    one that answers to a single class. The index of Morcos, Barrett, Rabinowitz and Botvinick, "On
    the importance of single directions for generalization", ICLR 2018.

    Args:
      means: float (units, classes), 0 or more, from `class_means` of rectified responses; NaN
        classes are left out.

    Returns:
      float64 (units,), 0..1; 0 for a unit that is silent.
    """
    known = means[:, ~np.isnan(means).all(axis=0)]
    if known.shape[1] < 2:
        return np.zeros(len(means))
    largest = known.max(axis=1)
    rest = (known.sum(axis=1) - largest) / (known.shape[1] - 1)
    total = largest + rest
    return (largest - rest) / np.where(total > 0, total, 1)


def correlations(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pearson's correlation of each column of `a` with each column of `b`.

    Args:
      a, b: float (n, p) and (n, q), a row per image.

    Returns:
      float64 (p, q), -1..1; 0 where a column is constant.
    """
    return _standardized(a).T @ _standardized(b) / len(a)


def label_correlations(responses: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Dissection by labels: how well each unit alone tells each class from the others.

    The correlation of the unit's response with the label, taken as 1 for images of the class and 0
    for the others (the point-biserial correlation).

    Args:
      responses: float (n, units).
      labels: int (n,), 0..classes - 1.
      classes: number of classes.

    Returns:
      float64 (units, classes), -1..1; 0 for a class without an image and for a constant unit.
    """
    return correlations(responses, np.eye(classes)[labels])


def nearest_units(responses: np.ndarray, unit: int, count: int) -> list[tuple[int, float]]:
    """The units with the responses most correlated to a unit's, over the images.

    Args:
      responses: float (n, units).
      unit: its number; it is not its own neighbour.
      count: how many, at most.

    Returns:
      (unit, correlation), the highest correlation first; constant units are left out.
    """
    found = correlations(responses[:, [unit]], responses)[0]
    alive = np.ptp(responses, axis=0) > 0
    alive[unit] = False
    order = [int(n) for n in np.argsort(-found, kind="stable") if alive[n]]
    return [(n, float(found[n])) for n in order[:count]]


def in_grey(images: np.ndarray) -> np.ndarray:
    """Images without their colour: luminance in all three channels.

    Args:
      images: float (..., h, w, 3), 0..255.

    Returns:
      float32 of the same shape, 0..255.
    """
    luminance = np.asarray(images, np.float64) @ _LUMINANCE
    return np.repeat(luminance[..., None], 3, axis=-1).astype(np.float32)


def in_hue(images: np.ndarray, hue: str | None, saturation: float = 0.5) -> np.ndarray:
    """Images of one hue, all of the same luminance: the original's, darkened.

    Args:
      images: float (..., h, w, 3), 0..255.
      hue: of `HUES`; None for grey, darkened as much.
      saturation: 0..1, by which share of its luminance a pixel's strongest channel differs from it.

    Returns:
      float32 of the same shape, 0..255.
    """
    ways = _HUE_RGB - (_HUE_RGB @ _LUMINANCE)[:, None]  # without luminance
    ways /= np.abs(ways).max(axis=1, keepdims=True)
    brightest = 1 + saturation  # no channel of any hue leaves 0..255
    gain = 1 if hue is None else 1 + saturation * ways[HUES.index(hue)]
    return (in_grey(images) / brightest * gain).astype(np.float32)


def colour_share(coloured: np.ndarray, grey: np.ndarray) -> float:
    """How much of a unit's response is lost with the colour: 1 - grey / coloured.

    The colour selectivity index of Rafegas and Vanrell, "Color encoding in biologically-inspired
    convolutional neural networks", Vision Research 2018.

    Args:
      coloured: float (n,), rectified responses to the images that excite the unit most.
      grey: float (n,), to the same images in grey, see `in_grey`.

    Returns:
      0..1: 0 for a unit that answers to grey as much, 1 for one that then is silent. 0 for a
      silent unit.
    """
    whole = float(np.maximum(coloured, 0).sum())
    return float(np.clip(1 - np.maximum(grey, 0).sum() / whole, 0, 1)) if whole > 0 else 0.0


def _standardized(columns: np.ndarray) -> np.ndarray:
    """Columns with mean 0 and deviation 1; constant ones become 0."""
    columns = np.asarray(columns, np.float64)
    centred = columns - columns.mean(axis=0)
    deviation = centred.std(axis=0)
    # Rounding leaves a small deviation in a constant column.
    constant = np.ptp(columns, axis=0) == 0
    return np.where(constant, 0, centred / np.where(constant, 1, deviation))
