"""Networks drawn layer by layer, with what is transferred between the two halves."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras

from alexnet_tf.analysis import plots, summary
from alexnet_tf.models import build_model, catalog
from alexnet_tf.models.layers import dropout, lenet, response_norm

_WITHIN, _CROSSING = "#7A8B99", "#D55E00"
_CONV, _DENSE, _INPUT = "#A9C6DE", "#B8DDB0", "#EEEEEE"
_STEP = 2.0  # from one layer's left edge to the next's


@dataclasses.dataclass(frozen=True)
class Block:
    """A layer with weights, or the input.

    Attributes:
      name: of the layer; "input" for the image.
      side: of its maps in pixels; None for a vector.
      maps: number of maps or units, of all columns together.
      kernel, stride: of a convolution, in pixels; None for other layers.
      columns: in how many separate parts it is computed and drawn.
      crosses: whether its parts read all parts of the layer before, which has several.
      then: what follows before the next layer with weights, in words.
      parameters: weights and biases.
    """

    name: str
    side: int | None
    maps: int
    kernel: int | None
    stride: int | None
    columns: int
    crosses: bool
    then: tuple[str, ...]
    parameters: int


def blocks(model: keras.Model) -> list[Block]:
    """The layers of a network, from the input to the last layer with weights.

    A network has two columns when one of its layers is computed in two groups; then every layer but
    the last is drawn in two, as the paper's Figure 2, and one that is not grouped crosses.

    Args:
      model: a chain of layers, as every network of this package is.
    """
    rows = {row.name: row for row in summary.layer_table(model)}
    columns = max(_groups(layer) for layer in model.layers)
    weighted = [layer.name for layer in model.layers if _is_block(layer)]
    input_shape: Any = model.input_shape
    found = [Block("input", input_shape[1], input_shape[3], None, None, 1, False, (), 0)]
    for layer in model.layers:
        row, last = rows[layer.name], found[-1]
        if not _is_block(layer):
            found[-1] = dataclasses.replace(last, then=(*last.then, *_words(layer, columns)))
            continue
        found.append(
            Block(
                name=layer.name,
                side=row.shape[0] if len(row.shape) == 3 else None,
                maps=row.shape[-1],
                kernel=_first(getattr(layer, "kernel_size", None)),
                stride=_first(getattr(layer, "strides", None)),
                columns=1 if layer.name == weighted[-1] else columns,
                crosses=last.columns > 1 and _groups(layer) == 1,
                then=(),
                parameters=row.parameters,
            )
        )
    return found


def plot_model(model: keras.Model, to_file: str = "model.png") -> dict:
    """Draws one network, as `keras.utils.plot_model` does, without Graphviz.

    Args:
      model: a chain of layers, as every network of this package is.
      to_file: path of the PNG, SVG or PDF.

    Returns:
      As `draw_architecture`.
    """
    return draw_architecture([model], to_file)


def draw_architecture(networks: Sequence[str | keras.Model], output: str) -> dict:
    """Draws networks below one another, on one scale.

    Args:
      networks: names of `alexnet_tf.list_models()` or built networks, one or more.
      output: path of the PNG, SVG or PDF.

    Returns:
      name -> {"parameters", "layers": the fields of each `Block`}, JSON-ready.

    Raises:
      ValueError: an unknown name.
    """
    from matplotlib.figure import Figure

    models = [build_model(one) if isinstance(one, str) else one for one in networks]
    drawn = [blocks(model) for model in models]
    widest = max(len(layers) for layers in drawn)
    heights = [4.3 if layers[1].columns > 1 else 2.2 for layers in drawn]
    figure = Figure(figsize=(1.42 * widest + 0.4, sum(heights)), dpi=120, layout="constrained")
    grid = figure.subplots(len(drawn), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, height, model, layers in zip(grid, heights, models, drawn, strict=True):
        axes.set_xlim(-0.3, _STEP * widest)
        axes.set_ylim(-height / 1.42 * _STEP / 2, height / 1.42 * _STEP / 2)
        axes.set_axis_off()
        axes.set_title(_title(model), loc="left", fontsize=11, fontweight="bold")
        _draw_network(axes, layers)
    plots.save_figure(figure, output)
    return {
        model.name: {
            "parameters": model.count_params(),
            "layers": [dataclasses.asdict(layer) for layer in layers],
        }
        for model, layers in zip(models, drawn, strict=True)
    }


def _title(model: keras.Model) -> str:
    known = model.name in catalog.list_models()
    about = f": {catalog.find_variant(model.name).summary}" if known else ""
    return f"{model.name}{about}; {model.count_params():,} parameters"


def _groups(layer) -> int:
    """In how many parts a layer with weights is computed."""
    return getattr(layer, "groups", 1) if layer.weights else 1


def _first(size) -> int | None:
    return size[0] if isinstance(size, tuple) else size


def _is_block(layer) -> bool:
    """Whether a layer has weights worth a box of its own; LeNet-5's subsampling has two per map."""
    return bool(layer.weights) and not isinstance(layer, lenet.Subsampling)


def _words(layer, columns: int) -> tuple[str, ...]:
    """A layer without a box, as the reader should see it; () for what goes without saying."""
    if isinstance(layer, response_norm.LocalResponseNormalization):
        across = columns > 1 and layer.groups == 1
        return ("LRN over\nboth halves" if across else "LRN",)
    if isinstance(layer, response_norm.SpatialResponseNormalization):
        return ("spatial norm",)
    if isinstance(layer, (keras.layers.Dropout, dropout.Dropout)):
        return (f"dropout {layer.rate:g}",)
    if isinstance(layer, lenet.Subsampling):
        return ("subsample 2/2",)
    if isinstance(layer, keras.layers.GlobalAveragePooling2D):
        return ("mean of\neach map",)
    if isinstance(layer, keras.layers.GlobalMaxPooling2D):
        return ("maximum of\neach map",)
    if hasattr(layer, "pool_size"):
        kind = "mean" if isinstance(layer, keras.layers.AveragePooling2D) else "max"
        return (f"{kind}-pool {_first(layer.pool_size)}/{_first(layer.strides)}",)
    return ()


def _draw_network(axes, layers: list[Block]) -> None:
    two = any(layer.columns > 1 for layer in layers)
    boxes = [_boxes(layer, index, two) for index, layer in enumerate(layers)]
    for before, after, layer in zip(boxes, boxes[1:], layers[1:], strict=False):
        for i, source in enumerate(before):
            for j, target in enumerate(after):
                split = len(before) > 1 and (len(after) > 1 and i != j)
                if split and not layer.crosses:
                    continue
                _arrow(axes, source, target, _CROSSING if split else _WITHIN)
    for parts, layer in zip(boxes, layers, strict=True):
        for part in parts:
            _draw_box(axes, part, layer, len(parts))
        _caption(axes, parts, layer)
    if two:
        crossing = [layer.name for layer in layers[:-1] if layer.crosses]
        note = "nothing crosses between the halves (two GPUs) before the last layer"
        if crossing:
            note = f"orange: crosses between the halves (two GPUs), into {', '.join(crossing)}"
            if any("both halves" in words for layer in layers for words in layer.then):
                note += "; response normalisation (LRN) reads both halves too"
        axes.text(0, axes.get_ylim()[0], note, fontsize=8.5, color="#444444", va="bottom")


def _boxes(layer: Block, index: int, two: bool) -> list[tuple[float, float, float, float]]:
    """(left, bottom, width, height) of each part; heights follow the side, widths the maps."""
    height = 0.62 + 0.98 * ((layer.side or 0) / 224) ** 0.5
    width = 0.76 + 0.42 * (layer.maps / layer.columns / 4096) ** 0.5
    left = index * _STEP
    centres = (1.35, -1.05) if layer.columns > 1 else (0.15 if two else 0.2,)
    return [(left, centre - height / 2, width, height) for centre in centres]


def _draw_box(axes, box, layer: Block, parts: int) -> None:
    from matplotlib.patches import FancyBboxPatch

    left, bottom, width, height = box
    colour = _INPUT if layer.name == "input" else _DENSE if layer.side is None else _CONV
    axes.add_patch(
        FancyBboxPatch(
            (left, bottom),
            width,
            height,
            boxstyle="round,pad=0,rounding_size=0.06",
            facecolor=colour,
            edgecolor="#333333",
            linewidth=0.8,
        )
    )
    side = "" if layer.side is None else f"\n{layer.side}x{layer.side}"
    text = f"{layer.maps // parts:,}{side}"
    axes.text(left + width / 2, bottom + height / 2, text, ha="center", va="center", fontsize=8)


def _caption(axes, parts, layer: Block) -> None:
    """Name and kernel above the topmost part, what follows below the lowest."""
    left, bottom, _, height = parts[0]
    kernel = "" if layer.kernel is None else f"\n{layer.kernel}x{layer.kernel}"
    kernel += f", stride {layer.stride}" if layer.stride and layer.stride > 1 else ""
    axes.text(left, bottom + height + 0.08, f"{layer.name}{kernel}", fontsize=8.5, va="bottom")
    lowest = parts[-1][1]
    axes.text(left, lowest - 0.08, "\n".join(layer.then), fontsize=7.5, va="top", color="#444444")


def _arrow(axes, source, target, colour: str) -> None:
    start = (source[0] + source[2], source[1] + source[3] / 2)
    end = (target[0], target[1] + target[3] / 2)
    style = {"arrowstyle": "-|>", "color": colour, "lw": 1.4, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", end, start, arrowprops=style, zorder=0)
