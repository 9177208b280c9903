"""Copies an experiment's result to benchmarks/results/NAME.json and NAME.png.

    python -m alexnet_tf.reproduce fig1 --data_dir=cifar10 --workdir=runs/fig1 --seeds=0,1,2
    python benchmarks/keep.py --workdir=runs/fig1 --experiment=fig1 --name=fig1_cifar10

Then updates the tables in the documentation (see measured.py).
"""

import json
import pathlib
import shutil
import sys

import measured
import runs
from absl import flags as absl_flags

from alexnet_tf import cli, files


def main(argv=None) -> int:
    """Runs the program and returns its exit code."""
    return cli.run(_define, _main, argv, doc=__doc__)


def _define(flags):
    for name, default, text in (
        ("workdir", None, "Of alexnet_tf.reproduce."),
        ("experiment", None, "Which of its experiments."),
        ("name", None, "Of the files."),
        ("note", "", "About the machine, for people."),
        ("results", str(runs.RESULTS), "Directory for the files."),
    ):
        absl_flags.DEFINE_string(name, default, text, flag_values=flags)


def _main(flags, args) -> int:
    for name in ("workdir", "experiment", "name"):
        if flags[name].value is None:
            raise cli.UsageError(f"--{name} is missing.")
    workdir, results = pathlib.Path(flags.workdir), pathlib.Path(flags.results)
    content = json.loads((workdir / "results.json").read_text(encoding="utf-8"))
    if flags.experiment not in content:
        raise ValueError(f"{workdir} holds no result of {flags.experiment}: run it first.")
    kept = {name: content[name] for name in ("data", "scale", "machine", flags.experiment)}
    if flags.note:
        kept["note"] = flags.note
    files.write_json(results / f"{flags.name}.json", kept, indent=1)
    for _, image in content[flags.experiment]["finding"]["images"][:1]:
        shutil.copyfile(workdir / image, results / f"{flags.name}.png")
    if results == runs.RESULTS:
        measured.main()
    print(f"Written: {results / flags.name}.json")
    return cli.EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
