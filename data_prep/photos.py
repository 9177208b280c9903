"""Writes the embedded data set: crops of the photographs in scikit-image's wheel.

Each photograph is a class, each image a crop of it: JPEGs of many sizes, portrait and landscape,
some greyscale, like a folder of ImageNet files. Nothing is downloaded.

Every photograph is divided into square cells, four to its shorter side. One cell in five, a
knight's move apart, is for validation: a validation image is inside one such cell and a training
image touches none. So no pixel is shared, yet every validation cell has training cells on all
sides, at the same scale.

    python -m data_prep.photos --output=DIR
"""

import contextlib
import dataclasses
import functools
import json
import os
import sys
import tempfile

from alexnet_tf import cli, files

# File in skimage/data (public domain or CC0 by its README) -> class. motorcycle_right.png shows the
# scene of motorcycle_left.png a second time, so it is no class of its own.
PHOTOGRAPHS = {
    "astronaut.png": "astronaut",
    "brick.png": "brick",
    "camera.png": "camera",
    "chelsea.png": "chelsea",
    "coffee.png": "coffee",
    "coins.png": "coins",
    "grass.png": "grass",
    "gravel.png": "gravel",
    "hubble_deep_field.jpg": "hubble",
    "ihc.png": "ihc",
    "moon.png": "moon",
    "motorcycle_left.png": "motorcycle",
    "retina.jpg": "retina",
    "rocket.jpg": "rocket",
}
CROPS_FILE = "photos.json"
CELLS = 4  # cells along a photograph's shorter side
# Cell (row, column) belongs to validation when (column + step * row) mod 5 == phase. Step and phase
# are chosen for each photograph so that its validation cells look more like its own training cells
# than like any cell of another photograph, by histograms of colours and of gradients: a class is
# then something that can be known from the training side.
VALIDATION_PERIOD = 5
STEP_AND_PHASE = {
    "astronaut.png": (3, 3),
    "brick.png": (3, 4),
    "camera.png": (3, 0),
    "chelsea.png": (3, 1),
    "coffee.png": (3, 1),
    "coins.png": (3, 3),
    "grass.png": (2, 4),
    "gravel.png": (3, 2),
    "hubble_deep_field.jpg": (2, 1),
    "ihc.png": (2, 4),
    "moon.png": (3, 4),
    "motorcycle_left.png": (3, 3),
    "retina.jpg": (3, 2),
    "rocket.jpg": (2, 3),
}
# A crop's scale (root of its area), in cells. Validation crops must fit into one cell.
TRAIN_SCALE, VALIDATION_SCALE = (0.8, 1.5), (0.8, 1.0)
MAX_ASPECT = 4 / 3
SHORTER_SIDE = (180, 420)  # of the written image, in pixels: below and above 256
QUALITY = (70, 98)
GREY_OF_GREY, GREY_OF_COLOUR = 0.25, 0.02  # share stored with a single component
# Crops that show next to nothing (sky, the black around the retina) are drawn again. The standard
# deviation of the grey levels, in 0..255.
MIN_CONTRAST = 5.0


@dataclasses.dataclass(frozen=True)
class Crop:
    """Where an image comes from: rows top..bottom and columns left..right, ends exclusive."""

    file: str
    photograph: str
    top: int
    left: int
    bottom: int
    right: int


def validation_cells(photograph: str, height: int, width: int) -> list[tuple[int, int, int, int]]:
    """The (top, left, bottom, right) boxes of a photograph that belong to validation."""
    step, phase = STEP_AND_PHASE[photograph]
    side = min(height, width) // CELLS
    return [
        (row * side, column * side, (row + 1) * side, (column + 1) * side)
        for row in range(height // side)
        for column in range(width // side)
        if (column + step * row) % VALIDATION_PERIOD == phase
    ]


def read_photographs() -> dict:
    """File name -> pixels, uint8, (height, width) for a grey photograph, else (..., 3) RGB.

    Raises:
      FileNotFoundError: scikit-image is not there or lacks one of the photographs.
    """
    import importlib.util

    import cv2

    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        raise FileNotFoundError(
            "The embedded photographs ship with scikit-image, which is not installed: "
            "`pip install scikit-image`."
        )
    folder = os.path.join(os.path.dirname(spec.origin), "data")
    images = {}
    for name in PHOTOGRAPHS:
        pixels = cv2.imread(os.path.join(folder, name), cv2.IMREAD_UNCHANGED)
        if pixels is None:
            raise FileNotFoundError(
                f"scikit-image's folder {folder} has no readable {name}: install the wheel of "
                "scikit-image 0.22 or later."
            )
        images[name] = pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    return images


def write_photos(output_dir: str, train: int = 1500, validation: int = 300, seed: int = 0) -> str:
    """Writes `train/<class>/*.jpg` and `val/<class>/*.jpg`, and where each was cut (photos.json).

    Images are dealt to the classes in turn, so classes differ by one image at most. The same
    arguments give the same bytes. The folder is written aside and renamed; when it is already
    there with the same arguments nothing is done.

    Args:
      output_dir: the folder to make.
      train: number of training images, at least 1.
      validation: number of validation images, at least 1.
      seed: of the random places, scales and qualities.

    Returns:
      output_dir.

    Raises:
      FileExistsError: output_dir holds something else.
      FileNotFoundError: scikit-image's photographs are not there.
    """
    if train < 1 or validation < 1:
        raise ValueError(f"Both splits need an image: found {train} and {validation}.")
    output_dir = os.path.normpath(output_dir)
    settings = {"train": train, "validation": validation, "seed": seed}
    if _is_written(output_dir, settings):
        return output_dir
    from data_prep import storage

    with files.aside(os.path.dirname(os.path.abspath(output_dir))) as aside:
        with storage.needs_room(aside):
            _write_all(aside, settings)
        os.replace(aside, output_dir)
    return output_dir


def _write_all(folder, settings):
    from alexnet_tf.progress import tqdm

    photographs, crops = read_photographs(), []
    train, validation, seed = (settings[name] for name in ("train", "validation", "seed"))
    with tqdm(total=train + validation, desc="photos", unit="image") as bar:
        for split, count in (("train", train), ("val", validation)):
            for index, name in enumerate(PHOTOGRAPHS):
                share = len(range(index, count, len(PHOTOGRAPHS)))
                random = _generator(seed, split, index)
                crops += _write_class(folder, split, name, photographs[name], (share, random))
                bar.update(share)
    record = {"settings": settings, "crops": [dataclasses.asdict(crop) for crop in crops]}
    with open(os.path.join(folder, CROPS_FILE), "w", encoding="utf-8") as file:
        json.dump(record, file)


def prepare_photos(output_dir: str, train: int = 1500, validation: int = 300, seed: int = 0) -> str:
    """The embedded photographs as a prepared data set (records.py) in `output_dir`.

    The folders of JPEGs are made in a temporary place and removed again. When the data
    set is already there with the same images nothing is done.

    Returns:
      output_dir.

    Raises:
      FileExistsError: output_dir holds something else.
    """
    from data_prep import preparation, publishing

    output_dir = os.path.normpath(output_dir)
    name = f"embedded photographs, {train} + {validation}, seed {seed}"
    settings = preparation.Settings(layout="folders", seed=seed, source_name=name)
    if publishing.finished(output_dir, settings):
        return output_dir
    with tempfile.TemporaryDirectory() as folder:
        folders = write_photos(os.path.join(folder, "photos"), train, validation, seed)
        preparation.prepare(folders, output_dir, settings)
    return output_dir


def cached_photos() -> str:
    """The directory of `prepare_photos` in the user's cache, prepared on first use.

    alexnet_tf/photographs in $XDG_CACHE_HOME or ~/.cache: the default data of several commands.
    """
    return prepare_photos(files.cache_directory("photographs"))


def _is_written(output_dir: str, settings: dict) -> bool:
    if not os.path.exists(output_dir) or (os.path.isdir(output_dir) and not os.listdir(output_dir)):
        return False
    found = None
    path = os.path.join(output_dir, CROPS_FILE)
    with contextlib.suppress(OSError, ValueError, KeyError), open(path, encoding="utf-8") as file:
        found = json.load(file)["settings"]
    if found != settings:
        what = "something else" if found is None else f"photographs with {found}"
        raise FileExistsError(
            f"{output_dir} already holds {what}, expected {settings}: remove it or name another "
            "directory."
        )
    return True


def _generator(seed: int, split: str, index: int):
    import numpy as np

    return np.random.default_rng([seed, int(split == "val"), index])


def _write_class(root, split, name, pixels, share_and_random):
    share, random = share_and_random
    label = PHOTOGRAPHS[name]
    os.makedirs(os.path.join(root, split, label))
    draw = _draw_validation if split == "val" else _draw_training
    crops = []
    for number in range(share):
        box = _draw_visible(functools.partial(draw, name), pixels, random)
        image = _resized(pixels[box[0] : box[2], box[1] : box[3]], random)
        grey_share = GREY_OF_GREY if pixels.ndim == 2 else GREY_OF_COLOUR
        encoded = _encoded(image, int(random.integers(*QUALITY)), random.random() < grey_share)
        file = f"{split}/{label}/{label}_{number:05d}.jpg"
        with open(os.path.join(root, file), "wb") as out:
            out.write(encoded)
        crops.append(Crop(file, name, *box))
    return crops


def _draw_visible(draw, pixels, random):
    for _ in range(100):
        top, left, bottom, right = box = draw(*pixels.shape[:2], random)
        if pixels[top:bottom, left:right].std() >= MIN_CONTRAST:
            break
    return box


def _sides(cell: int, scale: tuple[float, float], random) -> tuple[int, int]:
    """(height, width) in pixels of a crop with a random scale and shape."""
    size = cell * random.uniform(*scale)
    stretch = MAX_ASPECT ** (random.uniform(-1, 1) / 2)
    return round(size * stretch), round(size / stretch)


def _draw_validation(photograph, height, width, random):
    cells = validation_cells(photograph, height, width)
    top, left, bottom, _ = cells[random.integers(len(cells))]
    cell = bottom - top
    rows, columns = (min(side, cell) for side in _sides(cell, VALIDATION_SCALE, random))
    top += int(random.integers(cell - rows + 1))
    left += int(random.integers(cell - columns + 1))
    return top, left, top + rows, left + columns


def _draw_training(photograph, height, width, random):
    cells = validation_cells(photograph, height, width)
    while True:
        rows, columns = _sides(min(height, width) // CELLS, TRAIN_SCALE, random)
        top = int(random.integers(height - rows + 1))
        left = int(random.integers(width - columns + 1))
        bottom, right = top + rows, left + columns
        apart = (
            bottom <= cell[0] or top >= cell[2] or right <= cell[1] or left >= cell[3]
            for cell in cells
        )
        if all(apart):
            return top, left, bottom, right


def _resized(pixels, random):
    import cv2

    height, width = pixels.shape[:2]
    factor = random.uniform(*SHORTER_SIDE) / min(height, width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return cv2.resize(pixels, size, interpolation=method)


def _encoded(pixels, quality, single_component):
    import cv2
    import simplejpeg

    if single_component:
        grey = pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
        return simplejpeg.encode_jpeg(grey[..., None], quality, "GRAY", "Gray")
    colour = cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB) if pixels.ndim == 2 else pixels
    return simplejpeg.encode_jpeg(colour, quality, "RGB", "420")


def _define(flags):
    from absl import flags as absl_flags

    absl_flags.DEFINE_string("output", None, "The folder to make.", flag_values=flags)
    absl_flags.DEFINE_integer("train", 1500, "Training images.", 1, flag_values=flags)
    absl_flags.DEFINE_integer("validation", 300, "Validation images.", 1, flag_values=flags)
    absl_flags.DEFINE_integer("seed", 0, "Seed of places and scales.", 0, flag_values=flags)


def _main(flags, args):
    if not flags.output or args:
        raise cli.UsageError(f"Name the folder to make with --output=DIR; found {args or 'none'}.")
    write_photos(flags.output, flags.train, flags.validation, flags.seed)
    print(f"{flags.train} training and {flags.validation} validation images in {flags.output}")


def main(argv=None) -> int:
    """Runs the command; returns the exit code."""
    return cli.run(_define, _main, argv, doc=__doc__)


if __name__ == "__main__":
    sys.exit(main())
