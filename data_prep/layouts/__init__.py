"""The layouts in which sources keep images and labels, and how to recognise them."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from data_prep import plan, storage
from data_prep.layouts import arrays, folders, ilsvrc, tables
from data_prep.listing import Listing


@dataclasses.dataclass(frozen=True)
class Layout:
    """One way to keep a data set.

    Attributes:
      name: the value of --layout.
      shape: what it looks like, for messages.
      fits: whether a source looks like it.
      images: yields the images in a deterministic order, and what it knowingly leaves out. Its
        second argument is a directory for unpacked files; None if the images will not be read.
      classes: the classes in label order, if the source defines one; else they are sorted.
      image_size: default of the stored size.
      channels: default of the stored channels.
    """

    name: str
    shape: str
    fits: Callable[[Listing], bool]
    images: Callable[[Listing, Any], Iterator[plan.SourceImage | plan.LeftOut]]
    classes: Callable[[Listing], list[str] | None] | None = None
    image_size: int = 256
    channels: int = 3


LAYOUTS = (
    Layout(
        "tars",
        "ILSVRC2012_img_train.tar, ..._val.tar and the devkit (or those of 2010)",
        ilsvrc.tars_fit,
        ilsvrc.tars,
    ),
    Layout(
        "folders",
        "train/<class>/* and val/<class>/* (or <class>/* alone)",
        folders.fits,
        folders.images,
    ),
    Layout(
        "flat",
        "train/<class>/*, val/* and a list with the labels of val (or images/* and one of all)",
        folders.flat_fits,
        folders.by_lists,
    ),
    Layout(
        "kaggle",
        "ILSVRC/Data/CLS-LOC/{train,val} and LOC_val_solution.csv",
        folders.kaggle_fits,
        folders.kaggle,
    ),
    Layout(
        "parquet",
        "[data/]train-*.parquet and validation-*.parquet with columns image and label",
        tables.parquet_fits,
        tables.parquet,
        tables.parquet_classes,
    ),
    Layout(
        "tfds",
        "tfds:NAME, any TFDS data set with image and label",
        tables.tfds_fits,
        tables.tfds,
        tables.tfds_classes,
    ),
    Layout(
        "mnist",
        "train-images-idx3-ubyte[.gz] and its three companions",
        arrays.mnist_fits,
        arrays.mnist,
        arrays.mnist_classes,
        image_size=28,
        channels=1,
    ),
    Layout(
        "cifar10",
        "data_batch_1[.bin] ... test_batch[.bin]",
        arrays.cifar10_fits,
        arrays.cifar10,
        arrays.cifar10_classes,
        image_size=32,
    ),
)


def names() -> list[str]:
    return ["auto", *(layout.name for layout in LAYOUTS)]


def find(listing: Listing, name: str = "auto") -> Layout:
    """The layout called `name`, or the one that the source looks like.

    Raises:
      FileNotFoundError: there is no such source, or it is empty.
      ValueError: it looks like no layout or like several.
    """
    by_name = {layout.name: layout for layout in LAYOUTS}
    source = listing.source
    if tables.tfds_fits(listing):
        if name not in ("auto", "tfds"):
            raise ValueError(
                f"{source} names a TFDS data set, which --layout={name} does not read: leave "
                "--layout out, or name a directory with --source."
            )
        return by_name["tfds"]
    if not storage.exists(source):
        raise FileNotFoundError(
            f"There is no directory {source}: name one that holds images with --source."
        )
    if storage.is_folder(source) and not (listing.count or listing.folders()):
        raise FileNotFoundError(
            f"The directory {source} is empty: expected images, as train/<class>/*.jpg and "
            "val/<class>/*.jpg."
        )
    if name != "auto":
        return by_name[name]
    fitting, refusals = [], []
    for layout in LAYOUTS:
        try:
            if layout.fits(listing):
                fitting.append(layout)
        except ValueError as refusal:  # another layout may still fit
            refusals.append(refusal)
    if len(fitting) == 1:
        return fitting[0]
    if not fitting and refusals:
        raise refusals[0]
    if fitting:
        could_be = " and ".join(f"{layout.name} ({layout.shape})" for layout in fitting)
        raise ValueError(
            f"{source} looks like {could_be}: say which with --layout={fitting[0].name} or "
            f"--layout={fitting[1].name}."
        )
    found = "a file"
    if storage.is_folder(source):
        names = [*listing.folders(), *(file.name for file in listing.all_files())]
        found = ", ".join(sorted(names)[:5])
    if any("tfrecord" in file.name for file in listing.files()):
        raise ValueError(
            f"{source} holds TFRecords, which need no conversion: train and evaluate read them "
            f"with --data_dir={source}. To convert what TFDS wrote, name --source=tfds:{source}."
        )
    known = "; ".join(f"{layout.name}: {layout.shape}" for layout in LAYOUTS)
    raise ValueError(
        f"{source} has no images in a layout that is known (found {found}). Expected one of: "
        f"{known}."
    )
