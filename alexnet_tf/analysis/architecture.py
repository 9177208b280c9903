"""Networks drawn from their layers: layers, and connections between the two halves."""

import concurrent.futures
import dataclasses
from collections.abc import Sequence

import keras

from alexnet_tf.analysis import plots, receptive_field, summary
from alexnet_tf.models import build_model, catalog, layers
from alexnet_tf.models.layers import lenet

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
    """The layers of a chain-shaped network, from the input to the last layer with weights.

    A network has two columns when one of its layers is computed in two groups; then every layer but
    the last is drawn in two, as the paper's Figure 2, and one that is not grouped crosses.
    """
    rows = {row.name: row for row in summary.layer_table(model)}
    layers = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    columns = max(getattr(layer, "groups", 1) for layer in layers)
    weighted = [layer for layer in layers if _is_block(rows[layer.name])]
    _, side, _, channels = model.input_shape
    found = [Block("input", side, channels, None, None, 1, False, (), 0)]
    for layer in layers:
        row = rows[layer.name]
        if layer not in weighted:
            words = _words(layer, columns)
            last = found[-1]
            found[-1] = dataclasses.replace(last, then=(*last.then, *words))
            continue
        shown = 1 if layer is weighted[-1] else columns
        previous = found[-1].columns
        window = receptive_field.window(layer)
        found.append(
            Block(
                name=row.name,
                side=row.shape[0] if len(row.shape) == 3 else None,
                maps=row.shape[-1],
                kernel=window[0] if window else None,
                stride=window[1] if window else None,
                columns=shown,
                crosses=previous > 1 and getattr(layer, "groups", 1) == 1,
                then=(),
                parameters=row.parameters,
            )
        )
    return found


def published_blocks(name: str) -> list[Block]:
    """The layers of a published network."""
    return blocks(_published(name))


def _published(name: str) -> keras.Model:
    """The network without values in its weights, which would take a second and 250 MB."""

    def build() -> keras.Model:
        with keras.StatelessScope(initialize_variables=False):
            return build_model(name)

    # In a thread of its own, with which Keras forgets the weights: here it would give them their
    # values after all, as soon as it tries out another layer.
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        return thread.submit(build).result()


def plot_model(model: keras.Model, to_file: str = "model.png") -> dict:
    """Draws one network, as `keras.utils.plot_model` does, but without Graphviz.

    Args:
      model: a chain-shaped network.
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

    models = [_published(one) if isinstance(one, str) else one for one in networks]
    names, drawn = [model.name for model in models], [blocks(model) for model in models]
    totals = [model.count_params() for model in models]
    widest = max(len(chain) for chain in drawn)
    heights = [4.3 if chain[1].columns > 1 else 2.2 for chain in drawn]
    figure = Figure(figsize=(1.42 * widest + 0.4, sum(heights)), dpi=120, layout="constrained")
    grid = figure.subplots(len(drawn), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, height, name, total, chain in zip(grid, heights, names, totals, drawn, strict=True):
        axes.set_xlim(-0.3, _STEP * widest)
        axes.set_ylim(-height / 1.42 * _STEP / 2, height / 1.42 * _STEP / 2)
        axes.set_axis_off()
        axes.set_title(_title(name, total), loc="left", fontsize=11, fontweight="bold")
        _draw_network(axes, chain)
    plots.save_figure(figure, output)
    return {
        name: {"parameters": total, "layers": [dataclasses.asdict(layer) for layer in chain]}
        for name, total, chain in zip(names, totals, drawn, strict=True)
    }


def _title(name: str, parameters: int) -> str:
    known = name in catalog.list_models()
    about = f": {catalog.find_variant(name).summary}" if known else ""
    return f"{name}{about}; {parameters:,} parameters"


def _is_block(row: summary.Row) -> bool:
    """Whether a layer gets a box; LeNet-5's subsampling, with two weights per map, does not."""
    return row.kind != "Subsampling" and (row.parameters > 0 or row.kind == "RadialBasis")


def _words(layer: keras.layers.Layer, columns: int) -> tuple[str, ...]:
    """A layer without a box, as the reader should see it; () for what goes without saying."""
    if isinstance(layer, layers.LocalResponseNormalization):
        return ("LRN over\nboth halves" if columns > layer.groups else "LRN",)
    if isinstance(layer, layers.SpatialResponseNormalization):
        return ("spatial norm",)
    if isinstance(layer, keras.layers.MaxPooling2D):
        return (f"max-pool {layer.pool_size[0]}/{layer.strides[0]}",)
    if isinstance(layer, lenet.Subsampling):
        return ("subsample 2/2",)
    if isinstance(layer, keras.layers.AveragePooling2D):
        return (f"mean-pool {layer.pool_size[0]}/{layer.strides[0]}",)
    if isinstance(layer, keras.layers.GlobalAveragePooling2D):
        return ("mean of\neach map",)
    if isinstance(layer, layers.Dropout | keras.layers.Dropout):
        return (f"dropout {layer.rate:g}",) if layer.rate else ()
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
