"""Where the pictures and labels of a source are: layouts, recognised by looking."""

import dataclasses
from collections.abc import Callable, Iterator

from data_prep import plan
from data_prep.layouts import folders


@dataclasses.dataclass(frozen=True)
class Layout:
    """One way in which people keep a data set.

    Attributes:
      name: the value of --layout.
      shape: what it looks like, for messages.
      fits: whether a source looks like it.
      pictures: yields the pictures, in an order that is always the same. Its second argument is a
        directory for what has to be unpacked first.
      image_size: the stored size unless another is asked for.
      channels: likewise.
    """

    name: str
    shape: str
    fits: Callable[[str], bool]
    pictures: Callable[[str, str], Iterator[plan.Picture]]
    image_size: int = 256
    channels: int = 3


LAYOUTS = (
    Layout(
        "folders",
        "train/<class>/* and val/<class>/* (or <class>/* alone)",
        folders.fits,
        folders.pictures,
    ),
)


def names() -> list[str]:
    return ["auto", *(layout.name for layout in LAYOUTS)]


def find(source: str, name: str = "auto") -> Layout:
    """The layout called `name`, or the one that `source` looks like.

    Raises:
      FileNotFoundError: there is no such source, or it is empty.
      ValueError: it looks like no layout or like several.
    """
    import tensorflow as tf

    if not tf.io.gfile.exists(source):
        raise FileNotFoundError(
            f"There is no directory {source}: name one that holds pictures with --source."
        )
    if tf.io.gfile.isdir(source) and not tf.io.gfile.listdir(source):
        raise FileNotFoundError(
            f"The directory {source} is empty: expected pictures, as train/<class>/*.jpg and "
            "val/<class>/*.jpg."
        )
    if name != "auto":
        return next(layout for layout in LAYOUTS if layout.name == name)
    fitting = [layout for layout in LAYOUTS if layout.fits(source)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        could_be = " and ".join(f"{layout.name} ({layout.shape})" for layout in fitting)
        raise ValueError(
            f"{source} looks like {could_be}: say which with --layout={fitting[0].name} or "
            f"--layout={fitting[1].name}."
        )
    found = "a file"
    if tf.io.gfile.isdir(source):  # noqa: SIM108 (too long for one line)
        found = ", ".join(sorted(tf.io.gfile.listdir(source))[:5])
    known = "; ".join(f"{layout.name}: {layout.shape}" for layout in LAYOUTS)
    raise ValueError(
        f"{source} has no pictures in a layout that is known (found {found}). Expected one of: "
        f"{known}."
    )
