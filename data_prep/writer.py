"""Writes one shard atomically; a receipt, written last, marks it complete.

When a killed run is started again, shards with a receipt of the same plan lines and settings are
kept and all others are made again. A shard's bytes depend only on its lines and the settings, so
the result does not depend on the number of workers or on interruptions.
"""

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import zipfile

import numpy as np
import tensorflow as tf

from alexnet_tf import files, memory
from alexnet_tf.data import records
from data_prep import images, plan, storage
from data_prep.statistics import Accumulator, PixelSums

RECEIPT_SUFFIX = ".receipt.json"
SUMS_SUFFIX = ".sums.npz"
# Images per report to the progress bar, which takes a lock.
REPORT_EVERY = 8


@dataclasses.dataclass(frozen=True)
class Job:
    """What all shards of a conversion have in common.

    Attributes:
      source: the directory that relative image paths start from.
      folder: where plan, shards and receipts are; a cluster's workers must reach it.
      conversion: how an image is converted.
      synsets: the classes in label order.
      max_bad: a shard with more bad images than this ends the run.
      digest: of the settings that change a shard's bytes.
    """

    source: str
    folder: str
    conversion: images.Conversion
    synsets: tuple[str, ...]
    max_bad: int
    digest: str


@dataclasses.dataclass(frozen=True)
class Receipt:
    """What a finished shard holds.

    Attributes:
      shard: its file name.
      digest: of the plan lines and settings that it was made from.
      count: records.
      bytes: size of the file.
      sha256: of the file.
      repairs: [file, what was done] for each repaired image.
      rejects: [file, reason] for each image left out.
    """

    shard: str
    digest: str
    count: int
    bytes: int
    sha256: str
    repairs: list[list[str]]
    rejects: list[list[str]]


def settings_digest(conversion: images.Conversion, synsets: tuple[str, ...]) -> str:
    """A digest of everything besides the images that a shard's bytes depend on."""
    parts = dataclasses.asdict(conversion)
    parts.pop("max_pixels")  # decides what is refused, not what is stored
    fixed = [images.REVISION, images.JPEG_QUALITY, images.CHROMA]
    text = json.dumps([parts, *fixed, synsets], sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def finished(job: Job, shard: plan.Shard) -> Receipt | None:
    """The receipt of `shard` if it is complete and was made from the same lines and settings."""
    path = os.path.join(job.folder, shard.file_name)
    with contextlib.suppress(
        OSError, ValueError, TypeError, KeyError, zipfile.BadZipFile, tf.errors.OpError
    ):
        with tf.io.gfile.GFile(path + RECEIPT_SUFFIX, "r") as file:
            receipt = Receipt(**json.loads(file.read()))
        if receipt.digest != _digest(job, shard):
            return None
        # Shards are not flushed one by one, which would cost a tenth of the speed. So a receipt can
        # survive a power failure without its shard: compare the content.
        whole = files.fingerprint(path) == (receipt.bytes, receipt.sha256)
        if whole and (
            shard.split != "train" or read_sums(job.folder, shard).count == receipt.count
        ):
            return receipt
    return None


def write_shard(job: Job, shard: plan.Shard, progress=None) -> Receipt:
    """Converts the images of one shard and writes it.

    Args:
      job: the settings.
      shard: which lines of the plan.
      progress: called with the number of images done since the last call.

    Raises:
      ValueError: more than `job.max_bad` images of this shard are bad.
      OSError: reading or writing failed.
    """
    memory.keep_freed_memory()  # every image needs the same few megabytes
    path = os.path.join(job.folder, shard.file_name)
    with storage.needs_room(path):
        with files.staged(path) as aside:
            count, statistics, repairs, rejects = _write_records(
                job, shard, aside, progress or (lambda done: None)
            )
            size, sha256 = files.fingerprint(aside)
        if statistics is not None:
            sums = statistics.sums()
            # Half the disk of int64: a shard has far fewer than 2**32 / 255 images.
            image = sums.image.astype(np.uint32)
            write_arrays(path + SUMS_SUFFIX, count=sums.count, image=image, products=sums.products)
        receipt = Receipt(
            shard.file_name, _digest(job, shard), count, size, sha256, repairs, rejects
        )
        write_text(path + RECEIPT_SUFFIX, json.dumps(dataclasses.asdict(receipt)))
    return receipt


def _write_records(job, shard, path, progress):
    labels = {synset: label for label, synset in enumerate(job.synsets)}
    size, channels = job.conversion.image_size, job.conversion.channels
    statistics = Accumulator((size, size, channels)) if shard.split == "train" else None
    count, repairs, rejects = 0, [], []
    unreported = 0
    with tf.io.TFRecordWriter(path) as writer:
        for entry in plan.read_lines(job.folder, shard):
            unreported += 1
            if unreported == REPORT_EVERY:
                progress(unreported)
                unreported = 0
            encoded = read_image(job.source, entry)
            try:
                converted = images.convert_image(encoded, entry.file_name, job.conversion)
            except images.BadImage as bad:
                rejects.append([where(entry), str(bad)])
                if len(rejects) > job.max_bad:
                    raise ValueError(too_many(rejects, job.max_bad)) from None
                continue
            repairs += [[where(entry), repair] for repair in converted.repairs]
            writer.write(
                records.encode_example(
                    converted.encoded, labels[entry.synset], entry.file_name, entry.synset
                )
            )
            count += 1
            if statistics is not None:
                statistics.add(converted.pixels)
    progress(unreported)
    return count, statistics, repairs, rejects


def read_image(source: str, image: plan.SourceImage) -> bytes:
    """The bytes of an image file, or of its part of an archive."""
    path = os.path.join(source, image.path)
    try:
        with files.open_binary(path) as file:
            return _part(file, image)
    except (FileNotFoundError, tf.errors.NotFoundError):
        raise FileNotFoundError(
            f"The image file {path} vanished while it was converted: put it back and start the "
            "same command again; finished shards are kept."
        ) from None
    except tf.errors.OpError as error:
        raise OSError(f"Reading {path} failed: {error.message}") from None


def _part(file, image):
    if image.offset < 0:
        content = file.read()
    else:
        file.seek(image.offset)
        content = file.read(image.size)
    if len(content) != image.size >= 0:
        raise ValueError(
            f"{where(image)} has {len(content)} bytes, it had {image.size} when the conversion "
            "began: let nothing change the source, and start the same command again."
        )
    return content


def where(image: plan.SourceImage) -> str:
    """The name of an image in messages and in the manifest."""
    if image.offset < 0:
        return image.path
    if os.path.isabs(image.path) or files.is_remote(image.path):  # a copy in the work directory
        return image.file_name
    return f"{image.path}:{image.file_name}"


def too_many(rejects: list[list[str]], max_bad: int) -> str:
    """The error message of a run with more bad images than allowed."""
    file, reason = rejects[0]
    found = f"{file} cannot be used: {reason}"
    if max_bad:
        found = f"{len(rejects)} images cannot be used, the first is {file}: {reason}"
    return (
        f"{found}. Expected at most {max_bad} such images: repair or remove them, or allow more "
        "with --max_bad=N; finished shards are kept."
    )


def read_sums(folder: str, shard: plan.Shard) -> PixelSums:
    """The statistics of one finished training shard."""
    path = os.path.join(folder, shard.file_name) + SUMS_SUFFIX
    with tf.io.gfile.GFile(path, "rb") as file, np.load(file) as arrays:
        return PixelSums(int(arrays["count"]), arrays["image"].astype(np.int64), arrays["products"])


def write_text(path: str, text: str) -> None:
    """Writes a small text file aside and renames it. Surrogates keep their bytes."""
    write_bytes(path, text.encode("utf-8", "surrogateescape"))


def write_arrays(path: str, **arrays) -> None:
    """Writes an .npz file aside and renames it. Equal arrays give equal bytes."""
    memory = io.BytesIO()
    np.savez(memory, **arrays)
    write_bytes(path, memory.getvalue())


def write_bytes(path: str, content: bytes) -> None:
    """Writes a small file aside and renames it."""
    with (
        storage.needs_room(path),
        files.staged(path) as aside,
        files.create_binary(aside) as file,
    ):
        file.write(content)


def _digest(job, shard):
    return f"{job.digest[:32]}{shard.digest[:32]}"
