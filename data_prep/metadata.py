"""Writes TFDS metadata, statistics.npz and manifest.json."""

import dataclasses
import json
import os
import pathlib
import tempfile
from collections.abc import Sequence

import alexnet_tf
from alexnet_tf.data import records
from data_prep import plan, storage, writer
from data_prep.statistics import PixelSums

MANIFEST_VERSION = 1


def write_statistics(folder: str, sums: PixelSums) -> None:
    """Writes statistics.npz."""
    writer.write_arrays(os.path.join(folder, records.STATISTICS_FILE), **sums.finish())


def write_tfds(
    folder: str,
    record_format: records.RecordFormat,
    work: plan.Plan,
    receipts: Sequence[writer.Receipt],
) -> None:
    """Writes features.json and dataset_info.json, so that TFDS reads `folder` by itself."""
    import tensorflow_datasets as tfds

    of = {receipt.shard: receipt for receipt in receipts}
    # In a local directory first: TFDS knows fewer kinds of paths than tf.io.gfile.
    with tempfile.TemporaryDirectory() as local, storage.needs_room(local):
        template = tfds.core.ShardedFileTemplate(
            data_dir=local,
            dataset_name=records.DATASET_NAME,
            filetype_suffix="tfrecord",
            template="{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
        )
        for receipt in receipts:  # TFDS checks that the files exist
            pathlib.Path(local, receipt.shard).touch()
        splits = []
        for split in work.counts:
            shards = [of[shard.file_name] for shard in work.shards if shard.split == split]
            splits.append(
                tfds.core.SplitInfo(
                    name=split,
                    shard_lengths=[receipt.count for receipt in shards],
                    num_bytes=sum(receipt.bytes for receipt in shards),
                    filename_template=template,
                )
            )
        tfds.folder_dataset.write_metadata(
            data_dir=local,
            features=records.tfds_features(record_format, list(work.synsets)),
            split_infos=splits,
            version=records.DATASET_VERSION,
            filename_template=template,
            check_data=False,
            description="Images prepared by alexnet-tf (python -m data_prep.convert).",
        )
        # TFDS gives a folder data set no name, but its reader looks for files of this name.
        path = pathlib.Path(local, "dataset_info.json")
        info = json.loads(path.read_text(encoding="utf-8"))
        info["name"] = records.DATASET_NAME
        path.write_text(json.dumps(info, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        for path in sorted(pathlib.Path(local).iterdir()):
            if path.name not in of:
                writer.write_bytes(os.path.join(folder, path.name), path.read_bytes())


def write_manifest(
    folder: str,
    settings: dict,
    work: plan.Plan,
    receipts: Sequence[writer.Receipt],
    of_source: dict,
    rejects: Sequence[list[str]],
) -> dict:
    """Writes manifest.json: settings, and per shard count, bytes and sha256; repairs; rejects.

    Args:
      of_source: `accounting.summary`.
      rejects: images that no shard has, as [path, reason].
    """
    of = {receipt.shard: receipt for receipt in receipts}
    ordered = [(shard, of[shard.file_name]) for shard in work.shards]
    manifest = {
        "manifest_version": MANIFEST_VERSION,
        "tool": f"alexnet-tf {alexnet_tf.__version__}",
        "settings": settings,
        "classes": len(work.synsets),
        "counts": {
            split: sum(receipt.count for shard, receipt in ordered if shard.split == split)
            for split in work.counts
        },
        "shards": [
            {
                "file": receipt.shard,
                "split": shard.split,
                "count": receipt.count,
                "bytes": receipt.bytes,
                "sha256": receipt.sha256,
            }
            for shard, receipt in ordered
        ],
        # Sorted: the order in the shards means nothing to a reader.
        "repairs": sorted(repair for _, receipt in ordered for repair in receipt.repairs),
        "rejects": sorted(
            [*rejects, *(reject for _, receipt in ordered for reject in receipt.rejects)]
        ),
        "source": of_source,
    }
    text = json.dumps(manifest, indent=1, ensure_ascii=True)
    writer.write_text(os.path.join(folder, records.MANIFEST_FILE), text + "\n")
    return manifest


def as_settings(settings) -> dict:
    """A settings dataclass as in the manifest."""
    return dataclasses.asdict(settings)
