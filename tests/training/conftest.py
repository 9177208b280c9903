"""Small data sets of real images, prepared by data_prep's own command."""

import importlib.util
import pathlib
import signal
import struct

import keras
import numpy as np
import pytest
import skimage.data
from PIL import Image

PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket", "retina", "immunohistochemistry")


def write_idx(directory, split, pictures, labels):
    """MNIST's two files of a split: uint8 (n, h, w) images, labels 0..9."""
    directory.mkdir(exist_ok=True)
    images = struct.pack(">4I", 2051, *pictures.shape) + pictures.tobytes()
    (directory / f"{split}-images-idx3-ubyte").write_bytes(images)
    content = struct.pack(">2I", 2049, len(labels)) + bytes(int(label) for label in labels)
    (directory / f"{split}-labels-idx1-ubyte").write_bytes(content)


def convert(source, output, *flags):
    from data_prep import convert as command

    common = [f"--source={source}", f"--output={output}", "--workers=1"]
    assert not command.main([*common, *flags])
    return str(output)


@pytest.fixture(scope="session")
def digit_files(tmp_path_factory):
    """scikit-learn's 1,797 handwritten digits in MNIST's files: 20x20 ink on 28x28, 1,500 train."""
    digits = pytest.importorskip("sklearn.datasets").load_digits()
    pictures = np.zeros((len(digits.images), 28, 28), np.uint8)
    for image, small in zip(pictures, digits.images, strict=True):
        ink = Image.fromarray((small * 255 / 16).astype(np.uint8))
        image[4:24, 4:24] = np.asarray(ink.resize((20, 20), Image.Resampling.BICUBIC))
    directory = tmp_path_factory.mktemp("digits")
    write_idx(directory, "train", pictures[:1500], digits.target[:1500])
    write_idx(directory, "t10k", pictures[1500:], digits.target[1500:])
    return directory


@pytest.fixture(scope="session")
def digit_records(digit_files, tmp_path_factory):
    """The digits as a prepared data set of grey 28-pixel images."""
    return convert(digit_files, tmp_path_factory.mktemp("prepared") / "digits28")


@pytest.fixture(scope="session")
def small_photo_folders(tmp_path_factory):
    """Colour windows of 32 pixels out of 6 photographs, as class folders: 144 train, 36 val."""
    directory = tmp_path_factory.mktemp("windows")
    rng = np.random.default_rng(5)
    for name in PHOTOGRAPHS:
        photograph = getattr(skimage.data, name)()[..., :3]
        for number in range(30):
            top, left = (rng.integers(side - 32) for side in photograph.shape[:2])
            folder = directory / ("val" if number >= 24 else "train") / name
            folder.mkdir(parents=True, exist_ok=True)
            window = photograph[top : top + 32, left : left + 32]
            Image.fromarray(window).save(folder / f"{number:03d}.png")
    return directory


@pytest.fixture(scope="session")
def small_photo_records(small_photo_folders, tmp_path_factory):
    """Those windows as a prepared data set of colour 32-pixel images."""
    output = tmp_path_factory.mktemp("prepared") / "windows32"
    return convert(small_photo_folders, output, "--image_size=32", "--encoding=raw")


@pytest.fixture(scope="session")
def tiny():
    """The module tiny.py."""
    place = pathlib.Path(__file__).with_name("tiny.py")
    spec = importlib.util.spec_from_file_location("tiny", place)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tiny_network(tiny, monkeypatch):
    """Adds tiny.py's networks to the variants as "tiny" and "tiny_columns"."""
    from alexnet_tf.models import catalog

    for variant in (tiny.variant(), tiny.columns()):
        monkeypatch.setitem(catalog._VARIANTS, variant.name, variant)


class StopAt(keras.callbacks.Callback):
    """Sends this process a real SIGTERM at a step."""

    def __init__(self, step):
        super().__init__()
        self.step, self.seen = step, []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(batch)
        if batch == self.step:
            signal.raise_signal(signal.SIGTERM)


@pytest.fixture
def stop_at():
    """A function of a step that gives a callback which stops the run there."""
    return StopAt


@pytest.fixture
def tiny_run(tiny_network, small_photo_records, tmp_path):
    """A function that gives a run of "tiny_columns" in three steps an epoch; recipe fields in."""
    from alexnet_tf.training import loop
    from alexnet_tf.training.recipes import Recipe

    def make(workdir="run", data_dir=small_photo_records, **fields):
        recipe = Recipe(
            **{
                "model": "tiny_columns",
                "epochs": 2,
                "batch_size": 48,
                "initializer": "he",
                "schedule": "constant",
                "learning_rate": 1e-3,
                **fields,
            }
        )
        return loop.Run(recipe, data_dir, str(tmp_path / workdir), seed=1)

    return make


@pytest.fixture
def saved_weights(tmp_path):
    """A function of a workdir's name that gives its network's weights by path."""

    def read(workdir="run"):
        from alexnet_tf.models import load_model

        model = load_model(tmp_path / workdir / "model.keras")
        return {weight.path: np.asarray(weight) for weight in model.weights}

    return read
