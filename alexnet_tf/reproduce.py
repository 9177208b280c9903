"""Repeats the paper's tables and figures: `python -m alexnet_tf.reproduce NAME|all`.

Without --data_dir it uses the photographs that ship with scikit-image. "all" leaves out, and
reports, experiments whose claim is about other data; run by name, an experiment accepts any data.
WORKDIR/report.html and report.md show published and measured numbers side by side, with the data
that each was measured on. The same command resumes an interrupted run.
"""

import os
import sys

from absl import flags as absl_flags

from alexnet_tf import cli

# Names only: this imports neither experiments nor TensorFlow.
from alexnet_tf.experiments.registry import EXPERIMENTS

_SCALES = ("full", "small", "smoke")


def main(argv=None) -> int:
    """Runs the command; returns the exit code."""
    names = "\n".join(f"{name:18}{one.summary}" for name, one in EXPERIMENTS.items())
    return cli.run(_define, _main, argv, doc=f"{__doc__}\n{names}")


def _define(flags: absl_flags.FlagValues) -> None:
    absl_flags.DEFINE_string(
        "data_dir",
        None,
        "A prepared data set with train and validation. Default: photographs.",
        flag_values=flags,
    )
    absl_flags.DEFINE_string(
        "workdir", None, "Where everything goes. Default: runs/reproduce-SCALE.", flag_values=flags
    )
    absl_flags.DEFINE_enum(
        "scale",
        "full",
        list(_SCALES),
        "full: the published networks and recipes; small: a quarter of the maps and a short "
        "recipe, for one computer; smoke: seconds, shows that it runs and measures nothing.",
        flag_values=flags,
    )
    absl_flags.DEFINE_boolean(
        "plan",
        False,
        "table1: measure what the run will cost here (hours, disk, memory) and name "
        "the milestones of training; trains nothing.",
        flag_values=flags,
    )
    absl_flags.DEFINE_float(
        "plan_seconds", 60.0, "How long --plan measures.", 1.0, flag_values=flags
    )
    absl_flags.DEFINE_list(
        "seeds", ["0"], "Seeds, separated by commas: one run for each.", flag_values=flags
    )


def _main(flags: absl_flags.FlagValues, args: list[str]) -> int:
    if len(args) != 1 or args[0] not in ("all", *EXPERIMENTS):
        raise cli.UsageError(
            f"Found {' '.join(args) or 'nothing'}: expected one of all, {', '.join(EXPERIMENTS)}."
        )
    try:
        seeds = [int(seed) for seed in flags.seeds]
    except ValueError as error:
        raise cli.UsageError(
            f"--seeds={','.join(flags.seeds)} is not understood: expected numbers such as 0,1,2."
        ) from error
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise cli.UsageError("--seeds: expected different numbers from 0 on, such as 0,1,2.")
    from alexnet_tf.experiments import runner
    from alexnet_tf.training import loop
    from data_prep import photos

    data_dir = flags.data_dir or photos.cached_photos()
    names = list(EXPERIMENTS) if args[0] == "all" else args
    workdir = cli.local(
        "workdir", flags.workdir or os.path.join("runs", f"reproduce-{flags.scale}")
    )
    if flags.plan:
        if args != ["table1"]:
            raise cli.UsageError("--plan is of table1: the other experiments have no plan.")
        print(runner.plan(data_dir, workdir, flags.scale, seeds, flags.plan_seconds))
        print(f"Written: {os.path.join(workdir, 'plan.json')}")
        return cli.EXIT_OK
    try:
        only_suited = args[0] == "all"
        runner.reproduce(names, data_dir, workdir, flags.scale, seeds, only_suited)
    except loop.Interrupted as stop:
        print(stop, file=sys.stderr)
        return 75  # EX_TEMPFAIL: the same command resumes
    print(f"Written: {os.path.join(workdir, 'report.html')} and report.md beside it")
    return cli.EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
