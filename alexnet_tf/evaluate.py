"""Evaluates trained networks: python -m alexnet_tf.evaluate --model=RUN --data_dir=DATA

Counts top-1 and top-5 errors over every image of a split exactly once, with the centre crop or
the paper's ten crops (or the nine of its CIFAR-10 networks), for one network or for several whose
predictions are averaged. Prints a report and writes the numbers beside the model, as
evaluation-SPLIT-CROPScrop.json, or into the current directory where the model's cannot be written.
"""

import os
import sys
from collections.abc import Sequence

from absl import flags as absl_flags

from alexnet_tf import cli


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the program and returns its exit code."""
    return cli.run(_define, _main, argv, doc=__doc__)


def _define(flags: absl_flags.FlagValues) -> None:
    absl_flags.DEFINE_list(
        "model",
        [],
        "Model file (.keras) or workdir of a run; several, separated by commas, are averaged.",
        flag_values=flags,
    )
    absl_flags.DEFINE_string(
        "data_dir",
        None,
        "A prepared data set; or TFRecords or a TFDS data set of others, tfds:NAME too.",
        flag_values=flags,
    )
    absl_flags.DEFINE_integer(
        "first_label",
        None,
        "Number of the first class in TFRecords without metadata, 0 or 1. Default: the smallest.",
        flag_values=flags,
    )
    absl_flags.DEFINE_string("split", "validation", "Its split to evaluate.", flag_values=flags)
    absl_flags.DEFINE_enum(
        "crops",
        "1",
        ["1", "9", "10"],
        "Views of each image that are averaged: the centre, the nine of cuda-convnet2's CIFAR-10 "
        "networks, the paper's ten.",
        flag_values=flags,
    )
    absl_flags.DEFINE_integer(
        "batch_size", 128, "Views in one step, over all replicas.", flag_values=flags
    )
    absl_flags.DEFINE_enum(
        "strategy",
        "none",
        ["none", "mirrored"],
        "mirrored shares the images among all GPUs, or logical CPUs.",
        flag_values=flags,
    )
    absl_flags.DEFINE_integer("devices", None, "Replicas of mirrored.", flag_values=flags)
    absl_flags.DEFINE_enum(
        "jit_compile",
        "auto",
        ["auto", "true", "false"],
        "Whether XLA compiles the forward pass; auto: on a GPU when there are many images.",
        flag_values=flags,
    )
    absl_flags.DEFINE_string(
        "label_order",
        None,
        "File with the data set's class names, one per line, in the order of the model's outputs; "
        "for models whose order differs.",
        flag_values=flags,
    )
    absl_flags.DEFINE_enum(
        "outputs",
        "all",
        ["all", "restricted"],
        "Where the model has more classes than the data: all of its outputs may be the answer, or "
        "those of the data's classes only.",
        flag_values=flags,
    )
    absl_flags.DEFINE_string(
        "output",
        None,
        "Where the JSON results go. Default: evaluation-SPLIT-CROPScrop.json beside the model; in "
        "the current directory for several models, or where the model's cannot be written.",
        flag_values=flags,
    )


def _main(flags: absl_flags.FlagValues, args: list[str]) -> int | None:
    if args:
        raise cli.UsageError(f"Unexpected argument {args[0]!r}: everything is a --flag here.")
    if not flags.model:
        raise cli.UsageError("--model is missing: name a .keras file or a workdir.")
    if not flags.data_dir:
        raise cli.UsageError("--data_dir is missing: name a prepared data set.")
    from alexnet_tf import evaluation, files
    from alexnet_tf.models import saved_run
    from alexnet_tf.training import distribution

    strategy = distribution.make_strategy(flags.strategy, flags.devices)
    view = evaluation.EvaluationSettings(flags.split, int(flags.crops), flags.batch_size)
    models = [saved_run.find_model_file(path) for path in flags.model]
    output = _output(flags.output, models, view)
    results = evaluation.evaluate(
        flags.model,
        flags.data_dir,
        view,
        flags.label_order,
        strategy,
        flags.first_label,
        flags.jit_compile,
        flags.outputs,
    )
    print(_text(results), flush=True)  # even if writing the file fails
    files.write_json(output, results)
    print(f"Written to {output}")


def _output(wanted: str | None, models: Sequence[str], view) -> str:
    """Returns a writable path for the results.

    Raises:
      OSError: no such path is writable.
    """
    from alexnet_tf import files

    output = cli.local("output", wanted or _default_output(models, view))
    if os.path.isdir(output):
        raise IsADirectoryError(f"{output} is a directory: name a file with --output.")
    if files.can_write(os.path.dirname(output)):
        return output
    here = os.path.basename(output)
    if not wanted and files.can_write(os.curdir):
        print(
            f"note: {os.path.dirname(output)} cannot be written, so the results go to {here} in "
            "the current directory.",
            file=sys.stderr,
        )
        return here
    raise OSError(
        f"The results cannot be written to {output}: name a file in a directory that can be "
        "written with --output."
    )


def _default_output(models: Sequence[str], view) -> str:
    """A distinct name for each split and number of crops, so that no evaluation replaces another.

    A workdir's results.json is training's.
    """
    name = f"evaluation-{view.split}-{view.crops}crop.json"
    if len(models) > 1:
        return name
    directory, file = os.path.split(models[0])
    stem = os.path.splitext(file)[0]
    return os.path.join(directory, name if stem == "model" else f"{stem}-{name}")


def _text(results: dict) -> str:
    """The human-readable report."""
    several = len(results["models"])
    who = f"{several} networks, averaged" if several > 1 else results["models"][0]
    crops = "ten crops" if results["crops"] == 10 else "centre crop"
    lines = [
        f"{who} on {results['count']} {results['split']} images of {results['data_dir']} "
        f"({results['classes']} classes, {crops}{_outputs(results)})"
    ]
    for name in ("top1", "top5"):
        low, high = results[f"{name}_error_interval_95"]
        lines.append(
            f"  top-{name[3:]} error {results[f'{name}_error']:8.2%}"
            f"   (95 % interval {low:.2%} to {high:.2%})"
        )
    lines.append(f"  loss        {results['loss']:8.4f}")
    lines += [f"  note: {note}" for note in results["notes"]]
    worst = sorted(results["per_class"], key=lambda row: -row["top1_error"])[:5]
    lines.append("  hardest classes (top-1 error, images):")
    lines += [f"    {row['top1_error']:7.1%} {row['count']:6}  {row['class']}" for row in worst]
    if results["most_confused"]:
        lines.append("  most confused (times, true -> predicted):")
        lines += [
            f"    {row['times']:6}  {row['true']} -> {row['predicted']}"
            for row in results["most_confused"][:5]
        ]
    return "\n".join(lines)


def _outputs(results: dict) -> str:
    """The outputs that the errors are computed over, if not the obvious ones."""
    if results["outputs"] == "restricted":
        return ", over the outputs of these classes only"
    if results["output_classes"] > results["classes"]:
        return f", over all {results['output_classes']} outputs"
    return ""


if __name__ == "__main__":
    sys.exit(main())
