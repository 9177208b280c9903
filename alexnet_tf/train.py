"""Trains a network: `python -m alexnet_tf.train --strategy=mirrored`.

Without --data_dir it prepares photographs that ship with scikit-image, and trains on them with the
quickstart recipe. The same command resumes a stopped run. Every field of the recipe is a flag:
--epochs=10 --learning_rate=0.02 --rate_steps=30:0.001,60:0.0001. A field without a flag has the
recipe's value, which the run prints.
"""

import contextlib
import dataclasses
import os
import sys
from collections.abc import Iterator

from absl import flags as absl_flags

from alexnet_tf import cli, memory

# These import no TensorFlow.
from alexnet_tf.training import recipe_text, recipes
from alexnet_tf.training.run import CheckpointEvery, Run

EXIT_INTERRUPTED = 75  # EX_TEMPFAIL of sysexits.h: saved; the same command resumes


def main(argv=None) -> int:
    """Runs the command; returns the exit code."""
    if argv is None:  # this program's own process, not a caller's
        memory.keep_freed_memory()
    fields = {f"Recipe, {name.lower()}": names for name, names in recipe_text.GROUPS.items()}
    return cli.run(_define, _main, argv, doc=__doc__, groups=fields)


def _define(flags: absl_flags.FlagValues) -> None:
    def text(name, default, help_text):
        absl_flags.DEFINE_string(name, default, help_text, flag_values=flags)

    text(
        "strategy",
        "none",
        "none, mirrored (all GPUs, else the CPU split in two), multi_worker, or towers (half of "
        "the network on each of two devices; default model alexnet_145).",
    )
    absl_flags.DEFINE_integer(
        "devices", None, "Replicas of --strategy=mirrored.", lower_bound=1, flag_values=flags
    )
    text(
        "recipe",
        None,
        f"{', '.join(recipes.RECIPES)}. Default: paper; quickstart without data.",
    )
    text(
        "data_dir",
        None,
        "A data set that data_prep.convert wrote; or TFRecords or a TFDS data set of others, "
        "tfds:NAME too. Default: photographs.",
    )
    absl_flags.DEFINE_integer(
        "first_label",
        None,
        "Number of the first class in TFRecords without metadata, 0 or 1. Default: the smallest.",
        flag_values=flags,
    )
    text("workdir", None, "The run's directory. Default: runs/RECIPE.")
    text("data_service", None, "grpc://HOST:PORT of a tf.data service that reads and decodes.")
    text("checkpoint_every", "10m", "Save inside an epoch too: 500 (steps) or 10m (minutes).")
    absl_flags.DEFINE_integer("seed", 0, "Of weights, order, crops, dropout.", flag_values=flags)
    absl_flags.DEFINE_bool(
        "deterministic", True, "Use only deterministic operations.", flag_values=flags
    )
    absl_flags.DEFINE_enum(
        "jit_compile",
        "auto",
        ["auto", "true", "false"],
        "Whether XLA compiles the step; auto: in long runs on a GPU.",
        flag_values=flags,
    )
    absl_flags.DEFINE_bool(
        "debug_numerics", False, "Stop at the first operation with NaN (slow).", flag_values=flags
    )
    absl_flags.DEFINE_integer(
        "profile",
        None,
        "Steps to profile for TensorBoard.",
        lower_bound=1,
        flag_values=flags,
    )
    meanings = recipe_text.explanations()
    for field in dataclasses.fields(recipes.Recipe):
        _define_field(flags, field, meanings[field.name])


def _define_field(flags, field, meaning: str) -> None:
    define = {
        bool: absl_flags.DEFINE_bool,
        int: absl_flags.DEFINE_integer,
        int | None: absl_flags.DEFINE_integer,
        float: absl_flags.DEFINE_float,
    }.get(field.type, absl_flags.DEFINE_string)
    define(field.name, None, meaning[0].upper() + meaning[1:], flag_values=flags)


def _main(flags: absl_flags.FlagValues, args: list[str]) -> int:
    if args:
        raise cli.UsageError(f"Found {args[0]!r}: train takes flags only, such as --data_dir=DIR.")
    with _usage():
        name = flags.recipe or ("paper" if flags.data_dir else "quickstart")
        recipe = recipes.get_recipe(name)
    workdir = cli.local("workdir", flags.workdir or os.path.join("runs", name))
    given = {field.name: flags[field.name].value for field in dataclasses.fields(recipes.Recipe)}
    given = {field: value for field, value in given.items() if value is not None}
    if flags.strategy == "towers" and recipe.model == "alexnet":
        # The paper's network normalises across its halves; the one run on two GPUs is alexnet_145.
        given.setdefault("model", "alexnet_145")
    with _usage("--"):
        run = Run(
            recipe=recipes.override(recipe, given),
            data_dir=flags.data_dir or "",
            workdir=workdir,
            seed=flags.seed,
            first_label=flags.first_label,
            checkpoint_every=CheckpointEvery.parse(flags.checkpoint_every),
            data_service=flags.data_service or "",
            jit_compile=flags.jit_compile,
            debug_numerics=flags.debug_numerics,
            flags={key: flags[key].value for key in flags if flags[key].present},
        )

    import tensorflow as tf

    from alexnet_tf.training import cluster, debugging, distribution, loop
    from data_prep import photos

    if flags.deterministic:
        tf.config.experimental.enable_op_determinism()
    with _usage():
        strategy = distribution.make_strategy(flags.strategy, flags.devices)
        distribution.require_trainable(strategy, run.recipe, run.jit_compile)
    run = dataclasses.replace(run, data_dir=run.data_dir or photos.cached_photos())
    original = recipes.get_recipe(name)
    print(recipe_text.described(name, run.recipe, original), flush=True)
    print(
        f"{strategy.num_replicas_in_sync} replica(s), {run.data_dir} -> {run.workdir}", flush=True
    )
    if run.data_service:
        print(
            "Data service: the order of an epoch's batches is not kept, so the run saves at the "
            "end of each epoch, and one that was stopped begins its epoch again.",
            flush=True,
        )
    callbacks = []
    if flags.profile:
        log = os.path.join(run.workdir, "tensorboard")
        callbacks.append(debugging.Profile(log, flags.profile))
    try:
        results = loop.train(run, strategy, callbacks)
    except loop.Interrupted as stop:
        print(stop, file=sys.stderr)
        return EXIT_INTERRUPTED
    if cluster.Cluster(strategy).is_chief:
        _report(run.workdir, results)
    return cli.EXIT_OK


@contextlib.contextmanager
def _usage(prefix: str = "") -> Iterator[None]:
    """Turns a ValueError in the body into a usage error."""
    try:
        yield
    except ValueError as error:
        raise cli.UsageError(f"{prefix}{error}") from error


def _report(workdir: str, results: dict) -> None:
    from alexnet_tf.training import tensorboard

    print(f"\nTrained {results['epochs']} epochs, {results['steps']} steps.")
    for name in ("loss", "validation_loss"):
        if results[name] is not None:
            print(f"  {name.replace('_', ' '):24}{results[name]:.4f}")
    for name in ("top1_error", "validation_top1_error", "validation_top5_error"):
        if results[name] is not None:
            print(f"  {name.replace('_', ' '):24}{results[name]:.2%}")
    print(f"  network                 {os.path.join(workdir, 'model.keras')}")
    print(f"  curve                   {os.path.join(workdir, 'metrics.csv')}")
    print(f"  to watch                {tensorboard.how_to_look(workdir)}")


if __name__ == "__main__":
    sys.exit(main())
