"""Reports of a conversion: before it (--dry_run) and after it."""

import collections
import tempfile

from data_prep import accounting, images, layouts, plan, preparation, writer

_LINES = 20  # of what was left out; manifest.json has all
_EXAMPLES = 3  # images of each class


def of_manifest(manifest: dict, output: str, seconds: float) -> list[str]:
    """The final report, from the manifest.

    Args:
      manifest: of the data set in the directory `output`.
      seconds: duration of the conversion.
    """
    counts = manifest["counts"]
    lines = [
        f"{output}: {_contents(manifest)}; {len(manifest['repairs'])} repairs, "
        f"{len(manifest['rejects'])} left out (manifest.json lists them); {seconds:.0f} s"
    ]
    unused = manifest.get("source", {}).get("unused", [])
    lines += _first(accounting.sentences(unused, manifest["rejects"]), "manifest.json lists them")
    turned = sum(images.NOT_TURNED in repair for _, repair in manifest["repairs"])
    if turned:
        lines.append(
            f"{turned} images have an EXIF orientation and were not turned: --apply_exif turns "
            "them, in every place where the network sees images."
        )
    return lines + _no_validation(counts)


def already_prepared(manifest: dict, output: str) -> str:
    """What is said of an `output` that was there before."""
    return f"{output} is already prepared, nothing was done: {_contents(manifest)}"


def _contents(manifest):
    size = sum(shard["bytes"] for shard in manifest["shards"]) / 1e6
    return (
        f"{_counts(manifest['counts'])} images of {manifest['classes']} classes in "
        f"{len(manifest['shards'])} shards, {size:.1f} MB"
    )


def dry_run(source: str, settings: preparation.Settings) -> list[str]:
    """What a source is: layout, splits, classes, what would be left out, some images of each class.

    Nothing is written but a list of the images, in a temporary directory; a TFDS data set that is
    not there yet is downloaded by TFDS.

    Raises:
      FileNotFoundError, ValueError: as `preparation.prepare`, unless what stops it are images that
        would be left out: that is said.
    """
    listing = preparation.list_source(source.rstrip("/") or "/", "", settings)
    layout = layouts.find(listing, settings.layout)
    account = accounting.Account(listing, layout.name, allow_unused=True)
    seen: dict[str, list[str]] = {}
    by_class: collections.Counter = collections.Counter()

    def noted():
        for image in account.watch(layout.images(listing, None)):
            by_class[image.split, image.synset] += 1
            examples = seen.setdefault(image.synset, [])
            if len(examples) < _EXAMPLES:
                examples.append(writer.where(image))
            yield image

    classes = layout.classes(listing) if layout.classes else None
    with tempfile.TemporaryDirectory() as folder:
        work = plan.make_plan(
            noted(), folder, settings.seed, settings.shards, classes, settings.validation_share
        )
    lines = [
        f"{listing.source}: the layout {layout.name} ({layout.shape})",
        f"{_counts(work.counts)} images of {len(work.synsets)} classes; {listing.count} files",
    ]
    for synset in work.synsets:
        counts = {
            split: by_class[split, synset] for split in plan.SPLITS if by_class[split, synset]
        }
        lines.append(f"  {synset}: {_counts(counts)}: {', '.join(seen.get(synset, ()))}")
    lines += [f"labels and archives: {path}: {what}" for path, what in listing.used.items()]
    lines += accounting.sentences(account.unused, account.rejects)
    if account.stops and not settings.allow_unused:
        lines.append(f"The conversion would stop: {account.stops[0]}")
    if len(account.rejects) > settings.max_bad:
        lines.append(
            f"The conversion would stop: {writer.too_many(account.rejects, settings.max_bad)}"
        )
    if settings.validation_share is None:
        lines += _no_validation(work.counts)
    return lines


def _counts(counts):
    return ", ".join(f"{count} {split}" for split, count in counts.items())


def _first(lines, where):
    if len(lines) <= _LINES:
        return lines
    return [*lines[:_LINES], f"... and {len(lines) - _LINES} more: {where}"]


def _no_validation(counts):
    if "validation" in counts or "train" not in counts:
        return []
    return [
        "There is no validation split: --validation_share=0.1 sets a tenth of each class aside, in "
        "a new --output."
    ]
