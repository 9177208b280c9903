"""Analyses networks, runs and data: `python -m alexnet_tf.analyze WHAT --output=FILE ...`.

run           a run's training curve, first kernels and some predictions on one page
curves        loss and errors of one or more runs (--workdir=A,B) over their epochs
filters       the first layer's kernels, as in Figure 3, and their colour selectivity
neighbours    images and their nearest neighbours by Euclidean distance of features
features      a layer's output for each image, as .npy (with a file of labels) or .tfrecord
augmentation  an image as training augments it: random crops, mirrors, colour noise (with --image
              alone, as in training on ImageNet)
saliency      which parts of an image matter for its class: occlusion and gradient
summary       layers with shapes, parameters, multiply-adds and receptive fields, as text, and the
              bytes that training on two devices transfers
architecture  networks drawn layer by layer (--model=alexnet,lenet5, or --workdir=RUN), with the
              transfers between the two halves

Images are .png, .svg or .pdf; the numbers are written beside them as .json.
"""

import os
import sys

from absl import flags as absl_flags

from alexnet_tf import cli


def main(argv=None) -> int:
    """Runs the command; returns the exit code."""
    return cli.run(_define, _main, argv, doc=__doc__)


def _define(flags: absl_flags.FlagValues) -> None:
    for name, default, text in (
        ("workdir", None, "The run's workdir; except for run and curves also a .keras file."),
        ("data_dir", None, "A prepared data set."),
        ("split", "validation", "Its split (neighbours, features, augmentation, saliency)."),
        ("layer", "relu7", "The layer (neighbours, features)."),
        ("image", None, "A JPEG or PNG file instead of a record (augmentation, saliency)."),
        ("model", "alexnet,lenet5", "Names of networks, separated by commas (architecture)."),
        ("note", "", "What a reader of the page should know (run)."),
        ("output", None, "The file to write (not for summary)."),
    ):
        absl_flags.DEFINE_string(name, default, text, flag_values=flags)
    absl_flags.DEFINE_integer(
        "number", 0, "Which record of the split (augmentation, saliency).", 0, flag_values=flags
    )
    absl_flags.DEFINE_integer(
        "crop_size", 224, "Side of the crop in pixels (augmentation).", 1, flag_values=flags
    )
    absl_flags.DEFINE_integer("seed", 0, "Of the draws (augmentation).", flag_values=flags)
    absl_flags.DEFINE_integer(
        "batch_size", 128, "Batch size of the counted transfers (summary).", 1, flag_values=flags
    )


def _main(flags: absl_flags.FlagValues, args: list[str]) -> int:
    if len(args) != 1 or args[0] not in _COMMANDS:
        raise cli.UsageError(
            f"Found {' '.join(args) or 'nothing'}: expected one of {', '.join(_COMMANDS)}."
        )
    (command,) = args
    run, needed = _COMMANDS[command]
    for name in needed:
        if flags[name].value is None:
            raise cli.UsageError(f"--{name} is missing: {flags[name].help}")
    if command in ("saliency", "augmentation") and flags.data_dir is None and flags.image is None:
        raise cli.UsageError("--image is missing: name a JPEG or PNG file, or a --data_dir.")
    _require_ending(command, flags.output)
    numbers = run(flags)
    if numbers is not None:
        from alexnet_tf import files

        files.write_json(f"{os.path.splitext(flags.output)[0]}.json", numbers)
    if flags.output is not None:
        print(f"Written: {flags.output}")
    return cli.EXIT_OK


def _require_ending(command: str, output: str | None) -> None:
    """Raises for an unknown ending before any work is done."""
    if command == "features":
        from alexnet_tf.analysis import features

        features.require_ending(output)
    elif output is not None:
        from alexnet_tf.analysis import plots

        plots.image_ending(output)


def _run(flags) -> None:
    from alexnet_tf.analysis import overview

    overview.draw_run(flags.workdir, flags.data_dir, flags.output, note=flags.note)


def _curves(flags) -> dict:
    from alexnet_tf.analysis import plots

    paths = flags.workdir.split(",")
    metrics = dict(zip(plots.run_names(paths), map(plots.read_curves, paths), strict=True))
    plots.save_curves(flags.output, metrics)
    return {name: plots.last_errors(columns) for name, columns in metrics.items()}


def _filters(flags) -> dict:
    from alexnet_tf.analysis import filters, plots
    from alexnet_tf.models import saved_run

    model = saved_run.open_model(flags.workdir).model
    kernels, groups = plots.first_kernels(model), plots.kernel_groups(model)
    found = filters.draw_filters(kernels, flags.output, groups)
    for group in found["groups"]:
        print(
            f"{group['kernels']} kernels, mean colour selectivity "
            f"{group['mean_colour_selectivity']:.3f}"
        )
    return found


def _neighbours(flags) -> dict:
    from alexnet_tf.analysis import features, images
    from alexnet_tf.models import saved_run

    network = saved_run.open_model(flags.workdir)
    dataset = images.dataset_for(network, flags.data_dir)
    found = features.draw_neighbours(network, flags.layer, dataset, flags.split, flags.output)
    print(f"{found['same_class']:.1%} of the neighbours are of the same class")
    return found


def _features(flags) -> None:
    from alexnet_tf.analysis import activations, features, images, stimuli
    from alexnet_tf.models import layer_names, saved_run

    network = saved_run.open_model(flags.workdir)
    dataset = images.dataset_for(network, flags.data_dir)
    have = [layer.name for layer in network.model.layers]
    layers = layer_names.find_layers([flags.layer], have, network.path)
    split = stimuli.DatasetStimuli(dataset, flags.split, network)
    with activations.extracted(network, layers, split, flags.output) as found:
        outputs = found.arrays[flags.layer]
        features.save_features(outputs, split.labels, flags.output)
        print(f"{flags.layer}: {' x '.join(map(str, outputs.shape))}")


def _augmentation(flags) -> dict:
    from alexnet_tf.analysis import augmentation, images
    from alexnet_tf.data import records

    if flags.data_dir is None:
        dataset = augmentation.like_imagenet(flags.image)
    else:
        dataset = records.open_dataset(flags.data_dir)
    if flags.image is None:
        image, _ = images.of_split(dataset, flags.split, flags.number)
    else:
        stored, turned = dataset.format, bool(dataset.turned)
        image = images.of_file(flags.image, stored.image_size, stored.channels, turned)
    return augmentation.draw_augmentation(image, dataset, flags.crop_size, flags.output, flags.seed)


def _saliency(flags) -> dict:
    from alexnet_tf.analysis import images, saliency
    from alexnet_tf.models import saved_run

    network = saved_run.open_model(flags.workdir)
    image = flags.image
    if image is None:
        image = (images.dataset_for(network, flags.data_dir), flags.split, flags.number)
    found = saliency.draw_image_saliency(network, flags.output, image)
    truth = f" (truth: {found['truth']})" if found["truth"] else ""
    print(f"{found['class']}: {found['probability']:.1%}{truth}")
    return found


def _summary(flags) -> None:
    from alexnet_tf.analysis import summary
    from alexnet_tf.models import saved_run

    model = saved_run.open_model(flags.workdir).model
    print(summary.text_table(summary.layer_table(model)))
    print(summary.crossing_text(model, flags.batch_size))


def _architecture(flags) -> dict:
    from alexnet_tf.analysis import architecture

    if flags.workdir is None:
        return architecture.draw_architecture(flags.model.split(","), flags.output)
    from alexnet_tf.models import saved_run

    return architecture.plot_model(saved_run.open_model(flags.workdir).model, flags.output)


# Name -> function, required flags.
_COMMANDS = {
    "run": (_run, ("workdir", "data_dir", "output")),
    "curves": (_curves, ("workdir", "output")),
    "filters": (_filters, ("workdir", "output")),
    "neighbours": (_neighbours, ("workdir", "data_dir", "output")),
    "features": (_features, ("workdir", "data_dir", "output")),
    "augmentation": (_augmentation, ("output",)),
    "saliency": (_saliency, ("workdir", "output")),
    "summary": (_summary, ("workdir",)),
    "architecture": (_architecture, ("output",)),
}


if __name__ == "__main__":
    sys.exit(main())
