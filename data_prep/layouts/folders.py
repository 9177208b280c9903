"""A folder per class: train/<class>/*, val/<class>/*; or a tree of classes without splits.

A split may also be a flat folder of images with a list of labels (`labels.py`, `devkit.py`), or a
test split without labels.
"""

import collections
import dataclasses
import os
import unicodedata
from collections.abc import Callable, Iterator

from data_prep import accounting
from data_prep.layouts import devkit, labels
from data_prep.listing import File, Listing
from data_prep.plan import FOLDER, IMAGE, UNLABELLED, LeftOut, SourceImage

# Usual folder names of the splits, in any case.
SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "trainset": "train",
    "train_set": "train",
    "training_set": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "validation_set": "validation",
    "val_set": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
    "testset": "test",
    "test_set": "test",
}
NO_LABELS = (
    "its images are in no class folders and no list of labels belongs to them. Expected one of "
    "these beside the folder: {folder}.csv (path,label), {folder}.txt or val.txt (path label), "
    "LOC_val_solution.csv, synset_labels.txt (a synset per line, in the order of the images' "
    "numbers), {folder}/val_annotations.txt, or ILSVRC's development kit"
)


def split_of(name: str) -> str | None:
    """The split that a folder name (or a word of a file name) means, or None."""
    return SPLIT_FOLDERS.get(name.lower().replace("-", "_"))


@dataclasses.dataclass(frozen=True)
class Tree:
    """How a source's folders are arranged.

    Attributes:
      root: the folder that holds the splits, or the classes: "" or a wrapping folder.
      splits: split -> folder (a path below the source). Training's is the root itself when the
        classes are on the top level.
    """

    root: str
    splits: dict[str, str]

    def classes(self, listing: Listing, split: str) -> list[str]:
        """Names of the folders with images in a split's folder."""
        folder = self.splits.get(split)
        if folder is None:
            return []
        names = folders_with_images(listing, folder)
        if folder == self.root:
            names = [
                name for name in names if os.path.join(folder, name) not in self._others(split)
            ]
        return names

    def _others(self, split):
        return {folder for name, folder in self.splits.items() if name != split}


def look(listing: Listing) -> Tree:
    """Finds the splits, behind wrapping folders too.

    Raises:
      ValueError: a split has two folders, or one folder holds both images and folders of images.
    """
    return listing.remember("tree", lambda: _look(listing))


def _look(listing):
    root = ""
    while True:
        names = folders_with_images(listing, root)
        splits = _splits(listing, root, names)
        rest = [name for name in names if os.path.join(root, name) not in splits.values()]
        holders = [name for name in rest if _holds_splits(listing, os.path.join(root, name))]
        if not splits and len(holders) == 1:
            root = os.path.join(root, holders[0])
            continue
        if splits or len(rest) != 1 or has_loose_images(listing, root):
            break
        only = os.path.join(root, rest[0])
        inside = folders_with_images(listing, only)
        if not inside:
            break
        if has_loose_images(listing, only):
            raise ValueError(
                f"{listing.place(only)} holds images and also folders of images, and nothing is "
                "beside it: expected <class>/* for each class."
            )
        root = only  # one folder around everything is no class
    if "train" not in splits and (rest or not splits):
        splits = {"train": root, **splits}
    return Tree(root, _unwrapped(listing, splits))


def _holds_splits(listing, folder):
    return any(split_of(name) == "train" for name in folders_with_images(listing, folder))


def _splits(listing, root, names):
    splits: dict[str, str] = {}
    for name in names:
        split = split_of(name)
        if split is None:
            continue
        folder = os.path.join(root, name)
        if split in splits:
            raise ValueError(
                f"{listing.source} has two folders for the {split} split, {splits[split]} and "
                f"{folder}: expected one, move the other away."
            )
        splits[split] = folder
    return splits


def _unwrapped(listing, splits):
    """train/images/<class>: a folder around all classes of a split is no class either."""
    if "train" not in splits:
        return splits
    folder, around = splits["train"], ""
    while True:
        names = folders_with_images(listing, folder)
        if len(names) != 1 or has_loose_images(listing, folder):
            break
        only = os.path.join(folder, names[0])
        if has_loose_images(listing, only) or len(folders_with_images(listing, only)) < 2:
            break
        folder, around = only, os.path.join(around, names[0])
    inner = {split: os.path.join(outer, around) for split, outer in splits.items()}
    return {
        split: inner[split] if around and has_images(listing, inner[split]) else outer
        for split, outer in splits.items()
    }


def folders_with_images(listing: Listing, folder: str) -> list[str]:
    """Names of the folders in `folder` that hold images, directly or below."""
    names = listing.visible_folders(folder)
    return [name for name in names if has_images(listing, os.path.join(folder, name))]


def has_images(listing: Listing, folder: str) -> bool:
    def search():
        if has_loose_images(listing, folder):
            return True
        names = listing.visible_folders(folder)
        return any(has_images(listing, os.path.join(folder, name)) for name in names)

    return listing.remember(("has_images", folder), search)


def has_loose_images(listing: Listing, folder: str) -> bool:
    """Whether the folder itself, not a folder in it, holds an image."""
    return any(accounting.looks_like_image(listing, file) for file in listing.files(folder))


def fits(listing: Listing) -> bool:
    """Whether class folders hold images, and no split needs a list of labels."""
    tree = look(listing)
    if devkit.is_kaggle(tree.root) or not any(
        tree.classes(listing, split) for split in tree.splits
    ):
        return False
    return not _needs_lists(listing, tree) and not _lists_name_other_classes(listing, tree)


def flat_fits(listing: Listing) -> bool:
    """Whether a list of labels is needed: for a split, or for all images."""
    tree = look(listing)
    if devkit.is_kaggle(tree.root):
        return False
    return _needs_lists(listing, tree) or _lists_name_other_classes(listing, tree)


def _needs_lists(listing, tree):
    for split in tree.splits:
        flat = is_flat(listing, tree, split)
        if flat is None:
            continue
        # This layout reports a validation split without labels. A test split may lack labels, and
        # without a list for training there is nothing to do.
        if split == "validation" or _label(listing, tree, split, flat):
            return True
    return False


def _lists_name_other_classes(listing, tree):
    """Whether a list gives images in apparent class folders other classes."""
    classes = tree.classes(listing, "train")
    if tree.splits.get("train") != tree.root or not classes:
        return False
    tables = labels.tables(listing, tree.root, tree.root)
    return any(not set(table.first_labels) <= set(map(normal, classes)) for table in tables)


def is_flat(listing: Listing, tree: Tree, split: str) -> str | None:
    """The folder with a split's images when these are in no class folders; else None."""
    folder = tree.splits[split]
    classes = tree.classes(listing, split)
    if has_loose_images(listing, folder) and not classes:
        return folder
    # val/images/*, beside classes of other names: Tiny ImageNet.
    if split != "train" and len(classes) == 1 and not has_loose_images(listing, folder):
        known = tree.classes(listing, "train")
        inside = os.path.join(folder, classes[0])
        if known and classes[0] not in known and has_loose_images(listing, inside):
            return inside
    return None


def images(listing: Listing, _: str) -> Iterator[SourceImage | LeftOut]:
    """Every image of every class folder, in the order of their names; and of flat splits.

    A file is an image by its suffix (then its bytes must agree) or by its bytes.
    """
    yield from read(listing, look(listing))


def by_lists(listing: Listing, _: str) -> Iterator[SourceImage | LeftOut]:
    """Images in flat folders whose classes are in lists beside them."""
    tree = look(listing)
    if tree.splits.get("train") == tree.root and labels.tables(listing, tree.root, tree.root):
        yield from labels.labelled_images(listing, tree.root, split_of)
    else:
        yield from read(listing, tree)


def kaggle_fits(listing: Listing) -> bool:
    return any(listing.is_folder(root) for root in devkit.KAGGLE_ROOTS)


def kaggle(listing: Listing, _: str) -> Iterator[SourceImage | LeftOut]:
    """ILSVRC/Data/CLS-LOC/{train/<synset>,val}, with LOC_val_solution.csv. Test has no labels."""
    root = listing.first(devkit.KAGGLE_ROOTS, "Kaggle's folder")
    splits = {}
    for split, name in (("train", "train"), ("validation", "val")):
        splits[split] = listing.first([os.path.join(root, name)], f"Kaggle's {name} folder")
    if listing.is_folder(os.path.join(root, "test")):
        splits["test"] = os.path.join(root, "test")
    tree = Tree(root, splits)
    if is_flat(listing, tree, "validation") is not None:
        names = ("LOC_val_solution.csv", "ILSVRC/LOC_val_solution.csv")
        listing.first(names, "The table of validation labels")
    yield from read(listing, tree)


def read(listing: Listing, tree: Tree) -> Iterator[SourceImage | LeftOut]:
    """The images of all splits of a tree."""
    known = {normal(name) for name in tree.classes(listing, "train")}
    for split, folder in tree.splits.items():
        flat = is_flat(listing, tree, split)
        classes = tree.classes(listing, split)
        if flat is not None:
            yield from _flat(listing, tree, split, flat)
        elif split == "test" and known and classes and not known & set(map(normal, classes)):
            reason = f"{split} images without labels: its folders are named as no class of training"
            yield LeftOut(f"{folder}/", reason, UNLABELLED)
        else:
            _refuse_splits_in_classes(listing, folder, classes)
            yield from _class_folders(listing, folder, split, classes)


def _refuse_splits_in_classes(listing, folder, classes):
    for name in classes:
        for inside in folders_with_images(listing, os.path.join(folder, name)):
            if split_of(inside):
                raise ValueError(
                    f"{listing.place(os.path.join(folder, name, inside))} is named as a split but "
                    "is inside a class: expected train/<class>/* and val/<class>/*."
                )


def _class_folders(listing, folder, split, names):
    """The images of each class folder and of all folders below it."""
    classes: dict[str, list[str]] = {}
    for name in names:  # names that differ only in their Unicode normal form are one class
        classes.setdefault(normal(name), []).append(name)
    for synset, same in classes.items():
        found = [
            (file, name)
            for name in same
            for file in listing.below(os.path.join(folder, name))
            if accounting.looks_like_image(listing, file)
        ]
        times = collections.Counter(file.name for file, _ in found)
        for file, name in found:
            file_name = file.name
            if times[file_name] > 1:
                above = os.path.join(folder, name) if len(same) == 1 else folder
                file_name = os.path.relpath(file.path, above) if above else file.path
            yield SourceImage(split, file.path, -1, file.size, file_name, synset, file.modified)


def _flat(listing, tree, split, folder):
    """The images of a split in one folder, with labels from a list; or left out."""
    label = _label(listing, tree, split, folder)
    whole = tree.splits[split]
    if label is None and split == "test":
        yield LeftOut(f"{whole}/", "test images without labels", UNLABELLED)
        return
    if label is None:
        name = os.path.basename(whole) or "labels"
        yield LeftOut(f"{whole}/", NO_LABELS.format(folder=name), FOLDER)
        return
    for file in listing.files(folder):
        if accounting.looks_like_image(listing, file):
            found = label(file)
            if found is None:
                yield LeftOut(file.path, "no list has a label for it", IMAGE)
            else:
                yield SourceImage(split, file.path, -1, file.size, file.name, found, file.modified)


def _label(listing, tree, split, folder) -> Callable[[File], str | None] | None:
    """A function from an image of a flat split to its class, from the first list; None without."""
    classes = sorted(normal(name) for name in tree.classes(listing, "train")) or None
    for table in labels.tables(listing, tree.root, folder):
        if table.split(split_of) in (split, None):
            return table.reader(listing, classes)
    by_number = devkit.labels_of_lists(listing, tree.root, split)
    if by_number is None and (year := devkit.year_of(listing, folder)):
        by_number = devkit.find_devkit(listing, year, split, [])
    if by_number is None:
        return None
    return lambda file: by_number(file.name)


def normal(name: str) -> str:
    """A folder name in Unicode normal form C, which names the class."""
    return unicodedata.normalize("NFC", name)
