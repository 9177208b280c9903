"""Converts images in any usual layout to a prepared data set (TFRecords + TFDS metadata).

    python -m data_prep.convert --source=DIR --output=DIR
    python -m data_prep.convert --source=DIR --dry_run
    python -m data_prep.convert --source=gs://... --output=gs://... --runner=beam -- BEAM OPTIONS

If it is killed, the same command continues. The result is byte for byte the same for any number of
workers.
"""

import sys

from alexnet_tf import cli, memory


def _define(flags):
    from absl import flags as absl_flags

    def integer(name, default, text, lower_bound=1):
        absl_flags.DEFINE_integer(name, default, text, lower_bound, flag_values=flags)

    absl_flags.DEFINE_string(
        "source", None, "Directory of the images (or gs://..., s3://...).", flag_values=flags
    )
    absl_flags.DEFINE_string("output", None, "Directory to make.", flag_values=flags)
    absl_flags.DEFINE_string(
        "layout", "auto", "Layout of the source; auto detects it.", flag_values=flags
    )
    integer("image_size", None, "Height and width of the stored images, usually 256.")
    absl_flags.DEFINE_enum(
        "channels", None, ["1", "3"], "1 stores grey, 3 colour, the usual.", flag_values=flags
    )
    absl_flags.DEFINE_enum(
        "encoding", "jpeg", ["jpeg", "raw"], "jpeg (quality 95) or raw uint8.", flag_values=flags
    )
    absl_flags.DEFINE_enum(
        "runner",
        "local",
        ["local", "beam"],
        "Where shards are converted; beam passes what follows -- to Apache Beam.",
        flag_values=flags,
    )
    integer("workers", None, "Processes; one per core if not given.")
    integer("seed", 0, "Seed of the shuffle.", 0)
    integer("shards", None, "Training shards; one per 256 images, at most 1024, if not given.")
    integer("max_bad", 0, "Leave out up to this many images that cannot be decoded.", 0)
    integer("max_pixels", memory.MAX_PIXELS, "Refuse larger images, to protect memory.")
    absl_flags.DEFINE_float(
        "validation_share",
        None,
        "Set aside this share of each class for validation, as 0.1, if the source has none.",
        flag_values=flags,
    )
    absl_flags.DEFINE_bool(
        "allow_unused",
        False,
        "Leave out folders of images that the layout does not take, instead of stopping.",
        flag_values=flags,
    )
    for role in ("image", "label"):
        absl_flags.DEFINE_string(
            f"{role}_column", None, f"The {role} column of a table.", flag_values=flags
        )
    absl_flags.DEFINE_bool(
        "dry_run",
        False,
        "Print what the source is and what would be left out; write nothing.",
        flag_values=flags,
    )
    absl_flags.DEFINE_bool(
        "fast_dct", False, "Decode large JPEGs scaled down: faster, not exact.", flag_values=flags
    )
    absl_flags.DEFINE_bool(
        "apply_exif",
        False,
        "Turn images as their EXIF says. ImageNet's convention is not to.",
        flag_values=flags,
    )


def _main(flags, args):
    if args and flags.runner != "beam":
        raise cli.UsageError(
            f"Found {args[0]!r}, expected only --flags (options for Beam need --runner=beam)."
        )
    for name in ("source",) if flags.dry_run else ("source", "output"):
        if not flags[name].value:
            raise cli.UsageError(f"--{name} is missing: name a directory, as --{name}=DIR.")

    if flags.validation_share is not None and not 0 < flags.validation_share < 1:
        raise cli.UsageError(
            f"--validation_share={flags.validation_share} is no share: expected a number between "
            "0 and 1, as 0.1."
        )

    import time

    from data_prep import runner

    local = flags.runner == "local"
    if local and flags.workers != 1 and not flags.dry_run:
        runner.warm_up()  # imports TensorFlow for the workers while we import it here
    runner.import_tensorflow()

    from data_prep import layouts, preparation

    if flags.layout not in layouts.names():
        raise cli.UsageError(
            f"--layout={flags.layout} is not known, expected one of {', '.join(layouts.names())}."
        )
    settings = preparation.Settings(
        layout=flags.layout,
        image_size=flags.image_size,
        channels=int(flags.channels) if flags.channels else None,
        encoding=flags.encoding,
        seed=flags.seed,
        shards=flags.shards,
        max_bad=flags.max_bad,
        max_pixels=flags.max_pixels,
        fast_dct=flags.fast_dct,
        apply_exif=flags.apply_exif,
        validation_share=flags.validation_share,
        allow_unused=flags.allow_unused,
        image_column=flags.image_column,
        label_column=flags.label_column,
    )
    if flags.dry_run:
        from data_prep import report

        print("\n".join(report.dry_run(flags.source, settings)))
        return
    begin = time.monotonic()
    run = None
    if not local:
        from data_prep import beam

        run = beam.runner(args)
    from data_prep import report

    if done := preparation.prepared(flags.source, flags.output, settings):
        print(report.already_prepared(done, flags.output))
        return
    manifest = preparation.prepare(flags.source, flags.output, settings, flags.workers, run)
    print("\n".join(report.of_manifest(manifest, flags.output, time.monotonic() - begin)))


def main(argv=None) -> int:
    return cli.run(_define, _main, argv, doc=__doc__)


if __name__ == "__main__":
    sys.exit(main())
