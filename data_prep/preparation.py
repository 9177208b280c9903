"""Prepares a data set: list the source, plan, convert, write metadata, rename."""

import concurrent.futures
import contextlib
import dataclasses
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence

import tensorflow as tf

from alexnet_tf import files, memory
from alexnet_tf.data import records
from data_prep import (
    accounting,
    images,
    layouts,
    metadata,
    plan,
    publishing,
    runner,
    storage,
    writer,
)
from data_prep.listing import Listing
from data_prep.statistics import PixelSums

Runner = Callable[
    [writer.Job, Sequence[plan.Shard], Callable[[int], None]], Iterator[writer.Receipt]
]


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings on which a prepared data set depends.

    Attributes:
      layout: a name of `layouts.names()`.
      image_size: height and width of the stored images; None takes the layout's (256).
      channels: 3 or 1; None takes the layout's (3).
      encoding: "jpeg" or "raw".
      seed: of the shuffle.
      shards: training shards; None takes one per 256 images, at most 1024.
      max_bad: number of undecodable images that may be left out before the run fails.
      max_pixels: larger images count as undecodable.
      fast_dct: see `images.Conversion`.
      apply_exif: see `images.Conversion`.
      validation_share: of each class's training images, set aside for validation; see
        `plan.make_plan`.
      allow_unused: whether folders of images that the layout does not take are left out and listed
        instead of ending the run.
      image_column, label_column: of a table; None finds them.
      source_name: the source's name in the manifest; None takes its path.
    """

    layout: str = "auto"
    image_size: int | None = None
    channels: int | None = None
    encoding: str = "jpeg"
    seed: int = 0
    shards: int | None = None
    max_bad: int = 0
    max_pixels: int = memory.MAX_PIXELS
    fast_dct: bool = False
    apply_exif: bool = False
    validation_share: float | None = None
    allow_unused: bool = False
    image_column: str | None = None
    label_column: str | None = None
    source_name: str | None = None


@storage.remote_errors()
def prepare(
    source: str,
    output: str,
    settings: Settings = Settings(),
    workers: int | None = None,
    run: Runner | None = None,
) -> dict:
    """Converts `source` into a prepared data set (records.py) in the directory `output`.

    Everything is written to `output`.partial first and renamed at the end. After an interruption
    the same call continues; shards of files that were replaced since are made again. If `output`
    exists already (see `prepared`), nothing is done.

    Args:
      source: a directory in one of the layouts, or tfds:NAME.
      output: the directory to create.
      settings: see `Settings`.
      workers: processes on this machine; None takes one per core.
      run: converts shards elsewhere; None converts them on this machine.

    Returns:
      The manifest.

    Raises:
      FileExistsError: `output` holds something else; see `prepared`.
      FileNotFoundError: there is no source, it is empty, or pieces of it are missing.
      ValueError: no usable images, more bad ones than allowed, or unknown layout.
      OSError: reading or writing failed.
    """
    if done := prepared(source, output, settings):
        return done
    source, output = _trimmed(source), _trimmed(output)
    settings = dataclasses.replace(settings, source_name=settings.source_name or source)
    listing = list_source(source, output, settings)
    layout = layouts.find(listing, settings.layout)
    run = run or _on_this_machine(workers)
    folder = publishing.work_folder(output)
    with storage.needs_room(folder), publishing.exclusive(folder):
        fresh = publishing.is_new(folder)
        if done := publishing.finished(output, settings):  # another converter finished meanwhile
            if fresh:
                tf.io.gfile.rmtree(folder)
            return done
        publishing.take_back(folder, output)
        try:
            conversion = _conversion(settings, layout)
            account = accounting.Account(listing, layout.name, settings.allow_unused)
            work = _plan(account, folder, layout, settings)
            _check_bad([], settings.max_bad, account.rejects)
            publishing.remove_others(folder, {shard.file_name for shard in work.shards})
        except BaseException:
            if fresh:  # nothing to convert: leave no trace
                tf.io.gfile.rmtree(folder)
            raise
        digest = writer.settings_digest(conversion, work.synsets)
        job = writer.Job(source, folder, conversion, work.synsets, settings.max_bad, digest)
        receipts = _convert(job, work, run, account.rejects)
        of_source = accounting.summary(account, work.counts)
        manifest = _describe(job, work, receipts, settings, of_source, account.rejects)
        publishing.publish(folder, output)
    return manifest


@storage.remote_errors()
def prepared(source: str, output: str, settings: Settings = Settings()) -> dict | None:
    """The manifest of `output` if it is what `prepare` would make; None if it does not exist.

    Raises:
      FileExistsError: it is something else, lacks shards, or was made when the source held other
        files. A source that no longer exists is not compared.
    """
    source, output = _trimmed(source), _trimmed(output)
    if not plan.is_text(output):  # TensorFlow cannot write there
        raise ValueError(f"The name {output!r} is no UTF-8: name another --output.")
    settings = dataclasses.replace(settings, source_name=settings.source_name or source)
    manifest = publishing.finished(output, settings)
    if manifest is None or "source" not in manifest or not storage.exists(source):
        return manifest
    listing, then = list_source(source, output, settings), manifest["source"]
    if listing.digest != then["digest"]:
        raise FileExistsError(
            f"{output} was prepared when {source} held {then['files']} files of {then['bytes']} "
            f"bytes; now it holds {listing.count} of {listing.bytes}. To prepare them all, name "
            f"another --output, or remove {output} first."
        )
    return manifest


def _conversion(settings, layout):
    conversion = images.Conversion(
        image_size=settings.image_size or layout.image_size,
        channels=settings.channels or layout.channels,
        encoding=settings.encoding,
        max_pixels=settings.max_pixels,
        fast_dct=settings.fast_dct,
        apply_exif=settings.apply_exif,
    )
    # Raises for what no reader could read.
    records.RecordFormat(conversion.image_size, conversion.channels, conversion.encoding)
    return conversion


def list_source(source: str, output: str, settings: Settings = Settings()) -> Listing:
    """The listing of `source`, without the output if that is inside."""
    return Listing(
        source,
        (output, publishing.work_folder(output)) if output else (),
        image_column=settings.image_column,
        label_column=settings.label_column,
    )


def _plan(account, folder, layout, settings):
    from alexnet_tf.progress import tqdm

    listing = account.listing
    classes = layout.classes(listing) if layout.classes else None
    # Image paths are relative to the source, except those of copies in the work directory.
    home = folder if files.is_remote(folder) else os.path.abspath(folder)
    found = layout.images(listing, os.path.join(home, publishing.UNPACKED))
    with (
        tqdm(account.watch(found), desc="look", unit="image") as looking,
        _local_folder(folder) as local,
    ):
        return plan.make_plan(
            looking, local, settings.seed, settings.shards, classes, settings.validation_share
        )


@contextlib.contextmanager
def _local_folder(folder):
    """A local directory to make the plan in; copied to `folder` at the end if that is remote."""
    if not files.is_remote(folder):
        yield folder
        return
    with tempfile.TemporaryDirectory() as local:
        with storage.needs_room(local):
            yield local
        for name in os.listdir(local):
            tf.io.gfile.copy(os.path.join(local, name), os.path.join(folder, name), overwrite=True)


def _convert(job, work, run, rejects):
    """All receipts, those of an earlier run included."""
    from alexnet_tf.progress import tqdm

    receipts = {shard: writer.finished(job, shard) for shard in work.shards}
    kept = sum(shard.images for shard, receipt in receipts.items() if receipt)
    left = [shard for shard, receipt in receipts.items() if receipt is None]
    done = [receipt for receipt in receipts.values() if receipt]
    _check_bad(done, job.max_bad, rejects)
    syncing = []
    with (
        tqdm(total=sum(work.counts.values()), initial=kept, desc="convert", unit="image") as bar,
        concurrent.futures.ThreadPoolExecutor(1) as disk,
    ):
        for receipt in run(job, left, bar.update):
            done.append(receipt)
            _check_bad(done, job.max_bad, rejects)
            if not files.is_remote(job.folder):
                # Flushed during the conversion, so that there is little to wait for at the end.
                path = os.path.join(job.folder, receipt.shard)
                syncing.append(disk.submit(files.sync, path))
    for written in syncing:
        written.result()  # raises the disk's error
    return done


def _check_bad(receipts, max_bad, untaken):
    """Bad images and those that the layout did not take count alike."""
    rejects = [*untaken, *(reject for receipt in receipts for reject in receipt.rejects)]
    if len(rejects) > max_bad:
        raise ValueError(writer.too_many(rejects, max_bad))


def _describe(job, work, receipts, settings, of_source, rejects):
    for split in work.counts:
        names = {shard.file_name for shard in work.shards if shard.split == split}
        if not sum(receipt.count for receipt in receipts if receipt.shard in names):
            raise ValueError(f"The {split} split of {job.source} has no usable image left.")
    conversion = job.conversion
    record_format = records.RecordFormat(
        conversion.image_size, conversion.channels, conversion.encoding
    )
    training = [shard for shard in work.shards if shard.split == "train"]
    if training:
        sums = PixelSums.zeros(record_format.shape)
        for shard in training:
            sums.add(writer.read_sums(job.folder, shard))
        metadata.write_statistics(job.folder, sums)
    metadata.write_tfds(job.folder, record_format, work, receipts)
    return metadata.write_manifest(
        job.folder, metadata.as_settings(settings), work, receipts, of_source, rejects
    )


def _on_this_machine(workers):
    workers = workers or os.cpu_count() or 1

    def run(job, shards, progress):
        return runner.run_local(job, shards, workers, progress)

    return run


def _trimmed(path):
    return path.rstrip("/") or "/"
