"""One input pipeline as a peer: input_peers.py NAME DIRECTORY BATCH_SIZE (see
input_pipeline.py, which starts it and says what is measured)."""

import dataclasses
import functools
import multiprocessing
import os
import pathlib
import sys
import time

import numpy as np
import peers

WARM, TIMED = 3, 14  # batches; as in input_pipeline.py
SIZE, CROP = 256, 224
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def epoch_turn(
    batches, batch_size: int, timed: int = TIMED, size: int = CROP, dtype: str = "float32"
):
    """A turn that takes all of what `batches()` gives, with `timed` batches on the clock."""

    def turn():
        iterator = iter(batches())
        for _ in range(WARM):
            next(iterator)
        started = time.perf_counter()
        for _ in range(timed):
            images = next(iterator)
        seconds = time.perf_counter() - started
        _check(images, batch_size, size, dtype)
        for _ in iterator:  # no other turn begins before this epoch has ended
            pass
        return [(timed * batch_size, seconds)]

    return turn


def _check(images, batch_size: int, size: int, dtype: str) -> None:
    """Checks that every peer produces what is counted."""
    images = np.asarray(images)
    found = (images.shape, images.dtype.name, bool(images.std() > 10))
    if found != ((batch_size, size, size, 3), dtype, True):
        raise SystemExit(
            f"expected {batch_size} {dtype} images of {size} with contrast, got {found}"
        )


def ours(
    directory: pathlib.Path,
    batch_size: int,
    encoding: str = "jpeg",
    product: str = "float32",
    fast: bool = False,
):
    """`alexnet_tf.data.pipeline`, up to one of its products.

    "whole": what training sends to the device, whole uint8 images and draws; "uint8": their crops,
    mirrored, cut on the processor; "float32": the same with colour noise, `training_batches`.
    """
    sys.path.insert(0, str(peers.ROOT))
    from alexnet_tf import memory

    # FFCV and DALI reuse their own buffers.
    memory.keep_freed_memory()
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()  # as `train` does

    from alexnet_tf.data import pipeline, records
    from alexnet_tf.perf import inputs

    if fast:
        import simplejpeg

        simplejpeg.decode_jpeg = functools.partial(simplejpeg.decode_jpeg, fastdct=True)
    dataset = records.open_dataset(str(directory / f"records_{encoding}"))
    augmentation = inputs.augmentation(dataset, "alexnet")

    steps = pipeline.steps_per_epoch(dataset, batch_size)
    # Our shuffle buffer reads an epoch of this size in one go, so a whole epoch's worth is clocked,
    # from a few batches after one such moment to a few after the next, with work ahead at the end.
    schedule = pipeline.Schedule(batch_size, epochs=3)
    if product == "float32":
        run = pipeline.training_batches(dataset, augmentation, schedule)
    else:
        augmentation = dataclasses.replace(augmentation, noise=None)
        run = pipeline.training_inputs(dataset, augmentation, schedule)
    if product == "uint8":

        @tf.function(jit_compile=True)
        def cut(images, draws):
            return tf.cast(augmentation.apply(images, draws), tf.uint8)

        run = run.map(
            lambda images, labels, draws: (cut(images, draws), labels), num_parallel_calls=1
        ).prefetch(2)
    run = run.take(steps + 2 * WARM)

    def batches():
        return (images for images, *_ in run)

    size, dtype = (SIZE if product == "whole" else CROP), run.element_spec[0].dtype.name
    about = {"tensorflow": tf.__version__}
    return about, epoch_turn(batches, batch_size, steps, size=size, dtype=dtype)


def torchvision(directory: pathlib.Path, batch_size: int):
    """torchvision's transforms on PIL images in one worker process per core."""
    import torch
    from PIL import Image

    transforms, version = _torchvision_transforms(torch)
    axes = torch.from_numpy(np.load(directory / "noise.npy"))

    def noise(image):  # (3, h, w) in 0..1
        return 255.0 * image + (axes @ torch.randn(3))[:, None, None]

    augment = transforms.Compose(
        [
            transforms.RandomCrop(CROP),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            noise,
        ]
    )
    files = sorted((directory / "files").iterdir())

    class Images(torch.utils.data.Dataset):
        def __len__(self):
            return len(files)

        def __getitem__(self, number):
            with Image.open(files[number]) as image:
                return augment(image.convert("RGB"))

    torch.set_num_threads(1)
    loader = torch.utils.data.DataLoader(
        Images(),
        batch_size,
        shuffle=True,
        num_workers=CORES,
        persistent_workers=True,
        drop_last=True,
        multiprocessing_context="fork",
    )
    # The peer's own layout is channels first; turning it is not its work.
    batches = lambda: (_Turned(batch) for batch in loader)  # noqa: E731
    return {"torchvision": version, "torch": torch.__version__}, epoch_turn(batches, batch_size)


class _Turned:
    """A channels-first batch that is transposed on first use."""

    def __init__(self, batch):
        self._batch = batch

    def __array__(self, dtype=None, copy=None):
        return np.moveaxis(self._batch.numpy(), 1, 3)


def _torchvision_transforms(torch):
    """torchvision.transforms, also where its compiled operators do not fit this PyTorch."""
    try:
        import torchvision
    except RuntimeError:
        # The wheel on PyPI is built for PyTorch with CUDA. The transforms of PIL images need none
        # of its operators, only that two of them have been declared.
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "FRAGMENT")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float threshold) -> Tensor")
        _torchvision_transforms.kept = library
        import torchvision
    from torchvision import transforms

    return transforms, torchvision.__version__


def dali(directory: pathlib.Path, batch_size: int):
    """NVIDIA DALI on the processor, decoding no more than the crop."""
    from nvidia import dali
    from nvidia.dali import fn, types

    files = [str(file) for file in sorted((directory / "files").iterdir())]
    axes = np.load(directory / "noise.npy")

    @dali.pipeline_def(batch_size=batch_size, num_threads=CORES, device_id=None, seed=1)
    def pipeline():
        encoded, _ = fn.readers.file(files=files, random_shuffle=True, initial_fill=4096)
        images = fn.decoders.image_crop(
            encoded,
            device="cpu",
            crop=(CROP, CROP),
            crop_pos_x=fn.random.uniform(range=(0.0, 1.0)),
            crop_pos_y=fn.random.uniform(range=(0.0, 1.0)),
        )
        images = fn.crop_mirror_normalize(
            images, dtype=types.FLOAT, output_layout="HWC", mirror=fn.random.coin_flip()
        )
        normal = fn.random.normal(shape=[3])
        shift = sum(normal[k] * types.Constant(axes[:, k]) for k in range(3))
        return images + shift

    pipe = pipeline()
    pipe.build()
    steps = len(files) // batch_size

    def batches():
        for _ in range(steps):
            (images,) = pipe.run()
            yield _OfDali(images)

    return {"nvidia-dali": dali.__version__}, epoch_turn(batches, batch_size)


class _OfDali:
    """DALI's batch, copied on first use."""

    def __init__(self, batch):
        self._batch = batch

    def __array__(self, dtype=None, copy=None):
        return self._batch.as_array()


def ffcv(directory: pathlib.Path, batch_size: int, mode: str = "jpg", product: str = "float32"):
    """FFCV, with crop, mirror and, for "float32", noise as one compiled operation of our own."""
    from importlib import metadata

    import ffcv.fields.rgb_image as rgb
    import numba
    from ffcv.fields.decoders import SimpleRGBImageDecoder
    from ffcv.loader import Loader, OrderOption
    from ffcv.transforms import ToTensor
    from ffcv.writer import DatasetWriter
    from PIL import Image

    files = sorted((directory / "files").iterdir())

    class Images:
        def __len__(self):
            return len(files)

        def __getitem__(self, number):
            with Image.open(files[number]) as image:
                pixels = np.asarray(image.convert("RGB"))
            current.append(files[number])
            return (pixels,)

    current = []
    # The bytes as they are, instead of a second compression.
    rgb.encode_jpeg = lambda pixels, quality: np.frombuffer(current[-1].read_bytes(), np.uint8)
    path = str(directory / f"{mode}.beton")
    fields = {"image": rgb.RGBImageField(write_mode=mode)}
    DatasetWriter(path, fields, num_workers=1).from_indexed_dataset(Images(), chunksize=64)
    loader = Loader(
        path,
        batch_size=batch_size,
        num_workers=CORES,
        order=OrderOption.RANDOM,
        pipelines={
            "image": [
                SimpleRGBImageDecoder(),
                _ffcv_operation(np.load(directory / "noise.npy"), product),
                ToTensor(),
            ]
        },
    )
    about = {"ffcv": metadata.version("ffcv"), "numba": numba.__version__}
    return about, epoch_turn(lambda: (batch[0] for batch in loader), batch_size, dtype=product)


def _ffcv_operation(axes, product):
    from dataclasses import replace

    from ffcv.pipeline.allocation_query import AllocationQuery
    from ffcv.pipeline.compiler import Compiler
    from ffcv.pipeline.operation import Operation

    class CropMirror(Operation):
        def generate_code(self):
            each, size, room = Compiler.get_iterator(), CROP, SIZE - CROP + 1

            def augment(images, out):
                for i in each(images.shape[0]):
                    top, left = np.random.randint(room), np.random.randint(room)
                    crop = images[i, top : top + size, left : left + size]
                    if np.random.rand() < 0.5:
                        out[i] = crop[:, ::-1]
                    else:
                        out[i] = crop
                return out[: images.shape[0]]

            augment.is_parallel = True
            return augment

        def declare_state_and_memory(self, previous_state):
            shape, kind = (CROP, CROP, 3), np.dtype(product)
            state = replace(previous_state, shape=shape, dtype=kind, jit_mode=True)
            return state, AllocationQuery(shape, kind)

    class CropMirrorNoise(CropMirror):
        def generate_code(self):
            each, size, room = Compiler.get_iterator(), CROP, SIZE - CROP + 1

            def augment(images, out):
                for i in each(images.shape[0]):
                    top, left = np.random.randint(room), np.random.randint(room)
                    draw = np.random.normal(0.0, 1.0, 3).astype(np.float32)
                    red = axes[0, 0] * draw[0] + axes[0, 1] * draw[1] + axes[0, 2] * draw[2]
                    green = axes[1, 0] * draw[0] + axes[1, 1] * draw[1] + axes[1, 2] * draw[2]
                    blue = axes[2, 0] * draw[0] + axes[2, 1] * draw[1] + axes[2, 2] * draw[2]
                    first, step = left, 1
                    if np.random.rand() < 0.5:
                        first, step = left + size - 1, -1
                    for y in range(size):
                        for x in range(size):
                            column = first + step * x
                            out[i, y, x, 0] = images[i, top + y, column, 0] + red
                            out[i, y, x, 1] = images[i, top + y, column, 1] + green
                            out[i, y, x, 2] = images[i, top + y, column, 2] + blue
                return out[: images.shape[0]]

            augment.is_parallel = True
            return augment

    return CropMirror() if product == "uint8" else CropMirrorNoise()


def libjpeg(directory: pathlib.Path, batch_size: int, fast: bool = False):
    """libjpeg-turbo in one process for each core; whole images, which stay where they are."""
    import simplejpeg

    files = [file.read_bytes() for file in sorted((directory / "files").iterdir())]
    wanted = [files[n % len(files)] for n in range(TIMED * batch_size)]
    pieces = 8 * CORES
    chunks = [(fast, wanted[begin::pieces]) for begin in range(pieces)]
    pool = multiprocessing.get_context("fork").Pool(CORES, _keep, (chunks,))
    pool.map(_decode, range(pieces), 1)

    def turn():
        started = time.perf_counter()
        counts = pool.map(_decode, range(pieces), 1)
        return [(sum(counts), time.perf_counter() - started)]

    return {"simplejpeg": simplejpeg.__version__}, turn


_KEPT = []


def _keep(chunks) -> None:
    _KEPT.extend(chunks)


def _decode(number: int) -> int:
    import simplejpeg

    fast, contents = _KEPT[number]
    return sum(
        simplejpeg.decode_jpeg(content, fastdct=fast).shape == (SIZE, SIZE, 3)
        for content in contents
    )


FORMS = {
    "ours": ours,
    "ours_fast": lambda *args: ours(*args, fast=True),
    "ours_raw": lambda *args: ours(*args, encoding="raw"),
    "ours_whole": lambda *args: ours(*args, product="whole"),
    "ours_whole_raw": lambda *args: ours(*args, encoding="raw", product="whole"),
    "ours_uint8": lambda *args: ours(*args, product="uint8"),
    "ours_uint8_raw": lambda *args: ours(*args, encoding="raw", product="uint8"),
    "ffcv": ffcv,
    "ffcv_raw": lambda *args: ffcv(*args, mode="raw"),
    "ffcv_uint8": lambda *args: ffcv(*args, product="uint8"),
    "ffcv_uint8_raw": lambda *args: ffcv(*args, mode="raw", product="uint8"),
    "dali": dali,
    "torchvision": torchvision,
    "libjpeg": libjpeg,
    "libjpeg_fast": lambda *args: libjpeg(*args, fast=True),
}


if __name__ == "__main__":
    name, directory, batch_size = sys.argv[1:]
    peers.serve(lambda: FORMS[name](pathlib.Path(directory), int(batch_size)))
