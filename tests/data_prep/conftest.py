"""Real images in every condition, and folders of them."""

import importlib.util
import io
import os
import pathlib
import subprocess
import sys
import types

import cv2
import numpy as np
import pytest
import simplejpeg
import tensorflow as tf
from PIL import Image

from alexnet_tf.data import records
from data_prep import checks, convert

KEYS = ("synset", "file_name")
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def photograph(name="chelsea", height=375, width=500):
    """A shipped photograph at the size asked for, uint8 (height, width, 3) RGB."""
    import skimage

    path = os.path.join(os.path.dirname(skimage.__file__), "data", f"{name}.png")
    pixels = cv2.imread(path)[..., ::-1]
    return np.ascontiguousarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA))


def jpeg(pixels, quality=90):
    return simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality, "RGB", "420")


def pil_bytes(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def run_module(module, *arguments, **environment):
    """Runs a command as a user does."""
    return subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


def last_line(text):
    return text.strip().splitlines()[-1]


@pytest.fixture(scope="session")
def real():
    """The functions above: test modules cannot import this file."""
    return types.SimpleNamespace(
        photograph=photograph,
        jpeg=jpeg,
        pil_bytes=pil_bytes,
        write=write,
        run=run_module,
        last_line=last_line,
    )


@pytest.fixture(scope="session")
def sources():
    """The module sources.py: sources in every layout."""
    place = pathlib.Path(__file__).with_name("sources.py")
    spec = importlib.util.spec_from_file_location("sources", place)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def images(sources, real):
    return sources.images(real)


@pytest.fixture(scope="session")
def photo_folders(tmp_path_factory):
    """The embedded photographs, a few of each class: train/<class>/*.jpg, val/<class>/*.jpg."""
    from data_prep import photos

    return photos.write_photos(str(tmp_path_factory.mktemp("photos") / "folders"), 84, 42)


@pytest.fixture(scope="session")
def nasty():
    """file name -> bytes of images that are odd but whole."""
    colour = photograph("chelsea")
    image = Image.fromarray(colour)
    grey = image.convert("L")
    ramp = np.asarray(grey).astype(np.uint16) * 257
    turned = Image.Exif()
    turned[0x0112] = 6
    whole = jpeg(colour)
    return {
        "plain.jpg": whole,
        "cmyk.jpg": pil_bytes(image.convert("CMYK"), "JPEG", quality=95),
        "png_as.jpg": pil_bytes(image, "PNG"),
        "grey.jpg": pil_bytes(grey, "JPEG", quality=95),
        "sixteen.png": pil_bytes(Image.fromarray(ramp), "PNG"),
        "alpha.png": pil_bytes(image.convert("RGBA"), "PNG"),
        "grey_alpha.png": pil_bytes(grey.convert("LA"), "PNG"),
        "palette.png": pil_bytes(image.quantize(64), "PNG"),
        "bilevel.png": pil_bytes(image.convert("1"), "PNG"),
        "turned.jpg": pil_bytes(image, "JPEG", quality=95, exif=turned),
        "image.gif": pil_bytes(image.quantize(64), "GIF"),
        "image.bmp": pil_bytes(image, "BMP"),
        "progressive.jpg": pil_bytes(image, "JPEG", quality=95, progressive=True),
        "stray_bytes.jpg": whole[:-2] + b"stray" + whole[-2:],
        "tiny.png": pil_bytes(Image.fromarray(colour[:1, :1]), "PNG"),
        "wide.jpg": jpeg(colour[:12]),
        "tall.jpg": jpeg(colour[:, :15]),
    }


@pytest.fixture(scope="session")
def bad():
    """file name -> bytes of what cannot be decoded."""
    whole = jpeg(photograph("chelsea"))
    png = pil_bytes(Image.fromarray(photograph("coffee")), "PNG")
    cmyk = pil_bytes(Image.fromarray(photograph("coffee")).convert("CMYK"), "JPEG")
    return {
        "empty.jpg": b"",
        "cut.jpg": whole[: len(whole) // 2],
        "cut.png": png[: len(png) // 2],
        "cut_cmyk.jpg": cmyk[: len(cmyk) // 2],
        "text.jpg": b"<html>404 Not Found</html>",
        "header_only.jpg": whole[:20],
        "zeros.jpg": bytes(5000),
    }


@pytest.fixture(scope="session")
def jpg(real):
    """A function: number -> a small JPEG, another for each number."""
    photo = real.photograph("chelsea", 60, 80)
    return lambda number: real.jpeg(photo[number : number + 30, number : number + 40])


@pytest.fixture
def plant(tmp_path, real, jpg):
    """Writes images: folder -> how many; returns the source."""

    def plant(**folders):
        source = tmp_path / "source"
        number = 0
        for folder, count in folders.items():
            for n in range(count):
                real.write(source / folder.replace("__", "/") / f"p{n}.jpg", jpg(number % 25))
                number += 1
        return source

    return plant


@pytest.fixture
def converted(tmp_path, capsys):
    """Converts a source; returns the manifest, the stored images and the report."""

    def convert_(source, *flags, verify=True):
        output = tmp_path / f"out{len(os.listdir(tmp_path))}"
        done = convert.main(
            [f"--source={source}", f"--output={output}", "--image_size=16", "--workers=1", *flags]
        )
        printed = capsys.readouterr()
        assert done == 0, printed.err
        manifest = records.read_manifest(str(output))
        if verify:
            assert checks.verify(str(output), 1, source=str(source))["problems"] == []
        stored = {
            (
                shard["split"],
                *(row[key].bytes_list.value[0].decode() for key in ("synset", "file_name")),
            )
            for shard in manifest["shards"]
            for record in tf.data.TFRecordDataset(str(output / shard["file"]))
            for row in [tf.train.Example.FromString(record.numpy()).features.feature]
        }
        assert len(stored) == sum(manifest["counts"].values()), "two images have one name"
        return manifest, stored, printed.out

    return convert_


@pytest.fixture
def refused(tmp_path, capsys):
    def refused(source, *flags):
        output = tmp_path / "refused"
        done = convert.main([f"--source={source}", f"--output={output}", "--workers=1", *flags])
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert done == 1 and error.startswith("error: ") and "Traceback" not in error
        assert not output.exists() and not os.path.exists(f"{output}.partial")
        return error

    return refused
