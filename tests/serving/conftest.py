"""An AlexNet a quarter as wide, its export, and photographs in the shapes that users send.

tests/test_end_to_end.py exports the whole network.
"""

import io
import json
import os
import subprocess

import numpy as np
import pytest
import skimage.data
from PIL import Image

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

NAMES = [f"thing {n}" for n in range(14)]


@pytest.fixture(scope="session")
def workdir(tmp_path_factory):
    """A run's directory: model.keras and config.json."""
    import keras

    from alexnet_tf import models
    from alexnet_tf.experiments import networks

    directory = tmp_path_factory.mktemp("run")
    keras.utils.set_random_seed(3)
    narrow = networks.narrowed(models.catalog.find_variant("alexnet"), 4)
    models.catalog.add_variant(narrow)
    # Weights that spread the probabilities: the published ones start with nearly equal outputs.
    models.build_model(narrow.name, classes=14, initializer="he").save(directory / "model.keras")
    (directory / "config.json").write_text(json.dumps({"class_names": NAMES, "image_size": 256}))
    return directory


@pytest.fixture(scope="session")
def network(workdir):
    from alexnet_tf.models import saved_run

    return saved_run.open_model(str(workdir))


@pytest.fixture(scope="session")
def exported(network, tmp_path_factory):
    """saved_models/alexnet/1, as a string."""
    from alexnet_tf.serving import export

    output = tmp_path_factory.mktemp("saved_models") / "alexnet"
    return export.export_saved_model(network, NAMES, str(output))


@pytest.fixture
def full_disk(tmp_path):
    """A file system with 50 kB left."""
    directory = tmp_path / "disk"
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(directory)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs rights that this user does not have")
    (directory / "ballast").write_bytes(bytes(2**20 - 50_000))
    yield directory
    subprocess.run(["umount", "--lazy", str(directory)], check=True)


@pytest.fixture
def without():
    """A program's first lines, after which the packages named do not exist for it."""
    return lambda *names: (
        f"""
import sys

class Hiding:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, *rest):
        hidden = name.split(".")[0] in {names}
        return None if hidden else self.finder.find_spec(name, *rest)

sys.meta_path[:] = [Hiding(finder) for finder in sys.meta_path]
"""
    )


def _encoded(pixels, **options):
    buffer = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(buffer, **options)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    """name -> path of real photographs in many forms."""
    astronaut, chelsea = skimage.data.astronaut(), skimage.data.chelsea()
    coffee, coins = skimage.data.coffee(), skimage.data.coins()
    alpha = Image.fromarray(coffee).convert("RGBA")
    alpha.putalpha(
        Image.fromarray(
            (np.arange(coffee.size // 3) % 256).astype(np.uint8).reshape(coffee.shape[:2])
        )
    )
    contents = {
        "astronaut.jpg": _encoded(astronaut, format="JPEG", quality=95),
        "progressive.jpg": _encoded(astronaut, format="JPEG", quality=90, progressive=True),
        "small.png": _encoded(chelsea[:120, :90], format="PNG"),
        "portrait.jpg": _encoded(coffee.transpose(1, 0, 2), format="JPEG", quality=95),
        "grey.png": _encoded(coins, format="PNG"),
        "grey.jpg": _encoded(coins, format="JPEG", quality=95),
        "alpha.png": _encoded(alpha, format="PNG"),
        "palette.png": _encoded(Image.fromarray(coffee).quantize(64), format="PNG"),
        "deep.png": _encoded(Image.fromarray(coins.astype(np.uint16) * 257), format="PNG"),
        "cmyk.jpg": _encoded(Image.fromarray(chelsea).convert("CMYK"), format="JPEG"),
        "dot.png": _encoded(chelsea[:1, :1], format="PNG"),
        "png_named.jpg": _encoded(chelsea, format="PNG"),
    }
    directory = tmp_path_factory.mktemp("pictures")
    for name, content in contents.items():
        (directory / name).write_bytes(content)
    return {name: str(directory / name) for name in contents}


@pytest.fixture(scope="session")
def bad_images(images, tmp_path_factory):
    """name -> path of files that no network should be asked about."""
    with open(images["astronaut.jpg"], "rb") as file:
        jpeg = file.read()
    with open(images["alpha.png"], "rb") as file:
        png = file.read()
    flipped, bomb = bytearray(png), bytearray(png)
    flipped[len(png) // 2] ^= 255
    bomb[16:24] = (100_000).to_bytes(4, "big") * 2  # width and height in the header
    contents = {
        "empty.jpg": b"",
        "text.jpg": b"not an image at all, and longer than any header that is looked at",
        "cut.jpg": jpeg[: len(jpeg) // 2],
        "magic.jpg": jpeg[:3],
        "cut.png": png[:5000],
        "magic.png": png[:8],
        "flipped.png": bytes(flipped),
        "bomb.png": bytes(bomb),
        "long.png": _encoded(np.zeros((1, 300), np.uint8), format="PNG"),
        "thin.png": _encoded(np.zeros((5000, 1), np.uint8), format="PNG"),
        **{
            f"other.{ending}": _encoded(skimage.data.chelsea()[:64, :64], format=ending)
            for ending in ("gif", "bmp", "webp", "tiff")
        },
    }
    directory = tmp_path_factory.mktemp("bad")
    for name, content in contents.items():
        (directory / name).write_bytes(content)
    return {name: str(directory / name) for name in contents}
