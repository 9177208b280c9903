"""Trains a network: `python -m alexnet_tf.train --strategy=mirrored`.

Without --data_dir it prepares real photographs that ship with scikit-image, and trains on them with
the quickstart recipe. The same command given again goes on where the run stopped. Any field of the
recipe is a flag: --epochs=10 --learning_rate=0.02 --rate_steps=30:0.001,60:0.0001. A field whose
flag is not given has the recipe's value, which the run prints.
"""

import dataclasses
import os
import sys

from absl import flags as absl_flags

from alexnet_tf import cli, memory

# The recipe's fields as flags, with their parsers. Importing the recipes needs no TensorFlow.
from alexnet_tf.training import recipe_text
from alexnet_tf.training.recipes import RECIPES, Recipe

EXIT_INTERRUPTED = 75  # EX_TEMPFAIL of sysexits.h: saved; give the same command again


def main(argv=None) -> int:
    """Runs the command; returns the exit code."""
    if argv is None:  # this program's own process, and not a caller's
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
        "the network on each of two devices; its own default model is alexnet_145).",
    )
    absl_flags.DEFINE_integer(
        "devices", None, "Replicas of --strategy=mirrored.", lower_bound=1, flag_values=flags
    )
    text("recipe", None, f"One of {', '.join(RECIPES)}. Default: paper; quickstart without data.")
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
    text("workdir", None, "Where the run lies. Default: runs/RECIPE.")
    text("data_service", None, "grpc://HOST:PORT of a tf.data service that reads and decodes.")
    text("checkpoint_every", "10m", "Save inside an epoch too: 500 (steps) or 10m (minutes).")
    absl_flags.DEFINE_integer("seed", 0, "Of weights, order, crops, dropout.", flag_values=flags)
    absl_flags.DEFINE_bool(
        "deterministic", True, "Only ops that give the same bits each time.", flag_values=flags
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
        "profile", None, "Profile so many steps for TensorBoard.", lower_bound=1, flag_values=flags
    )
    meanings = recipe_text.explanations()
    for field in dataclasses.fields(Recipe):
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
    name = flags.recipe or ("paper" if flags.data_dir else "quickstart")
    if name not in RECIPES:
        raise cli.UsageError(f"There is no recipe {name!r}: use one of {', '.join(RECIPES)}.")
    recipe = _override(RECIPES[name], flags)
    if flags.strategy == "towers":
        recipe = _with_columns(recipe, flags.model)
        if flags.jit_compile == "true":
            raise cli.UsageError(
                "--jit_compile=true needs another strategy than towers: XLA compiles for one "
                "device, and the halves of the network are on two."
            )
    every = _checkpoint_every(flags.checkpoint_every)
    if not 0 <= flags.seed < 2**32:
        raise cli.UsageError(f"--seed={flags.seed}: expected a number from 0 to {2**32 - 1}.")
    workdir = cli.local("workdir", flags.workdir or os.path.join("runs", name))
    if flags.debug_numerics and flags.data_service:
        raise cli.UsageError("--debug_numerics does not work with --data_service: leave one out.")

    import tensorflow as tf

    from alexnet_tf.training import cluster, debugging, distribution, loop
    from data_prep import photos

    if flags.deterministic:
        tf.config.experimental.enable_op_determinism()
    try:
        strategy = distribution.make_strategy(flags.strategy, flags.devices)
    except ValueError as error:
        raise cli.UsageError(str(error)) from error
    if recipe.batch_size % strategy.num_replicas_in_sync:
        raise cli.UsageError(
            f"The batch size {recipe.batch_size} cannot be split over "
            f"{strategy.num_replicas_in_sync} replicas: use a multiple of "
            f"{strategy.num_replicas_in_sync} for --batch_size."
        )
    run = loop.Run(
        recipe=recipe,
        data_dir=flags.data_dir or photos.cached_photos(),
        workdir=workdir,
        seed=flags.seed,
        first_label=flags.first_label,
        checkpoint_every=loop.CheckpointEvery(*every),
        data_service=flags.data_service or "",
        jit_compile=flags.jit_compile,
        debug_numerics=flags.debug_numerics,
        flags={key: flags[key].value for key in flags if flags[key].present},
    )
    print(recipe_text.described(name, recipe, RECIPES[name]), flush=True)
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
    if cluster.is_chief(strategy):
        _report(run.workdir, results)
    return cli.EXIT_OK


def _override(recipe: Recipe, flags) -> Recipe:
    """The recipe with the fields that were given as flags."""
    changes = {
        field.name: flags[field.name].value
        for field in dataclasses.fields(Recipe)
        if flags[field.name].value is not None
    }
    for field in ("rate_steps", "bias_rate_steps", "conv1_rate_steps"):
        if field in changes:
            changes[field] = _pairs(field, changes[field], float, "EPOCH:RATE", "25:0.001,51:1e-4")
    if "layer_weight_decay" in changes:
        changes["layer_weight_decay"] = _pairs(
            "layer_weight_decay", flags.layer_weight_decay, str, "LAYER:DECAY", "fc6:0.004,fc8:0.01"
        )
    try:
        changed = dataclasses.replace(recipe, **changes)
        changed.require_complete()
        return changed
    except ValueError as error:
        raise cli.UsageError(f"--{error}") from error


def _with_columns(recipe: Recipe, model: str | None) -> Recipe:
    """The recipe, of a network that can be cut in two."""
    # The network of the paper's text normalises across its halves; what ran on two GPUs is #145.
    if model is None and recipe.model == "alexnet":
        recipe = dataclasses.replace(recipe, model="alexnet_145")
    from alexnet_tf.models import catalog, towers

    try:
        towers.stages(catalog.find_variant(recipe.model))
    except ValueError as error:
        raise cli.UsageError(f"--strategy=towers: {error}") from error
    return recipe


def _pairs(name: str, text: str, kind: type, form: str, example: str):
    """ "25:0.001,51:0.0001" as ((25.0, 0.001), (51.0, 0.0001)) for the kind float."""
    try:
        pairs = [part.split(":") for part in text.split(",") if part]
        return tuple((kind(key), float(number)) for key, number in pairs)
    except ValueError as error:
        raise cli.UsageError(
            f"--{name}={text!r} is not understood: expected {form},{form},... such as {example}."
        ) from error


def _checkpoint_every(text: str) -> tuple[int, float]:
    """(steps, seconds), one of them 0."""
    number = text.removesuffix("m")
    if not number.isdigit() or int(number) < 1:
        raise cli.UsageError(
            f"--checkpoint_every={text!r} is not understood: expected steps (500) or minutes (10m)."
        )
    return (0, 60.0 * int(number)) if text.endswith("m") else (int(number), 0.0)


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
