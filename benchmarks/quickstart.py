"""The quickstart recipe on a prepared data set, over several seeds: errors, times, curves.

    python benchmarks/quickstart.py --data_dir=demo/records --workdir=runs/seeds --seeds=0,1,2

Trains and evaluates through the front doors, in processes of their own, and writes
benchmarks/results/quickstart.json and quickstart.png. Stopped and started again it goes on: a seed
whose run lies in WORKDIR/seedN is only evaluated.
"""

import json
import pathlib
import subprocess
import sys

from absl import flags as absl_flags

from alexnet_tf import door

RESULTS = pathlib.Path(__file__).parent / "results"


def main(argv=None) -> int:
    """The front door; returns the exit code."""
    return door.run(_define, _main, argv, doc=__doc__)


def _define(flags):
    for name, default, text in (
        ("data_dir", None, "A prepared data set, such as the embedded photographs."),
        ("workdir", None, "Where the runs lie."),
        ("seeds", "0,1,2", "Numbers, with commas between."),
    ):
        absl_flags.DEFINE_string(name, default, text, flag_values=flags)


def _main(flags, args) -> int:
    for name in ("data_dir", "workdir"):
        if flags[name].value is None:
            raise door.UsageError(f"--{name} is missing.")
    runs = [_run(int(seed), flags) for seed in flags.seeds.split(",")]
    RESULTS.mkdir(exist_ok=True)
    output = RESULTS / "quickstart.json"
    aside = output.with_name(f".{output.name}")
    aside.write_text(json.dumps({"runs": runs}, indent=1) + "\n", encoding="utf-8")
    aside.replace(output)
    workdirs = [str(pathlib.Path(flags.workdir) / f"seed{run['seed']}") for run in runs]
    picture = f"--output={RESULTS / 'quickstart.png'}"
    _door("alexnet_tf.analyze", "curves", f"--workdir={','.join(workdirs)}", picture)
    for run in runs:
        print(
            f"seed {run['seed']}: {run['top1_error_1_crop']:.2%} wrong with one crop, "
            f"{run['top1_error_10_crops']:.2%} with ten"
        )
    return door.EXIT_OK


def _run(seed: int, flags) -> dict:
    workdir = pathlib.Path(flags.workdir) / f"seed{seed}"
    common = f"--data_dir={flags.data_dir}"
    command = ["alexnet_tf.train", "--strategy=mirrored", "--recipe=quickstart", common]
    command += [f"--workdir={workdir}", f"--seed={seed}"]
    if not (workdir / "model.keras").exists():
        _door(*command)
    errors = {}
    for crops in (1, 10):
        output = workdir / f"evaluation_{crops}.json"
        view = (f"--crops={crops}", f"--output={output}")
        _door("alexnet_tf.evaluate", f"--model={workdir}", common, *view)
        errors[crops] = json.loads(output.read_text(encoding="utf-8"))["top1_error"]
    config = json.loads((workdir / "config.json").read_text(encoding="utf-8"))
    return {
        "seed": seed,
        "top1_error_1_crop": errors[1],
        "top1_error_10_crops": errors[10],
        "command": " ".join(["python -m", *command]),
        "metrics_csv": (workdir / "metrics.csv").read_text(encoding="utf-8").splitlines(),
        "config": config,
    }


def _door(module, *arguments):
    code = subprocess.run([sys.executable, "-m", module, *map(str, arguments)]).returncode
    if code:
        raise OSError(f"{module} ended with code {code}: see above, then start this again.")


if __name__ == "__main__":
    sys.exit(main())
