"""The pages of an atlas, from its numbers: Jinja2 templates, plain HTML, CSS and SVG."""

import functools
from collections.abc import Sequence
from typing import Any

import jinja2
import keras

from alexnet_tf import __version__
from alexnet_tf.analysis import architecture
from alexnet_tf.analysis.atlas import diagram, storage
from alexnet_tf.analysis.atlas.settings import Settings
from alexnet_tf.models import catalog

_STYLE_FILE = "style.css"
# Drawn beside every network.
_COMPARED = "lenet5"


@functools.cache
def environment() -> jinja2.Environment:
    """The templates; every value is escaped."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("alexnet_tf.analysis.atlas"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"percent": _percent, "number": _number, "shape": _shape}
    return made


def write_pages(
    place: storage.Storage,
    numbers: dict[str, Any],
    model: keras.Model,
    settings: Settings,
    made_from: dict[str, Any],
) -> None:
    """Writes all pages; `index.html` is the last.

    Args:
      place: the atlas's directory.
      numbers: from `survey.Survey.measure`.
      model: the network.
      settings: of the atlas.
      made_from: what identifies it, shown on the page of methods.
    """
    site = _Site(place, numbers)
    own = [_drawing(model.name, architecture.blocks(model), site.layer_links())]
    place.write_page(_STYLE_FILE, environment().get_template(_STYLE_FILE).render())
    for layer in numbers["layers"]:
        site.write(f"layers/{layer['slug']}.html", "layer.html", layer=layer)
        around = layer["shown"]
        for position, unit in enumerate(around):
            before, after = (
                around[n] if 0 <= n < len(around) else None for n in (position - 1, position + 1)
            )
            site.write(
                f"units/{layer['slug']}-{unit}.html",
                "unit.html",
                layer=layer,
                unit=site.unit(layer["name"], unit),
                before=before,
                after=after,
            )
    for position, image in enumerate(numbers["images"]):
        around = numbers["images"]
        before, after = (
            around[n]["number"] if 0 <= n < len(around) else None
            for n in (position - 1, position + 1)
        )
        site.write(
            f"images/{image['number']:05d}.html",
            "image.html",
            image=image,
            before=before,
            after=after,
        )
    site.write("images.html", "images.html")
    site.write("architectures.html", "architectures.html", drawings=_published())
    site.write("methods.html", "methods.html", settings=settings, made_from=made_from)
    own.append(_drawing(_COMPARED, architecture.published_blocks(_COMPARED), None))
    site.write(storage.INDEX_FILE, "index.html", drawings=own)


class _Site:
    """What every template may use."""

    def __init__(self, place: storage.Storage, numbers: dict[str, Any]):
        self._place, self._numbers = place, numbers
        self._layers = {layer["name"]: layer for layer in numbers["layers"]}
        self._pages = {image["number"] for image in numbers["images"]}

    def write(self, name: str, template: str, **values: Any) -> None:
        """Renders a template to the file `name` of the site."""
        text = (
            environment()
            .get_template(template)
            .render(
                root="../" * name.count("/"),
                here=name,
                site=self,
                version=__version__,
                **self._numbers_for_templates(),
                **values,
            )
        )
        self._place.write_page(name, text)

    def _numbers_for_templates(self) -> dict[str, Any]:
        named = ("network", "data", "layers", "images")
        return {name: self._numbers[name] for name in named}

    def layer_links(self) -> dict[str, str]:
        """Layer name -> its page, from the root."""
        return {name: f"layers/{layer['slug']}.html" for name, layer in self._layers.items()}

    def layer(self, name: str) -> dict[str, Any]:
        """A layer's numbers."""
        return self._layers[name]

    def unit(self, layer: str, unit: int) -> dict[str, Any]:
        """A shown unit's numbers."""
        return self._numbers["units"][f"{self._layers[layer]['slug']}-{unit}"]

    def unit_page(self, layer: str, unit: int) -> str | None:
        """A unit's page from the root; None where it has none."""
        found = self._layers[layer]
        return f"units/{found['slug']}-{unit}.html" if unit in found["shown"] else None

    def image_page(self, number: int) -> str | None:
        """An image's page from the root; None where it has none."""
        return f"images/{number:05d}.html" if number in self._pages else None

    def image_file(self, number: int) -> str:
        """An image's file from the root."""
        return storage.image_name(f"image-{number:05d}", self.side)

    def truth(self, number: int) -> str:
        """The name of an image's class."""
        return self._numbers["truth"][str(number)]

    @property
    def side(self) -> int:
        """Of the network's input, in pixels."""
        return self._numbers["network"]["input"][0]

    def units_for(self, name: str) -> list[dict[str, Any]]:
        """For a class: the unit of each layer whose response goes with its label the most."""
        found = []
        for layer in self._numbers["layers"]:
            best = max(
                (
                    (label["correlation"], unit)
                    for unit in layer["shown"]
                    for label in self.unit(layer["name"], unit)["labels"]
                    if label["class"] == name
                ),
                default=None,
            )
            if best is not None:
                found.append({"layer": layer["name"], "correlation": best[0], "unit": best[1]})
        return found


def _published() -> list[dict[str, Any]]:
    return [
        _drawing(name, architecture.published_blocks(name), None) for name in catalog.list_models()
    ]


def _drawing(
    name: str, blocks: Sequence[architecture.Block], links: dict[str, str] | None
) -> dict[str, Any]:
    """What the macro `network` draws. links: layer -> page, or None for rows of a table."""
    known = name in catalog.list_models()
    return {
        "name": name,
        "summary": catalog.find_variant(name).summary if known else "",
        "parameters": sum(block.parameters for block in blocks),
        "blocks": [(block, diagram.words(block).split(": ", 1)[1]) for block in blocks],
        "wide": diagram.wide(blocks),
        "tall": diagram.tall(blocks),
        "note": diagram.crossing_note(blocks),
        "links": links,
    }


def _percent(value: float, digits: int = 0) -> str:
    return f"{100 * value:.{digits}f} %"


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


def _shape(values: Sequence[int]) -> str:
    return " × ".join(f"{value:,}" for value in values)
