"""Looks inside a run: `python -m alexnet_tf.analyze WHAT --workdir=DIR --output=FILE`.

run         training curve, first kernels and some predictions on one page; needs --data_dir
curves      the error of one or more runs (--workdir=A,B) over their epochs
filters     the first layer's kernels, as the paper's Figure 3, and how much of each is colour
neighbours  pictures and those nearest to them by Euclidean distance of features; needs --data_dir
features    a layer's output for each picture, as .npy, with the labels beside; needs --data_dir
summary     layers with shapes, parameters, multiply-adds and receptive fields, as text

Pictures are .png or .svg. What else was measured is written beside them as .json.
"""

import os
import sys

from absl import flags as absl_flags

from alexnet_tf import door

_NEEDS_DATA = ("run", "neighbours", "features")
_COMMANDS = ("run", "curves", "filters", "neighbours", "features", "summary")


def main(argv=None) -> int:
    """The front door; returns the exit code."""
    return door.run(_define, _main, argv, doc=__doc__)


def _define(flags: absl_flags.FlagValues) -> None:
    for name, default, text in (
        ("workdir", None, "The run's workdir; except for run and curves also a .keras file."),
        ("data_dir", None, "A prepared data set."),
        ("split", "validation", "Its split (neighbours, features)."),
        ("layer", "relu7", "The layer (neighbours, features)."),
        ("output", None, "The file to write (not for summary)."),
    ):
        absl_flags.DEFINE_string(name, default, text, flag_values=flags)


def _main(flags: absl_flags.FlagValues, args: list[str]) -> int:
    if len(args) != 1 or args[0] not in _COMMANDS:
        raise door.UsageError(
            f"Found {' '.join(args) or 'nothing'}: expected what to do: {', '.join(_COMMANDS)}."
        )
    (command,) = args
    needed = ["workdir"]
    needed += ["data_dir"] if command in _NEEDS_DATA else []
    needed += ["output"] if command != "summary" else []
    for name in needed:
        if flags[name].value is None:
            raise door.UsageError(f"--{name} is missing: {flags[name].help}")
    if command == "run":
        from alexnet_tf.analysis import overview

        overview.draw_run(flags.workdir, flags.data_dir, flags.output)
    elif command == "curves":
        from alexnet_tf.analysis import plots

        runs = {os.path.normpath(path): path for path in flags.workdir.split(",")}
        metrics = {name: plots.read_metrics(path) for name, path in runs.items()}
        plots.save_curves(flags.output, metrics)
    else:
        _look_at_network(command, flags)
    if command != "summary":
        print(f"Written: {flags.output}")
    return door.EXIT_OK


def _look_at_network(command: str, flags: absl_flags.FlagValues) -> None:
    from alexnet_tf.models import trained

    network = trained.open_model(flags.workdir)
    if command == "summary":
        from alexnet_tf.analysis import summary

        print(summary.text_table(summary.layer_table(network.model)))
        return
    from alexnet_tf import evaluation

    numbers = f"{os.path.splitext(flags.output)[0]}.json"
    if command == "filters":
        from alexnet_tf.analysis import filters, plots

        found = filters.draw_filters(plots.first_kernels(network.model), flags.output)
        evaluation.write_results(numbers, found)
        for group in found["groups"]:
            print(
                f"{group['kernels']} kernels, mean colour selectivity "
                f"{group['mean_colour_selectivity']:.3f}"
            )
        return
    from alexnet_tf.analysis import features
    from alexnet_tf.data import records

    dataset = records.open_dataset(flags.data_dir)
    if command == "features":
        outputs, labels = features.layer_features(network, flags.layer, dataset, flags.split)
        features.save_features(outputs, labels, flags.output)
        print(f"{flags.layer}: {' x '.join(map(str, outputs.shape))}")
        return
    found = features.draw_neighbours(network, flags.layer, dataset, flags.split, flags.output)
    evaluation.write_results(numbers, found)
    print(f"{found['same_class']:.1%} of the neighbours are of the same class")


if __name__ == "__main__":
    sys.exit(main())
