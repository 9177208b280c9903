"""Lists of labels beside images: CSV, TSV and plain texts, with and without a header.

    path,label                 labels.csv; LOC_val_solution.csv ("ImageId,PredictionString")
    val/1.JPEG 0               val.txt of Caffe: the number counts the sorted classes from 0
    1.JPEG  n01443537  0 0 9 9 val_annotations.txt of Tiny ImageNet

A list is recognised by its content: the first column of its first lines names images of the source.
"""

import collections
import csv
import io
import itertools
import os
import re
import unicodedata
from collections.abc import Callable, Iterator

from alexnet_tf.files import open_binary
from data_prep import accounting, images
from data_prep.layouts import devkit
from data_prep.listing import File, Listing
from data_prep.plan import IMAGE, LeftOut, SourceImage

_ENDINGS = ("csv", "tsv", "txt")
_PATH_COLUMNS = frozenset(
    (
        *("path", "file", "filepath", "file_path", "filename", "file_name", "image", "imagepath"),
        *("image_path", "imageid", "image_id", "image_name", "id", "img", "name"),
    )
)
_LABEL_COLUMNS = frozenset(
    (
        *("label", "labels", "class", "class_name", "classname", "class_id", "category", "target"),
        *("wnid", "synset", "breed", "species", "predictionstring", "y"),
    )
)
_LOOKED_AT = 20  # lines, to find out whether a text is a list
_HEAD = 1 << 16  # bytes, likewise


class Table:
    """A list of labels.

    Attributes:
      path: of the list, below the source.
      first_labels: those of its first lines; empty if the label column is ambiguous.
    """

    def __init__(self, listing: Listing, path: str, first_labels: list[str]):
        self.path = path
        self.first_labels = first_labels
        self._listing = listing

    def split(self, split_of: Callable[[str], str | None]) -> str | None:
        """The split in the list's name: val.txt, LOC_val_solution.csv, train.csv."""
        stem = os.path.basename(self.path).rpartition(".")[0]
        return next(filter(None, map(split_of, re.split(r"[^A-Za-z]+", stem))), None)

    def rows(self) -> dict[str, str]:
        """Image -> label, as written in the list.

        Raises:
          ValueError: a line has no label, or two lines of one image differ.
        """
        place = self._listing.use(self.path, "list of labels")
        found: dict[str, str] = {}
        text = _text(_read(place), self.path)
        for name, label in _parse(self._listing, self.path, text, complete=True):
            if found.setdefault(name, label) != label:
                raise ValueError(f"{place} gives {name} two labels, {found[name]} and {label}.")
        return found

    def reader(self, listing: Listing, classes: list[str] | None):
        """A function: image file -> its class, or None if the list does not have it.

        Args:
          listing: of the source.
          classes: the sorted classes of training, which a number indexes; None if only this list
            defines the classes.
        """
        rows = {name: self._class(label, name, classes) for name, label in self.rows().items()}
        if classes is None:
            rows = _padded(rows)
        folder = os.path.dirname(self.path)

        def label(file: File) -> str | None:
            for key in _keys(file.path, folder):
                if key in rows:
                    return rows[key]
            return None

        return label

    def _class(self, label, name, classes):
        if classes is None or label in classes or devkit.SYNSET.match(label):
            return label
        if re.fullmatch(r"[+-]?\d+", label):
            if not 0 <= int(label) < len(classes):
                raise ValueError(
                    f"{self._listing.place(self.path)} gives {name} the label {label}: expected a "
                    f"class or a number of 0..{len(classes) - 1}, the training classes in order."
                )
            return classes[int(label)]
        return label


def tables(listing: Listing, root: str, folder: str) -> list[Table]:
    """The lists of images directly in `folder`, or below it if that is the root.

    They may be in the folder, beside it or in the folders above; those with the folder's name come
    first.
    """
    return listing.remember(("tables", root, folder), lambda: _tables(listing, root, folder))


def _tables(listing, root, folder):
    places = [folder]
    while places[-1]:
        places.append(os.path.dirname(places[-1]))
    found = []
    for place in places:
        for file in listing.files(place):
            ending = file.name.rpartition(".")[2].lower()
            if ending not in _ENDINGS or "submission" in file.name.lower():
                continue  # a sample submission gives every image the same made-up label
            first = _first_labels(listing, file, root, folder)
            if first is not None:
                found.append(Table(listing, file.path, first))
    return sorted(
        found, key=lambda table: not os.path.basename(table.path).startswith(_stem(folder))
    )


def _stem(folder):
    return os.path.basename(folder) or "labels"


def _first_labels(listing, file, root, folder):
    """The labels of the first lines, if these name images of `folder`; else None."""
    with open_binary(listing.place(file.path)) as opened:
        head = opened.read(_HEAD)
    try:
        text = _text(head[: head.rfind(b"\n") + 1] or head, file.path)
        rows = list(itertools.islice(_parse(listing, file.path, text, False), _LOOKED_AT))
    except ValueError:
        return None
    places = [os.path.dirname(file.path), root, folder, ""]
    if folder == root:  # all images of the source: they may be one folder further down
        places += [os.path.join(root, name) for name in listing.visible_folders(root)]
    found = [label for name, label in rows if _is_there(listing, places, name)]
    return list(filter(None, found)) if found else None


def _is_there(listing, places, name):
    for place in dict.fromkeys(places):
        folder, _, base = os.path.normpath(os.path.join(place, name)).rpartition("/")
        if base in listing.remember(
            ("names", folder), lambda folder=folder: _names(listing, folder)
        ):
            return True
    return False


def _names(listing, folder):
    names = {
        file.name for file in listing.files(folder) if accounting.looks_like_image(listing, file)
    }
    return names | {name.rpartition(".")[0] for name in names}


def labelled_images(
    listing: Listing, root: str, split_of: Callable[[str], str | None]
) -> Iterator[SourceImage | LeftOut]:
    """The images of a source that has lists instead of class folders.

    A list called val.txt or train.csv describes that split; others describe training.
    """
    readers = [
        (table.path, table.split(split_of) or "train", table.reader(listing, None))
        for table in tables(listing, root, root)
    ]
    found: list[tuple[File, str, str]] = []
    unlisted: list[File] = []
    times: collections.Counter = collections.Counter()
    for file in listing.below(root):
        if not accounting.looks_like_image(listing, file):
            continue
        named = [(path, split, label) for path, split, read in readers if (label := read(file))]
        if len({split for _, split, _ in named}) > 1:
            raise ValueError(
                f"{listing.place(file.path)} is in {named[0][0]} and in {named[1][0]}, which are "
                "different splits: expected each image in one of them."
            )
        if named:
            found.append((file, *named[0][1:]))
            times[named[0][2], file.name] += 1
        else:
            unlisted.append(file)
    folders = {os.path.dirname(file.path) for file, _, _ in found}
    for file in unlisted:
        if os.path.dirname(file.path) in folders:
            yield LeftOut(file.path, "no list has a label for it", IMAGE)
    for file, split, label in found:
        name = (
            file.name if times[label, file.name] == 1 else os.path.relpath(file.path, root or ".")
        )
        yield SourceImage(split, file.path, -1, file.size, name, label, file.modified)


def _keys(path: str, folder: str) -> Iterator[str]:
    """The names that a list in `folder` may use for the image at `path`."""
    tails = [path]
    if folder and path.startswith(f"{folder}/"):
        tails.append(path[len(folder) + 1 :])
    while "/" in tails[-1]:
        tails.append(tails[-1].partition("/")[2])
    for tail in tails:
        yield tail
        stem, dot, ending = tail.rpartition(".")
        if dot and ending.lower() in images.IMAGE_SUFFIXES:
            yield stem


def _padded(rows):
    """Pads numbers, so that as class names they sort in numeric order."""
    if not all(label.isdigit() for label in rows.values()):
        return rows
    return {name: f"{int(label):04d}" for name, label in rows.items()}


def _read(place):
    with open_binary(place) as file:
        return file.read()


def _text(content, path):
    try:
        return unicodedata.normalize("NFC", content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no UTF-8 text ({error}): write it as UTF-8.") from None


def _parse(listing: Listing, path: str, text: str, complete: bool) -> Iterator[tuple[str, str]]:
    """(image, label) of each line.

    Args:
      listing: of the source, with the columns that the user named.
      path: of the list.
      text: its content, or the beginning.
      complete: whether a line without them is an error; else it ends the list, and the labels are
        "" if their column is ambiguous.

    Raises:
      ValueError: no columns for image and label, or several.
    """
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        return
    if path.lower().endswith(".csv") or ("," in lines[0] and "\t" not in lines[0]):
        try:
            # newline="": lines of other systems end in \r, and quoted fields hold line ends.
            rows = [row for row in csv.reader(io.StringIO(text, newline="")) if any(row)]
        except csv.Error as error:
            raise ValueError(f"{path} is no CSV ({error}): write it anew.") from None
    elif "\t" in lines[0]:
        rows = [line.split("\t") for line in lines]
    else:  # a path may hold spaces, a label here does not
        rows = [line.rsplit(None, 1) for line in lines]
    image, label, header = _columns(listing, rows[0], path)
    if label is None:
        if complete:
            raise ValueError(
                f"{listing.place(path)} has the columns {', '.join(rows[0])}: name the one with "
                "the labels with --label_column=NAME."
            )
        yield from ((_image_name(listing, row[image]), "") for row in rows[1:] if len(row) > image)
        return
    for row in rows[header:]:
        if len(row) <= max(image, label) or not row[label].strip() or not row[image].strip():
            if complete:
                raise ValueError(
                    f"{path} has a line {','.join(row)!r}: expected an image and a label."
                )
            return
        name = _image_name(listing, row[image])
        # Kaggle's PredictionString: a synset and its boxes.
        words = row[label].split()
        yield name, words[0] if devkit.SYNSET.match(words[0]) else row[label].strip()


def _image_name(listing, text):
    """A path as a list gives it: with backslashes, or from the root of the file system."""
    text = text.strip()
    if "/" not in text:
        text = text.replace("\\", "/")
    return os.path.normpath(text.removeprefix(f"{os.path.abspath(listing.source)}/"))


def _columns(listing, row, path):
    """(number of the image's column, of the label's, number of header lines).

    The label's is None if it is ambiguous.
    """
    names = [name.strip().lower().lstrip("#") for name in row]
    image, label = (
        [names.index(wanted.lower())]
        if wanted is not None and wanted.lower() in names
        else [n for n, name in enumerate(names) if name in usual]
        for wanted, usual in (
            (listing.image_column, _PATH_COLUMNS),
            (listing.label_column, _LABEL_COLUMNS),
        )
    )
    if len(names) < 2:
        raise ValueError(f"{path} has one column: expected an image and a label.")
    if not image:
        return 0, 1, 0  # no header
    if not label and len(names) == 2:
        label = [1 - image[0]]
    return image[0], label[0] if len(label) == 1 else None, 1
