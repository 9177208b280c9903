"""The geometry of a network's drawing: boxes and arrows in SVG's coordinates.

A network is drawn twice: from left to right with boxes in perspective, as the paper's Figure 2, and
from top to bottom for narrow screens. The style sheet shows one of the two.
"""

import dataclasses
import itertools
from collections.abc import Callable, Sequence

from alexnet_tf.analysis.architecture import Block

_STEP = 114  # from one layer's left edge to the next's, in SVG units
_ROW = 78  # the same from top to bottom


@dataclasses.dataclass(frozen=True)
class Box:
    """A layer, or half of it: its front, and the depth of top and side (0: flat)."""

    x: float
    y: float
    width: float
    height: float
    depth: float
    text: str

    @property
    def top(self) -> str:
        """The points of the upper face."""
        x, y, d = self.x, self.y, self.depth
        return _points((x, y), (x + d, y - d), (x + self.width + d, y - d), (x + self.width, y))

    @property
    def side(self) -> str:
        """The points of the right face."""
        x, y, d = self.x + self.width, self.y, self.depth
        return _points((x, y), (x + d, y - d), (x + d, y + self.height - d), (x, y + self.height))


@dataclasses.dataclass(frozen=True)
class Drawn:
    """A layer in the drawing: its parts, where its captions go, and in words what it is.

    area: (x, y, width, height) of all that leads to its page.
    """

    block: Block
    boxes: tuple[Box, ...]
    name_at: tuple[float, float]
    then_at: tuple[float, float]
    area: tuple[float, float, float, float]
    words: str


@dataclasses.dataclass(frozen=True)
class Arrow:
    """From one box to another; `crosses` between the halves."""

    x1: float
    y1: float
    x2: float
    y2: float
    crosses: bool


@dataclasses.dataclass(frozen=True)
class Diagram:
    """A network's drawing in a box (0, 0, width, height)."""

    width: float
    height: float
    layers: tuple[Drawn, ...]
    arrows: tuple[Arrow, ...]


def words(block: Block) -> str:
    """A layer as a screen reader should say it."""
    if block.name == "input":
        return f"input: {block.side} by {block.side} pixels, {block.maps} channels"
    if block.side is None:
        said = f"{block.name}: {block.maps:,} units"
    else:
        said = f"{block.name}: {block.maps} maps of {block.side} by {block.side}"
    if block.kernel is not None:
        said += f", kernels of {block.kernel} by {block.kernel}"
    if block.columns > 1:
        said += ", in two halves"
    return said + (", reads both halves" if block.crosses else "")


def crossing_note(blocks: Sequence[Block]) -> str:
    """A sentence on what travels between the halves; empty for a network of one piece."""
    if not any(block.columns > 1 for block in blocks):
        return ""
    crossing = [block.name for block in blocks[:-1] if block.crosses]
    if not crossing:
        return "Nothing is transferred between the two halves before the last layer."
    norm = any("both halves" in text for block in blocks for text in block.then)
    said = "Two halves, each on its own GPU in 2012. Orange: transfers between them, into "
    also = " (response normalisation reads both halves too)" if norm else ""
    return f"{said}{', '.join(crossing)}{also}."


def wide(blocks: Sequence[Block]) -> Diagram:
    """From left to right."""
    two = any(block.columns > 1 for block in blocks)
    centres = (92.0, 236.0) if two else (100.0,)
    middle = sum(centres) / len(centres)
    drawn = []
    for index, block in enumerate(blocks):
        x = 8.0 + index * _STEP
        height = 26 + 66 * ((block.side or 160) / 224) ** 0.5
        width = 9 + 34 * (block.maps / block.columns / 4096) ** 0.4
        depth = 0.24 * height if block.side else 5.0
        ys = centres if block.columns > 1 else (middle,)
        boxes = tuple(
            Box(x, y - height / 2 + depth / 2, width, height, depth, _size(block)) for y in ys
        )
        name_at = (x, boxes[0].y - depth - 24)
        then_at = (x, boxes[-1].y + height + 28)
        top, bottom = name_at[1] - 14, then_at[1] + 13 * max(len(block.then) - 1, 0)
        area = (x - 5, top, _STEP - 14, bottom - top + 6)
        drawn.append(Drawn(block, boxes, name_at, then_at, area, words(block)))
    height = max(one.area[1] + one.area[3] for one in drawn) + 4
    return Diagram(len(blocks) * _STEP + 8, height, tuple(drawn), _arrows(drawn, _rightwards))


def tall(blocks: Sequence[Block]) -> Diagram:
    """From top to bottom, 360 wide."""
    drawn = []
    for index, block in enumerate(blocks):
        y = 14.0 + index * _ROW
        width = 24 + 66 * (block.maps / block.columns / 4096) ** 0.4
        centres = (58.0, 158.0) if block.columns > 1 else (108.0,)
        boxes = tuple(Box(x - width / 2, y, width, 32, 0, "") for x in centres)
        area = (0, y - 8, 360, _ROW - 16)
        drawn.append(Drawn(block, boxes, (222, y + 9), (222, y + 39), area, words(block)))
    return Diagram(360, len(blocks) * _ROW + 4, tuple(drawn), _arrows(drawn, _downwards))


def _size(block: Block) -> str:
    maps = f"{block.maps // block.columns:,}"
    return maps if block.side is None else f"{maps} × {block.side}²"


def _arrows(
    drawn: Sequence[Drawn], ends: Callable[[Box, Box], tuple[float, float, float, float]]
) -> tuple[Arrow, ...]:
    found = []
    for before, after in itertools.pairwise(drawn):
        for i, source in enumerate(before.boxes):
            for j, target in enumerate(after.boxes):
                split = len(before.boxes) > 1 and len(after.boxes) > 1 and i != j
                if not split or after.block.crosses:
                    found.append(Arrow(*ends(source, target), split))
    # Crossing ones last, so that they are on top.
    return tuple(sorted(found, key=lambda arrow: arrow.crosses))


def _rightwards(source: Box, target: Box) -> tuple[float, float, float, float]:
    return (
        source.x + source.width + source.depth / 2 + 2,
        source.y + source.height / 2 - source.depth / 2,
        target.x - 4,
        target.y + target.height / 2,
    )


def _downwards(source: Box, target: Box) -> tuple[float, float, float, float]:
    return (
        source.x + source.width / 2,
        source.y + source.height + 2,
        target.x + target.width / 2,
        target.y - 4,
    )


def _points(*points: tuple[float, float]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
