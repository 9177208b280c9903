"""Files from outside, damaged at random: one sentence each, no traceback, no hang, no stray file.

The quick profile draws the same few examples each time; the slow one draws more.
"""

import contextlib
import gzip
import io
import json
import os
import pathlib
import pickle
import signal
import struct
import tarfile
import tempfile
import types

import hypothesis
import numpy as np
import pytest
import scipy.io
from hypothesis import strategies as st
from PIL import Image

from alexnet_tf.data import record_places, records
from data_prep import accounting, checks, images, layouts, listing, writer
from data_prep.layouts import archives

_SECONDS = 60  # an example that takes as long hangs
_COMMON = {
    "deadline": None,
    "database": None,
    "suppress_health_check": list(hypothesis.HealthCheck),
}
QUICK = hypothesis.settings(max_examples=20, derandomize=True, **_COMMON)
SLOW = hypothesis.settings(max_examples=400, **_COMMON)


def budgets(test):
    """Runs a test of hypothesis with both profiles, the second one as a slow test."""
    profiles = [
        pytest.param(QUICK, id="quick"),
        pytest.param(SLOW, id="slow", marks=pytest.mark.slow),
    ]
    return pytest.mark.parametrize("profile", profiles)(test)


def run(profile, check, *drawn):
    """Calls `check` with examples of the strategies."""
    given = hypothesis.given(*drawn)(check)
    profile(given)()


@contextlib.contextmanager
def no_hang():
    def stop(*_):
        raise AssertionError(f"this takes more than {_SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@st.composite
def damaged(draw, whole):
    """One of the byte strings, with a few changes."""
    content = bytearray(draw(st.sampled_from(whole)))
    for _ in range(draw(st.integers(1, 5))):
        at = draw(st.integers(0, max(len(content) - 1, 0)))
        length = draw(st.integers(1, 64))
        kind = draw(st.sampled_from(("set", "flip", "insert", "drop", "cut", "repeat", "zero")))
        if kind == "set":
            content[at : at + 1] = draw(st.binary(min_size=1, max_size=8))
        elif kind == "flip" and content:
            content[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "insert":
            content[at:at] = draw(st.binary(max_size=32))
        elif kind == "drop":
            del content[at : at + length]
        elif kind == "cut":
            del content[at:]
        elif kind == "repeat":
            content[at:at] = content[at : at + length] * draw(st.integers(1, 40))
        elif kind == "zero":
            content[at : at + length] = bytes(len(content[at : at + length]))
    return bytes(content)


def pixels(height=20, width=24):
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 9, columns * 9, rows * columns], axis=-1).astype(np.uint8)


def encoded(kind, mode="RGB", **options):
    out = io.BytesIO()
    Image.fromarray(pixels()).convert(mode).save(out, kind, **options)
    return out.getvalue()


def every_image():
    turned = Image.Exif()
    turned[0x0112] = 6
    kinds = [
        encoded("JPEG", quality=80, exif=turned),
        encoded("JPEG", progressive=True),
        encoded("JPEG", "CMYK"),
        encoded("JPEG", "L"),
        encoded("PNG"),
        encoded("PNG", "RGBA"),
        encoded("PNG", "P"),
        encoded("PNG", "LA"),
        encoded("GIF", "P"),
        encoded("BMP"),
        encoded("TIFF"),
        encoded("TIFF", compression="tiff_lzw"),
        encoded("TIFF", "CMYK"),
        encoded("WEBP"),
        encoded("WEBP", lossless=True),
    ]
    Image.init()
    for kind in ("AVIF", "JPEG2000"):
        if kind in Image.SAVE:
            kinds.append(encoded(kind))
    return kinds


@budgets
@pytest.mark.parametrize("channels", [1, 3])
def test_images(profile, channels):
    conversion = images.Conversion(
        image_size=16, channels=channels, max_pixels=10**6, apply_exif=True
    )

    def check(content):
        with no_hang(), contextlib.suppress(images.BadImage):
            converted = images.convert_image(content, "a.jpg", conversion)
            assert converted.pixels.shape == (16, 16, channels)

    magic = [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"II*\0", b"RIFF1234WEBP"]
    random = st.builds(bytes.__add__, st.sampled_from(magic), st.binary(max_size=400))
    run(profile, check, damaged(every_image()) | random)


def tar_of(files, form=tarfile.GNU_FORMAT, links=types.MappingProxyType({})):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for kind, name in links.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, next(iter(files), "nothing")
            archive.addfile(info)
    return out.getvalue()


@budgets
def test_archives(profile):
    files = {"a.jpg": b"a" * 700, 120 * "b" + "/c.jpg": b"", "d.txt": b"text", "../e.jpg": b"e"}
    forms = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
    around = 300

    def check(content):
        file = io.BytesIO(b"\1" * around + content + b"\2" * around)
        with no_hang():
            try:
                found = archives.members(file, around, len(content), "the archive")
            except ValueError as error:
                assert str(error).startswith("the archive ") and "byte" in str(error)
                return
        for member in found:
            inside = around <= member.offset <= member.offset + member.size <= around + len(content)
            assert inside or member.odd

    links = {tarfile.LNKTYPE: "hard.jpg", tarfile.SYMTYPE: "soft.jpg"}
    whole = [tar_of(files, form, links) for form in forms] + [tar_of({})]
    run(profile, check, damaged(whole) | st.binary(max_size=1200))


# Layouts: {path: content} each, of which one file is damaged.
SYNSETS = ("n01440764", "n02100735")


def val_name(number):
    return f"ILSVRC2012_val_{number:08d}.JPEG"


def devkit():
    meta = io.BytesIO()
    dtype = [("ILSVRC2012_ID", "O"), ("WNID", "O")]
    scipy.io.savemat(meta, {"synsets": np.array(list(enumerate(SYNSETS, 1)), dtype)})
    return {"meta.mat": meta.getvalue(), "ILSVRC2012_validation_ground_truth.txt": b"1\n2\n1\n"}


def folders(jpeg):
    return {
        f"{split}/{s}/{n}.jpg": jpeg for split in ("train", "val") for s in SYNSETS for n in (1, 2)
    }


def flat(jpeg):
    train = {f"train/{synset}/{synset}_1.jpg": jpeg for synset in SYNSETS}
    return {**train, **{f"val/{val_name(n)}": jpeg for n in (1, 2, 3)}}


def sources():
    import pyarrow
    import pyarrow.parquet

    jpeg = encoded("JPEG")
    tars = {f"{synset}.tar": tar_of({f"{synset}_1.JPEG": jpeg}) for synset in SYNSETS}
    kit = devkit()
    kit_tar = gzip.compress(
        tar_of({f"data/{name}": content for name, content in kit.items()}), mtime=0
    )
    table = io.BytesIO()
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": SYNSETS}}
    rows = {"image": [{"bytes": jpeg, "path": f"{n}.jpg"} for n in range(4)], "label": [0, 1, 0, 1]}
    meta = {"huggingface": json.dumps({"info": {"features": features}})}
    pyarrow.parquet.write_table(pyarrow.table(rows).replace_schema_metadata(meta), table)
    idx = {
        f"{prefix}-{what}": struct.pack(head, *numbers) + bytes(numbers[1] * size)
        for prefix in ("train", "t10k")
        for what, head, numbers, size in (
            ("images-idx3-ubyte", ">4I", (2051, 3, 28, 28), 784),
            ("labels-idx1-ubyte", ">2I", (2049, 3), 1),
        )
    }
    batch = {b"data": np.zeros((2, 3072), np.uint8), b"labels": [3, 9]}
    names = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]
    val = "".join(f"{val_name(n)} {SYNSETS[n % 2]}\n" for n in (1, 2, 3)).encode()
    wnids = "".join(f"{val_name(n)[:-5]},{SYNSETS[n % 2]} 1 2 3 4\n" for n in (1, 2, 3))
    solution = f"ImageId,PredictionString\n{wnids}".encode()
    annotations = "".join(
        f"{val_name(n)}\t{SYNSETS[n % 2]}\t0\t0\t9\t9\n" for n in (1, 2, 3)
    ).encode()
    tiny = {f"train/{s}/images/{s}_0.JPEG": jpeg for s in SYNSETS}
    kaggle = {
        **{f"ILSVRC/Data/CLS-LOC/train/{s}/{s}_1.JPEG": jpeg for s in SYNSETS},
        **{f"ILSVRC/Data/CLS-LOC/val/{val_name(n)}": jpeg for n in (1, 2, 3)},
    }
    return {
        "tars": (
            {
                "ILSVRC2012_img_train.tar": tar_of(tars),
                "ILSVRC2012_img_val.tar": tar_of({val_name(n): jpeg for n in (1, 2, 3)}),
                "ILSVRC2012_devkit_t12.tar.gz": kit_tar,
            },
            None,
        ),
        "devkit": ({**flat(jpeg), **{f"devkit/data/{n}": c for n, c in kit.items()}}, "devkit"),
        "list": ({**flat(jpeg), "val.txt": val}, "val.txt"),
        "csv": ({**flat(jpeg), "val.csv": val.replace(b" ", b",")}, "val.csv"),
        "synsets": ({**flat(jpeg), "synset_labels.txt": "\n".join(SYNSETS * 2).encode()}, "synset"),
        "kaggle": ({**kaggle, "LOC_val_solution.csv": solution}, "LOC"),
        "tiny": (
            {
                **tiny,
                **{f"val/images/{val_name(n)}": jpeg for n in (1, 2, 3)},
                "val/val_annotations.txt": annotations,
            },
            "val_annotations",
        ),
        "parquet": ({f"data/{s}-0.parquet": table.getvalue() for s in ("train", "test")}, None),
        "mnist": (idx, None),
        "mnist_gz": ({f"{name}.gz": gzip.compress(c, mtime=0) for name, c in idx.items()}, None),
        "cifar10": ({name: pickle.dumps(batch, protocol=2) for name in names}, None),
        "cifar10_bin": ({f"{name}.bin": bytes(2 * 3073) for name in names}, None),
        "folders": (folders(jpeg), None),
    }


def look(root):
    """What a conversion does before it writes shards: every image is found and read."""
    source = os.path.join(root, "source")
    found = listing.Listing(source)
    layout = layouts.find(found)
    account = accounting.Account(found, layout.name, allow_unused=True)
    if layout.classes:
        layout.classes(found)
    for image in list(account.watch(layout.images(found, os.path.join(root, "unpacked")))):
        with contextlib.suppress(images.BadImage):
            content = writer.read_image(source, image)
            images.decode(content, images.Conversion(max_pixels=10**6))


@pytest.fixture(scope="module")
def all_sources():
    return sources()


LAYOUTS = (
    *("tars", "devkit", "list", "csv", "synsets", "kaggle", "tiny", "parquet", "mnist"),
    *("mnist_gz", "cifar10", "cifar10_bin", "folders"),
)


@budgets
@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts(profile, name, all_sources):
    files, of_interest = all_sources[name]
    victims = [path for path in files if of_interest is None or of_interest in path]

    def check(data):
        victim = data.draw(st.sampled_from(victims))
        content = data.draw(damaged([files[victim]]))
        with tempfile.TemporaryDirectory() as root:
            for path, whole in files.items():
                place = pathlib.Path(root, "source", path)
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(content if path == victim else whole)
            try:
                with no_hang():
                    look(root)
            except (ValueError, OSError) as error:
                require_message(error, root)
            assert set(os.listdir(root)) <= {"source", "unpacked"}

    if name == "devkit":  # each meta.mat is read by a process of its own
        profile = hypothesis.settings(profile, max_examples=profile.max_examples // 8)
    run(profile, check, st.data())


def require_message(error, root):
    """The sentence names a file of the source or the source itself."""
    text = str(error)
    assert not isinstance(error, UnicodeError), text
    names = {name for _, _, inside in os.walk(root) for name in inside}
    assert root in text or any(name in text for name in names), repr(error)


def tfrecord(records_):
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "shard")
        with tf.io.TFRecordWriter(path) as out:
            for record in records_:
                out.write(record)
        return pathlib.Path(path).read_bytes()


@pytest.fixture(scope="module")
def shard():
    """A shard of three records, and the records."""
    jpeg = encoded("JPEG")
    made = [records.encode_example(jpeg, n % 2, f"{n}.jpg", SYNSETS[n % 2]) for n in range(3)]
    return tfrecord(made), made


@budgets
def test_shards(profile, shard):
    def check(content):
        with tempfile.TemporaryDirectory() as folder, no_hang():
            path = pathlib.Path(folder, "shard")
            path.write_bytes(content)
            entry = {"file": "shard", "count": 3, "bytes": len(shard[0]), "sha256": "0"}
            found = checks.check_shard(folder, entry, (records.RecordFormat(20), SYNSETS))
            assert found.problems  # of its content, or at least that its sha256 is another
            with contextlib.suppress(ValueError):
                spans, labels = record_places.locate(str(path), 3, records._OWN_KEYS)
                assert spans.shape == (3, 2) and labels.shape == (3,)
                assert (spans >= 0).all() and (spans <= len(content)).all()

    run(profile, check, damaged([shard[0]]))


@budgets
def test_records_with_right_checksums(profile, shard):
    """The damage is inside a record that was written as it is."""

    def check(record):
        with tempfile.TemporaryDirectory() as folder, no_hang():
            path = pathlib.Path(folder, "shard")
            path.write_bytes(tfrecord([record]))
            entry = {"file": "shard", "count": 1, "bytes": 0, "sha256": "0"}
            assert checks.check_shard(folder, entry, (records.RecordFormat(20), SYNSETS)).problems
            try:
                [[begin, end]], _ = record_places.locate(str(path), 1, records._OWN_KEYS)
            except ValueError as error:
                assert str(path) in str(error)
            else:
                assert 0 <= begin <= end <= path.stat().st_size

    run(profile, check, damaged(shard[1]) | st.binary(max_size=200))
