"""AlexNet's quickstart recipe over several seeds: errors, their spread, times, curves.

    python benchmarks/quickstart.py --workdir=runs/seeds --seeds=0,1,2

Without --data_dir on the embedded photographs. Trains and evaluates through the commands, in
separate processes, writes benchmarks/results/quickstart.json and redraws the plots (see
measured.py). The same flags resume an interrupted run: a seed whose network is in
WORKDIR/seedN is only evaluated, an interrupted one resumes. Arguments after `--` are passed to
alexnet_tf.train.
"""

import pathlib
import sys

import measured
import runs
from absl import flags as absl_flags

sys.path.insert(0, str(runs.ROOT))  # before this directory, which has a data_prep.py too

from alexnet_tf import cli, files


def main(argv=None) -> int:
    """Runs the command; returns the exit code."""
    return cli.run(_define, _main, argv, doc=__doc__)


def _define(flags):
    for name, default, text in (
        ("data_dir", None, "A prepared data set. Default: the embedded photographs."),
        ("workdir", None, "The runs' directory."),
        ("seeds", "0,1,2", "Numbers, with commas between."),
        ("results", str(runs.RESULTS), "Directory for the result."),
    ):
        absl_flags.DEFINE_string(name, default, text, flag_values=flags)


def _main(flags, args) -> int:
    if flags.workdir is None:
        raise cli.UsageError("--workdir is missing.")
    seeds = flags.seeds.split(",")
    if not all(seed.isdecimal() for seed in seeds) or len(set(seeds)) < len(seeds):
        raise cli.UsageError(f"--seeds={flags.seeds}: expected different numbers, such as 0,1,2.")
    from data_prep import photos

    data_dir = flags.data_dir or photos.cached_photos()
    data = pathlib.Path(flags.data_dir).name if flags.data_dir else "the embedded photographs"
    found, settings = [], {}
    for seed in map(int, seeds):
        workdir = pathlib.Path(flags.workdir) / f"seed{seed}"
        found.append(_run(seed, workdir, data_dir, args))
        settings = runs.circumstances(workdir)
    result = {
        "data": data,
        "seeds": [run["seed"] for run in found],
        **{
            name: runs.mean_and_spread([run[name] for run in found])
            for name in ("top1_error_1_crop", "top1_error_10_crops")
        },
        "runs": found,
        **settings,
    }
    results = pathlib.Path(flags.results)
    files.write_json(results / "quickstart.json", result, indent=1)
    measured.draw(results)
    for run in found:
        print(
            f"seed {run['seed']}: {run['top1_error_1_crop']:.2%} wrong with one crop, "
            f"{run['top1_error_10_crops']:.2%} with ten"
        )
    return cli.EXIT_OK


def _run(seed: int, workdir: pathlib.Path, data_dir: str, more: list[str]) -> dict:
    training = ["alexnet_tf.train", "--strategy=mirrored", "--recipe=quickstart"]
    training += [f"--data_dir={data_dir}", f"--workdir={workdir}", f"--seed={seed}", *more]
    if not (workdir / "model.keras").exists():
        runs.run(*training)
    one, ten = (runs.evaluate(workdir, data_dir, crops) for crops in (1, 10))
    return {
        "seed": seed,
        "count": one["count"],
        "top1_error_1_crop": one["top1_error"],
        "top1_error_1_crop_interval_95": one["top1_error_interval_95"],
        "top1_error_10_crops": ten["top1_error"],
        "top1_error_10_crops_interval_95": ten["top1_error_interval_95"],
        **runs.training(workdir),
        "command": runs.command(*training),
    }


if __name__ == "__main__":
    sys.exit(main())
