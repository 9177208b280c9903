"""Shared by the scripts that train through the commands: start one, record it."""

import json
import pathlib
import statistics
import subprocess
import sys

from alexnet_tf import machine
from alexnet_tf.training import reports

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"


def run(module: str, *arguments: str) -> None:
    """Runs a command in its own process.

    Raises:
      OSError: it did not end well; it has said why.
    """
    code = subprocess.run([sys.executable, "-m", module, *map(str, arguments)]).returncode
    if code:
        raise OSError(f"{module} ended with code {code}: see above, then start this again.")


def command(module: str, *arguments: str) -> str:
    """A command's command line for people; of a path outside this directory the last name."""
    return " ".join(["python -m", module, *map(_without_place, map(str, arguments))])


def _without_place(argument: str) -> str:
    flag, equals, value = argument.partition("=")
    path = pathlib.Path(value)
    if not path.is_absolute():
        return argument
    here = pathlib.Path.cwd()
    shown = path.relative_to(here) if path.is_relative_to(here) else path.name
    return f"{flag}{equals}{shown}"


def evaluate(workdir: pathlib.Path, data_dir: str, crops: int) -> dict:
    """What alexnet_tf.evaluate says about the run."""
    output = workdir / f"evaluation-validation-{crops}crop.json"
    arguments = (f"--model={workdir}", f"--data_dir={data_dir}", f"--crops={crops}")
    run("alexnet_tf.evaluate", *arguments, f"--output={output}")
    return json.loads(output.read_text(encoding="utf-8"))


def training(workdir: pathlib.Path) -> dict:
    """How long the run took and how its error fell, without the evaluations' time."""
    rows = reports.read_metrics(workdir)
    return {
        "training_seconds": sum(float(row["seconds"]) for row in rows),
        "test_error_by_epoch": [float(row["validation_top1_error"]) for row in rows],
    }


def circumstances(workdir: pathlib.Path) -> dict:
    """What a number needs beside it, without the paths of this machine."""
    config = json.loads((workdir / "config.json").read_text(encoding="utf-8"))
    return {
        "recipe": config["recipe"],
        "pictures": config["counts"],
        "strategy": config["strategy"],
        "replicas": config["replicas"],
        "versions": config["versions"],
        "git_commit": config["git_commit"],
        "machine": machine.processor(),
    }


def mean_and_spread(values: list[float]) -> dict:
    """Mean and sample standard deviation over seeds; of one seed there is no deviation."""
    return {
        "mean": statistics.fmean(values),
        "standard_deviation": statistics.stdev(values) if len(values) > 1 else None,
        "least": min(values),
        "greatest": max(values),
    }
