"""Images per second of `data_prep.convert`, beside a bare loop and other converters.

    python benchmarks/data_prep.py

The source is made here: JPEGs of 500 x 375, about 100 KB each, out of the photographs in
scikit-image's wheel. Every converter shrinks to 256 x 256 and encodes at JPEG quality 95, in as
many processes as --workers says. The bare loop does nothing else: no shuffle, no statistics, no
checksums, no files; nor do the others, but for TensorFlow's second form, which writes its images
into TFRecord files, as a converter must. Imports are outside the timing of all; the timing of ours
includes looking through the source, starting its workers, and writing every file. Rounds are
interleaved, so that a disturbance of the machine hits all alike.
"""

import argparse
import contextlib
import importlib.metadata
import io
import json
import multiprocessing
import os
import pathlib
import shutil
import statistics
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import cv2  # noqa: E402
import numpy as np  # noqa: E402
import simplejpeg  # noqa: E402

from alexnet_tf import files, machine  # noqa: E402

SIZE, QUALITY = 256, 95
WIDTH, HEIGHT = 500, 375
SOURCE_QUALITY = 95  # gives about 100 KB


def make_source(folder: pathlib.Path, distinct: int, links: int) -> list[str]:
    """Writes `distinct` images, each under `links` names; class folders as convert reads them."""
    from data_prep import photos

    photographs = photos.read_photographs()
    generator, paths, copies = np.random.default_rng(0), [], []
    for number in range(distinct):
        name = list(photographs)[number % len(photographs)]
        pixels = photographs[name]
        height, width = pixels.shape[:2]
        rows = int(min(height, width * HEIGHT / WIDTH) * generator.uniform(0.6, 1.0))
        columns = round(rows * WIDTH / HEIGHT)
        top = generator.integers(height - rows + 1)
        left = generator.integers(max(1, width - columns + 1))
        crop = pixels[top : top + rows, left : left + columns]
        crop = cv2.resize(crop, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
        if crop.ndim == 2:
            crop = cv2.cvtColor(crop, cv2.COLOR_GRAY2RGB)
        # Grain as a camera's, so that an image compresses to the size of ImageNet's.
        grain = generator.normal(0, 6, crop.shape)
        crop = np.clip(crop + grain, 0, 255).astype(np.uint8)
        below = folder / "train" / photos.PHOTOGRAPHS[name]
        below.mkdir(parents=True, exist_ok=True)
        first = below / f"{number:05d}_0.jpg"
        first.write_bytes(simplejpeg.encode_jpeg(crop, SOURCE_QUALITY, "RGB", "420"))
        paths.append(str(first))
        for link in range(1, links):
            copy = below / f"{number:05d}_{link}.jpg"
            os.link(first, copy)
            copies.append((link, str(copy)))
    # All once, then all again: an image that was just decoded would be decoded faster.
    return paths + [copy for _, copy in sorted(copies)]


def square():
    side = min(WIDTH, HEIGHT)
    return (HEIGHT - side) // 2, (WIDTH - side) // 2, side


def by_bare_loop(path):
    with open(path, "rb") as file:
        pixels = simplejpeg.decode_jpeg(file.read())
    top, left, side = square()
    tight = pixels[top : top + side, left : left + side]
    small = cv2.resize(tight, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    return simplejpeg.encode_jpeg(small, QUALITY, "RGB", "420")


def by_opencv(path):
    with open(path, "rb") as file:
        pixels = cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_COLOR)
    top, left, side = square()
    tight = pixels[top : top + side, left : left + side]
    small = cv2.resize(tight, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]


def by_pillow(path):
    from PIL import Image

    top, left, side = square()
    with Image.open(path) as image:
        small = image.convert("RGB").resize(
            (SIZE, SIZE), Image.Resampling.BOX, box=(left, top, left + side, top + side)
        )
    out = io.BytesIO()
    small.save(out, "JPEG", quality=QUALITY)
    return out.getvalue()


def by_libvips(path):
    import pyvips

    top, left, side = square()
    image = pyvips.Image.new_from_file(path, access="sequential").crop(left, top, side, side)
    small = image.resize(SIZE / side, kernel="linear")
    return small.jpegsave_buffer(Q=QUALITY)


PER_PICTURE = {
    "bare loop: simplejpeg + OpenCV area": by_bare_loop,
    "OpenCV alone": by_opencv,
    "Pillow BOX": by_pillow,
    "libvips": by_libvips,
}


def convert_chunk(name_and_paths):
    name, paths = name_and_paths
    cv2.setNumThreads(1)
    return sum(len(PER_PICTURE[name](path)) for path in paths)


def time_pool(pool, name, paths):
    chunks = [(name, paths[begin : begin + 50]) for begin in range(0, len(paths), 50)]
    begin = time.perf_counter()
    for _ in pool.imap_unordered(convert_chunk, chunks):
        pass
    return len(paths) / (time.perf_counter() - begin)


def time_tensorflow(pool, paths, workers, folder=None):
    """With `folder`, each process writes its images into a TFRecord file there."""
    parts = [
        (paths[worker::workers], folder and str(folder / f"tensorflow-{worker}"))
        for worker in range(workers)
    ]
    begin = time.perf_counter()
    pool.map(convert_by_tensorflow, parts, 1)
    return len(paths) / (time.perf_counter() - begin)


def convert_by_tensorflow(paths_and_records):
    import tensorflow as tf

    paths, records = paths_and_records
    top, left, side = square()

    def convert(path):
        content = tf.io.read_file(path)
        tight = tf.io.decode_and_crop_jpeg(
            content, [top, left, side, side], channels=3, dct_method="INTEGER_ACCURATE"
        )
        small = tf.image.resize(tight, (SIZE, SIZE), method="area")
        return tf.io.encode_jpeg(tf.cast(small + 0.5, tf.uint8), quality=QUALITY)

    # One thread each in as many processes as workers: several threads in one process now and then
    # ran at the speed of one for a whole run, whatever their number and that of the calls.
    options = tf.data.Options()
    options.threading.private_threadpool_size = 1
    data = tf.data.Dataset.from_tensor_slices(paths).map(convert, 2, deterministic=False)
    with contextlib.ExitStack() as opened:
        writer = records and opened.enter_context(tf.io.TFRecordWriter(records))
        for batch in data.with_options(options).batch(64):
            if writer is not None:
                for encoded in batch.numpy():
                    example = tf.train.Example()
                    example.features.feature["image"].bytes_list.value.append(encoded)
                    writer.write(example.SerializeToString())


def time_ours(source, folder, workers, count):
    from data_prep import preparation

    output = folder / "prepared"
    shutil.rmtree(output, ignore_errors=True)
    begin = time.perf_counter()
    manifest = preparation.prepare(str(source), str(output), workers=workers)
    seconds = time.perf_counter() - begin
    assert manifest["counts"] == {"train": count}
    return count / seconds


def quality_of_ours(paths):
    """Median dB of the resized images against area averages in float64, before encoding."""
    from data_prep import images

    def weights(source, resized):
        edges = np.arange(resized + 1) * (source / resized)
        left = np.maximum(edges[:-1, None], np.arange(source))
        right = np.minimum(edges[1:, None], np.arange(1, source + 1))
        return np.maximum(right - left, 0) * (resized / source)

    top, left, side = square()
    area, found = weights(side, SIZE), []
    for path in paths[:: max(1, len(paths) // 40)]:
        pixels = simplejpeg.decode_jpeg(pathlib.Path(path).read_bytes())
        tight = pixels[top : top + side, left : left + side].astype(np.float64)
        exact = np.einsum("ih,hwc,jw->ijc", area, tight, area, optimize=True)
        error = images.central_square(pixels, SIZE) - exact
        found.append(10 * np.log10(255**2 / np.mean(error**2)))
    return statistics.median(found)


def machine_and_versions():
    packages = ("tensorflow", "simplejpeg", "opencv-python-headless", "pillow", "pyvips", "numpy")
    versions = {}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return {**machine.processor(), **versions}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    # 72 shards, as many for each of two workers: among ImageNet's 1024, starting, finishing and a
    # worker that idles during the last shard weigh nothing; in a short run they weigh much.
    parser.add_argument("--images", type=int, default=1536, help="distinct source images")
    parser.add_argument("--links", type=int, default=12, help="names of each, for longer runs")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--output", default=str(ROOT / "benchmarks/results/data_prep.json"))
    flags = parser.parse_args()
    from data_prep import runner

    runner.warm_up()
    ours = "data_prep.convert, all of it"
    tensorflow, written = "TensorFlow ops, area", "TensorFlow ops, area, to TFRecords"
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        source = folder / "source"
        paths = make_source(source, flags.pictures, flags.links)
        size = statistics.mean(os.path.getsize(path) for path in paths[: 4 * flags.pictures])
        print(f"{len(paths)} files of {size / 1e3:.0f} KB on average")
        spawn = multiprocessing.get_context("spawn")
        # TensorFlow's have a pool of their own: libvips brings an HDF5 beside which h5py, which
        # TensorFlow loads, does not load here.
        with spawn.Pool(flags.workers) as pool, spawn.Pool(flags.workers) as tensorflows:
            vips = pool.apply(_has, ("pyvips",))
            names = [name for name in PER_PICTURE if name != "libvips" or vips]
            rates = {name: [] for name in (names[0], ours, *names[1:], tensorflow, written)}
            for name in names:
                time_pool(pool, name, paths[:200])
            time_tensorflow(tensorflows, paths[:200], flags.workers)
            for number in range(flags.rounds):
                for name in rates:
                    if name == ours:
                        rate = time_ours(source, folder, flags.workers, len(paths))
                    elif name == tensorflow:
                        rate = time_tensorflow(tensorflows, paths, flags.workers)
                    elif name == written:
                        rate = time_tensorflow(tensorflows, paths, flags.workers, folder)
                    else:
                        rate = time_pool(pool, name, paths)
                    rates[name].append(rate)
                    print(f"round {number + 1}: {name}: {rate:.0f} images/s", flush=True)
        quality = quality_of_ours(paths)
    report(rates, names[0], {"files": len(paths), "bytes": size, "dB": quality}, flags)


def report(rates, reference, facts, flags):
    result = {
        "machine": machine_and_versions(),
        "workers": flags.workers,
        "rounds": flags.rounds,
        "source": {"files": facts["files"], "mean_bytes": facts["bytes"], "size": [HEIGHT, WIDTH]},
        "dB_against_float64_area": facts["dB"],
        "pictures_per_second": rates,
        "median": {name: statistics.median(values) for name, values in rates.items()},
    }
    files.write_json(flags.output, result, indent=1)
    print(f"\n{json.dumps(result['machine'])}\n{flags.rounds} rounds, {flags.workers} workers")
    print(f"{'':40} median   min   max  of bare loop (median of the rounds' ratios)")
    for name, values in rates.items():
        ratio = statistics.median(a / b for a, b in zip(values, rates[reference], strict=True))
        print(
            f"{name:40} {statistics.median(values):6.0f} {min(values):5.0f} {max(values):5.0f}"
            f"  {ratio:.3f}"
        )
    print(f"resize against float64 area averages, before encoding: {facts['dB']:.1f} dB")
    print(f"raw numbers: {flags.output}")


def _has(module):
    try:
        __import__(module)
    except (ImportError, OSError):
        return False
    return True


if __name__ == "__main__":
    main()
