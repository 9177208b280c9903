"""AlexNet in TensorFlow and Keras. Each command is a module: python -m alexnet_tf.train --help"""

import ast
import importlib.util
import pathlib
import sys

from absl import flags as absl_flags

import alexnet_tf
from alexnet_tf import cli, usage

_PACKAGES = ("alexnet_tf", "data_prep")


def main(argv=None) -> int:
    """Lists the commands; returns the exit code."""
    return cli.run(_define, _main, argv, doc=__doc__)


def _define(flags: absl_flags.FlagValues) -> None:
    absl_flags.DEFINE_bool("version", False, "Show the package's version.", flag_values=flags)


def _main(flags: absl_flags.FlagValues, args: list[str]) -> None:
    if flags.version:
        print(f"alexnet_tf {alexnet_tf.__version__}")
        return
    commands = _commands()
    if args:
        modules = {name.rpartition(".")[2]: name for name in commands}
        meant = usage.similar(args[0], modules)
        advice = f"use python -m {modules[meant[0]]}" if meant else "expected no argument"
        raise cli.UsageError(f"Found {args[0]!r}: {advice}; python -m alexnet_tf lists all.")
    print(f"{__doc__}\n")
    for name, text in commands.items():
        print(f"  {name:27}{text}")


def _commands() -> dict[str, str]:
    """Modules that are commands, sorted by name, with the first line of their docstrings."""
    found = {}
    for package in _PACKAGES:
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            continue
        for path in sorted(pathlib.Path(spec.origin).parent.glob("[!_]*.py")):
            text = path.read_text(encoding="utf-8")
            if "cli.run(" in text:
                summary = (ast.get_docstring(ast.parse(text)) or "").splitlines()[0]
                # An example may follow on the same line.
                found[f"{package}.{path.stem}"] = summary.partition(": ")[0].rstrip(".")
    return found


if __name__ == "__main__":
    sys.exit(main())
