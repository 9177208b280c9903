"""Exports a trained network: python -m alexnet_tf.export --model=RUN --output=saved_models/alexnet

Writes a SavedModel for TF Serving under the next version number. Preprocessing and class names are
inside: whoever loads it needs neither this package nor Keras.
"""

import sys
from collections.abc import Sequence

from absl import flags as absl_flags

from alexnet_tf import door


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the program and returns its exit code."""
    return door.run(_define, _main, argv, doc=__doc__)


def _define(flags: absl_flags.FlagValues) -> None:
    absl_flags.DEFINE_string(
        "model", None, "Model file (.keras) or workdir of a run.", flag_values=flags
    )
    absl_flags.DEFINE_string(
        "output",
        "saved_models/alexnet",
        "Directory of the model; the version becomes a directory in it.",
        flag_values=flags,
    )
    absl_flags.DEFINE_enum(
        "format", "saved_model", ["saved_model"], "What to write.", flag_values=flags
    )
    absl_flags.DEFINE_integer(
        "version", None, "Version number; by default the next one.", flag_values=flags
    )
    absl_flags.DEFINE_string(
        "labels",
        None,
        "File with one class name per line, in the order of the outputs. By default the names in "
        "the run's config.json, else ImageNet's for 1000 classes.",
        flag_values=flags,
    )


def _main(flags: absl_flags.FlagValues, args: list[str]) -> int | None:
    if args:
        raise door.UsageError(f"Unexpected argument {args[0]!r}: everything is a --flag here.")
    if not flags.model:
        raise door.UsageError("--model is missing: name a .keras file or a workdir.")
    if flags.version is not None and flags.version < 1:
        raise door.UsageError(f"--version={flags.version}: expected a positive number.")
    from alexnet_tf.models import trained
    from alexnet_tf.serving import export, labels

    network = trained.open_model(flags.model)
    names = labels.class_names(network, flags.labels)
    path = export.export_saved_model(network, names, flags.output, flags.version)
    print(f"Exported {network.path} ({network.classes} classes) to {path}")


if __name__ == "__main__":
    sys.exit(main())
