"""LeNet-5's recipe on a prepared MNIST or Fashion-MNIST: error, time and provenance as JSON.

    python -m data_prep.convert --source=MNIST_IDX_FILES --output=mnist --encoding=raw
    python benchmarks/lenet5.py --data_dir=mnist --name=mnist --workdir=runs/mnist

Trains and evaluates through the commands, in separate processes, writes
benchmarks/results/lenet5_NAME.json and redraws the plots (see measured.py). The same flags resume
an interrupted run: training_seconds are of all epochs, without validation, last_command_seconds of
the last start. Arguments after `--` are passed to alexnet_tf.train.
"""

import pathlib
import sys
import time

import measured
import runs
from absl import flags as absl_flags

from alexnet_tf import cli, files


def main(argv=None) -> int:
    """Runs the command; returns the exit code."""
    return cli.run(_define, _main, argv, doc=__doc__)


def _define(flags):
    for name, default, text in (
        ("data_dir", None, "A prepared data set of grey 28-pixel images."),
        ("name", None, "Its name, for the result's file."),
        ("workdir", None, "The run's directory."),
        ("results", str(runs.RESULTS), "Directory for the result."),
    ):
        absl_flags.DEFINE_string(name, default, text, flag_values=flags)
    absl_flags.DEFINE_integer("seed", 0, "Of the run.", flag_values=flags)


def _main(flags, args) -> int:
    for name in ("data_dir", "name", "workdir"):
        if flags[name].value is None:
            raise cli.UsageError(f"--{name} is missing.")
    workdir, results = pathlib.Path(flags.workdir), pathlib.Path(flags.results)
    training = ["alexnet_tf.train", "--recipe=lenet5", f"--workdir={workdir}"]
    training += [f"--data_dir={flags.data_dir}", f"--seed={flags.seed}", *args]
    began = time.monotonic()
    runs.run(*training)
    seconds = time.monotonic() - began
    score = runs.evaluate(workdir, flags.data_dir, crops=1)
    result = {
        "data": flags.name,
        "test_error": score["top1_error"],
        "test_error_interval_95": score["top1_error_interval_95"],
        "wrong": round(score["top1_error"] * score["count"]),
        "last_command_seconds": seconds,
        "command": runs.command(*training),
        "seed": flags.seed,
        **runs.training(workdir),
        **runs.circumstances(workdir),
    }
    output = results / f"lenet5_{flags.name}.json"
    files.write_json(output, result, indent=1)
    measured.draw(results)
    print(f"{flags.name}: {score['top1_error']:.2%} wrong; written to {output}")
    return cli.EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
