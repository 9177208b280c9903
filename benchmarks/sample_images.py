"""The images that the input pipelines read: photographs, as records and as files."""

import io
import json
import pathlib
import shutil

import numpy as np

WIDTH, HEIGHT, SOURCE_QUALITY = 500, 375, 95  # about 100 KB each, as ImageNet's


def prepare(directory: pathlib.Path, count: int) -> dict:
    """Writes `count` images below `directory`.

    records_jpeg and records_raw are data sets of `data_prep`; files/00000.jpg and so on are the
    very bytes of the records, labels.json their labels; noise.npy is float32 (3, 3), whose columns
    are the shifts of one unit of colour noise.

    Returns:
      {"count", "image_size", "bytes_per_picture"}.
    """
    import tensorflow as tf

    from alexnet_tf.data import records
    from alexnet_tf.data.preprocessing import ColourNoise
    from data_prep import preparation

    source = directory / "source"
    _make_source(source, count)
    for encoding in records.ENCODINGS:
        settings = preparation.Settings(layout="folders", encoding=encoding)
        preparation.prepare(str(source), str(directory / f"records_{encoding}"), settings)
    shutil.rmtree(source)

    dataset = records.open_dataset(str(directory / "records_jpeg"))
    files = directory / "files"
    files.mkdir()
    sizes, labels = [], []
    for serialized in tf.data.TFRecordDataset(list(dataset.shards["train"])):
        encoded, label = records.parse_example(serialized)
        content = encoded.numpy()
        (files / f"{len(sizes):05d}.jpg").write_bytes(content)
        sizes.append(len(content))
        labels.append(int(label))
    if len(sizes) != count:
        raise ValueError(f"{dataset.path} holds {len(sizes)} images, expected {count}.")
    (directory / "labels.json").write_text(json.dumps(labels), encoding="utf-8")
    noise = ColourNoise.from_statistics(dataset.statistics(), "source", np.zeros(3))
    np.save(directory / "noise.npy", noise.axes)
    return {
        "count": count,
        "image_size": dataset.format.image_size,
        "bytes_per_picture": sum(sizes) / count,
    }


def _make_source(folder: pathlib.Path, count: int) -> None:
    """Random windows of the embedded photographs, with a camera's grain, in class folders."""
    from PIL import Image

    from data_prep import photos

    photographs = photos.read_photographs()
    random = np.random.default_rng(0)
    for number in range(count):
        name = list(photographs)[number % len(photographs)]
        pixels = photographs[name]
        height, width = pixels.shape[:2]
        rows = int(min(height, width * HEIGHT / WIDTH) * random.uniform(0.6, 1.0))
        columns = min(width, round(rows * WIDTH / HEIGHT))
        top = int(random.integers(height - rows + 1))
        left = int(random.integers(width - columns + 1))
        window = Image.fromarray(pixels[top : top + rows, left : left + columns]).convert("RGB")
        window = np.asarray(window.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), np.float32)
        # Without it enlarged windows would compress to a fraction of what ImageNet's images take.
        grain = random.standard_normal(window.shape, np.float32) * 6.0
        noisy = np.clip(window + grain, 0, 255).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(noisy).save(buffer, "JPEG", quality=SOURCE_QUALITY)
        below = folder / "train" / photos.PHOTOGRAPHS[name]
        below.mkdir(parents=True, exist_ok=True)
        (below / f"{number:05d}.jpg").write_bytes(buffer.getvalue())
