"""Identifies the AlexNet in a weights file: `python -m alexnet_tf.identify FILE...`.

FILE is any file that `import_weights` reads, a .keras file or a run's workdir. Prints the checksum
and, if known, the published file; the networks with these shapes, the order of channels and what
is to be subtracted from pixels; whether the weights look trained or random, with the evidence for
each layer; and the network's prediction for a photograph that scikit-image ships. With --json,
prints one object per line.
"""

import json
import sys

from absl import flags as absl_flags

from alexnet_tf import cli


def main(argv=None) -> int:
    """Runs the program and returns its exit code."""
    return cli.run(_define, _main, argv, doc=__doc__)


def _define(flags: absl_flags.FlagValues) -> None:
    absl_flags.DEFINE_bool("json", False, "One JSON object per file and line.", flag_values=flags)
    absl_flags.DEFINE_bool(
        "answer", True, "Build the network and ask it about a photograph.", flag_values=flags
    )


def _main(flags: absl_flags.FlagValues, args: list[str]) -> int:
    if not args:
        raise cli.UsageError("No file is named: give files of weights.")
    from alexnet_tf.analysis import identification

    for path in args:
        identity = identification.identify(path, flags.answer)
        print(json.dumps(identity.as_json()) if flags.json else identity.text(), flush=True)
    return cli.EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
