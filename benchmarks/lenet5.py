"""LeNet-5's recipe on a prepared MNIST or Fashion-MNIST: error, time, and how it was made, as JSON.

    python -m data_prep.convert --source=MNIST_IDX_FILES --output=mnist --encoding=raw
    python benchmarks/lenet5.py --data_dir=mnist --name=mnist --workdir=runs/mnist

Trains and evaluates through the front doors, in processes of their own, and writes
benchmarks/results/lenet5_NAME.json. Stopped and started again with the same flags, it goes on:
training_seconds are of all epochs, without validation, last_command_seconds of the last start.
What follows `--` goes to alexnet_tf.train.
"""

import csv
import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess
import sys
import time

from absl import flags as absl_flags

from alexnet_tf import door

RESULTS = pathlib.Path(__file__).parent / "results"


def main(argv=None) -> int:
    """The front door; returns the exit code."""
    return door.run(_define, _main, argv, doc=__doc__)


def _define(flags):
    for name, text in (
        ("data_dir", "A prepared data set of grey 28-pixel pictures."),
        ("name", "Its name, for the result's file."),
        ("workdir", "Where the run lies."),
    ):
        absl_flags.DEFINE_string(name, None, text, flag_values=flags)
    absl_flags.DEFINE_integer("seed", 0, "Of the run.", flag_values=flags)


def _main(flags, args) -> int:
    for name in ("data_dir", "name", "workdir"):
        if flags[name].value is None:
            raise door.UsageError(f"--{name} is missing.")
    workdir = pathlib.Path(flags.workdir)
    common = [f"--data_dir={flags.data_dir}"]
    training = ["alexnet_tf.train", "--recipe=lenet5", f"--workdir={workdir}", *common]
    training += [f"--seed={flags.seed}", *args]
    began = time.monotonic()
    _door(training)
    seconds = time.monotonic() - began
    evaluating = ["alexnet_tf.evaluate", f"--model={workdir}", *common]
    _door([*evaluating, f"--output={workdir / 'evaluation.json'}"])
    with open(workdir / "metrics.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    config = json.loads((workdir / "config.json").read_text())
    score = json.loads((workdir / "evaluation.json").read_text())
    result = {
        "data": flags.name,
        "pictures": config["counts"],
        "test_error": score["top1_error"],
        "test_error_interval_95": score["top1_error_interval_95"],
        "wrong": round(score["top1_error"] * score["count"]),
        "last_command_seconds": seconds,
        "training_seconds": sum(float(row["seconds"]) for row in rows),
        "command": "python -m " + " ".join(training),
        "seed": flags.seed,
        "recipe": config["recipe"],
        "test_error_by_epoch": [float(row["validation_top1_error"]) for row in rows],
        "machine": _machine(),
        "versions": config["versions"],
        "git_commit": config["git_commit"],
    }
    output = RESULTS / f"lenet5_{flags.name}.json"
    aside = output.with_name(f".{output.name}")
    aside.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    aside.replace(output)
    print(
        f"{flags.name}: {score['top1_error']:.2%} wrong after {seconds:.0f} s; written to {output}"
    )
    return door.EXIT_OK


def _door(arguments):
    code = subprocess.run([sys.executable, "-m", *arguments]).returncode
    if code:
        raise OSError(f"{' '.join(arguments)} ended with code {code}: see above, then go on.")


def _machine():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        names = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "numpy": importlib.metadata.version("numpy"),
    }


if __name__ == "__main__":
    sys.exit(main())
