"""What the development kits and label lists of ILSVRC say about pictures without class folders.

Label orders differ: a devkit counts 1..1000 in an order of its own, everybody else sorts the
synsets. Every reader here returns synsets (WNIDs), through which all orders agree.
"""

import csv
import io
import os
import re
import tarfile
from collections.abc import Callable

from data_prep import storage

SYNSET = re.compile(r"n\d{8}$")
NUMBER = re.compile(r"_(\d{8})\.")
DEVKITS = {
    2010: (
        "ILSVRC2010_devkit-1.0.tar.gz",
        "devkit-1.0.tar.gz",
        "devkit-1.0",
        "ILSVRC2010_devkit-1.0",
        "devkit",
        ".",
    ),
    2012: ("ILSVRC2012_devkit_t12.tar.gz", "ILSVRC2012_devkit_t12", "devkit", "."),
}
SYNSET_LISTS = (
    "synset_labels.txt",
    "imagenet_2012_validation_synset_labels.txt",
    "validation_synset_labels.txt",
)


def picture_number(file_name: str) -> int:
    """57 for ILSVRC2012_val_00000057.JPEG: the line of the label list that belongs to it.

    Raises:
      ValueError: the name has no such number.
    """
    found = NUMBER.search(file_name)
    if not found:
        raise ValueError(
            f"The picture {file_name} has no number: expected a name as "
            "ILSVRC2012_val_00000001.JPEG, because labels are listed in that order."
        )
    return int(found[1])


def labels_of_devkit(source: str, year: int, split: str) -> Callable[[str], str]:
    """file name -> synset, from the ground truth and meta.mat of a devkit (archive or folder).

    Raises:
      FileNotFoundError: no devkit; lists each path that was looked for.
    """
    name = f"ILSVRC{year}_{split}_ground_truth.txt"
    looked_for = []
    for kit in DEVKITS[year]:
        path = source if kit == "." else os.path.join(source, kit)
        if kit.endswith(".tar.gz"):
            looked_for.append(path)
            if storage.exists(path):
                truth, meta = _from_archive(path, name)
                return _by_id(truth, meta, name)
            continue
        for folder in (os.path.join(path, "data"), path):
            truth, meta = os.path.join(folder, name), os.path.join(folder, "meta.mat")
            looked_for += [truth, meta]
            if storage.exists(truth) and storage.exists(meta):
                return _by_id(_read(truth), _read(meta), truth)
    raise FileNotFoundError(
        f"The labels of the {split} pictures of ILSVRC-{year} are missing; looked for "
        f"{', '.join(dict.fromkeys(looked_for))}: put the development kit there."
    )


def labels_of_lists(source: str, folder: str, synsets: list[str]) -> Callable[[str], str] | None:
    """file name -> synset, from a text list beside the pictures; None if there is no list.

    A list is `val.txt` ("name label", the label an index into the sorted synsets, or a synset) or
    one synset per line in the order of the pictures' numbers.
    """
    for name in (f"{folder}.txt", "val.txt"):
        path = os.path.join(source, name)
        if storage.exists(path):
            return _by_name(_read(path).decode(), synsets, path)
    for name in SYNSET_LISTS:
        path = os.path.join(source, name)
        if storage.exists(path):
            return _by_number(_read(path).decode().split(), path)
    return None


def labels_of_kaggle(path: str) -> Callable[[str], str]:
    """file name -> synset, from LOC_val_solution.csv ("ImageId,PredictionString")."""
    rows = csv.DictReader(io.StringIO(_read(path).decode()))
    try:
        table = {row["ImageId"]: row["PredictionString"].split()[0] for row in rows}
    except (KeyError, IndexError, AttributeError):
        raise ValueError(
            f"{path} has other columns than ImageId,PredictionString with a synset first: get the "
            "file from the competition's page again."
        ) from None
    return lambda file_name: _look_up(table, file_name.rpartition(".")[0], path)


def _by_id(truth, meta, name):
    """Devkit ids, one a line, through the table of meta.mat."""
    synset_of = _synsets_of_meta(meta)
    try:
        ids = [int(line) for line in truth.split()]
        return _by_number([synset_of[number] for number in ids], name)
    except (ValueError, KeyError) as error:
        raise ValueError(
            f"{name} holds {error}, which is no ILSVRC id of its meta.mat: expected one number of "
            "1..1000 per line, use the ground truth and meta.mat of one development kit."
        ) from None


def _synsets_of_meta(meta: bytes) -> dict[int, str]:
    import scipy.io

    synsets = scipy.io.loadmat(io.BytesIO(meta), squeeze_me=True, struct_as_record=False)["synsets"]
    first = synsets.flat[0]
    # Later copies call the field after their own year and keep the numbers.
    field = next(name for name in first._fieldnames if name.endswith("_ID"))
    return {int(getattr(entry, field)): str(entry.WNID) for entry in synsets.flat}


def _by_number(synsets, path):
    def label(file_name):
        number = picture_number(file_name)
        if not 1 <= number <= len(synsets):
            raise ValueError(
                f"{path} has {len(synsets)} lines but there is a picture {file_name}: use the list "
                "that belongs to these pictures."
            )
        return synsets[number - 1]

    return label


def _by_name(text, synsets, path):
    table = {}
    for line in text.splitlines():
        columns = line.split()
        if len(columns) != 2:
            raise ValueError(f"{path} has a line {line!r}: expected a file name and a label.")
        name, label = columns
        if not SYNSET.match(label):
            if not label.isdigit() or int(label) >= len(synsets):
                raise ValueError(
                    f"{path} gives {name} the label {label}: expected a synset or a number below "
                    f"{len(synsets)}, the number of training classes."
                )
            label = synsets[int(label)]
        table[os.path.basename(name)] = label
    return lambda file_name: _look_up(table, file_name, path)


def _look_up(table, key, path):
    if key not in table:
        raise ValueError(
            f"{path} has no label for the picture {key}: use the list of these pictures."
        )
    return table[key]


def _from_archive(path, truth_name):
    """(ground truth, meta.mat) out of a devkit's .tar.gz, a few hundred kilobytes."""
    found = {}
    try:
        with storage.open_binary(path) as file, tarfile.open(fileobj=file, mode="r:gz") as archive:
            for member in archive:
                name = os.path.basename(member.name)
                wanted = member.isfile() and name in (truth_name, "meta.mat")
                if wanted and (content := archive.extractfile(member)):
                    found[name] = content.read()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ValueError(f"{path} is no whole development kit ({error}): get it again.") from None
    if len(found) < 2:
        missing = {truth_name, "meta.mat"} - set(found)
        raise ValueError(f"{path} lacks {', '.join(sorted(missing))}: get it again.")
    return found[truth_name], found["meta.mat"]


def _read(path):
    with storage.open_binary(path) as file:
        return file.read()
