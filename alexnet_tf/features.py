"""Extracts activations: `python -m alexnet_tf.features --model=RUN --output=FILE IMAGES`.

    python -m alexnet_tf.features --model=runs/paper --layers=conv5,relu5,fc7 \\
        --output=stimuli.npz stimuli/

IMAGES are JPEG or PNG files of any size, folders of them (sorted by name), quoted globs, or one
prepared data set. No labels are needed; rows are in the given order, with file names.

--layers takes this package's names, conv1 before the ReLU and relu1 after it; torchvision's
(features.10, classifier.5); the paper's (layer7); and Caffe's with a prefix: caffe:fc7 is relu7,
because Caffe's ReLU works in place.

OUTPUT ends in .npz, .h5 or .nc (netCDF, which xarray opens with named axes) or .tfrecord. The size
is printed first. The same command resumes an interrupted run. An image that cannot be read is
reported and left out; the exit code is then 1.

--rdm=correlation|euclidean also writes OUTPUT-rdm.npz and OUTPUT-rdm.png: each layer's
dissimilarity of every pair of images. --projector=DIR writes the last layer for TensorBoard's
projector.
"""

import os
import sys

from absl import flags as absl_flags

from alexnet_tf import cli

POOLINGS = ("none", "avg", "max")
KINDS = ("correlation", "euclidean")


def main(argv=None) -> int:
    """Runs the program and returns its exit code."""
    return cli.run(_define, _main, argv, doc=__doc__)


def _define(flags: absl_flags.FlagValues) -> None:
    for name, default, text in (
        ("model", None, "Model file (.keras) or workdir of a run."),
        ("layers", "relu7", "Layers, separated by commas."),
        ("output", None, "The file to write: .npz, .h5, .nc or .tfrecord."),
        ("split", "validation", "Split of a prepared data set."),
        ("projector", None, "Directory for TensorBoard's projector (the last layer named)."),
    ):
        absl_flags.DEFINE_string(name, default, text, flag_values=flags)
    absl_flags.DEFINE_enum(
        "pooling",
        "none",
        POOLINGS,
        "What is made of each map: avg or max is one number.",
        flag_values=flags,
    )
    absl_flags.DEFINE_enum(
        "rdm", None, KINDS, "Also write dissimilarity matrices, of this kind.", flag_values=flags
    )
    absl_flags.DEFINE_integer(
        "rdm_max", 5000, "The most images that a matrix may have.", 2, flag_values=flags
    )
    absl_flags.DEFINE_integer("batch_size", 32, "Images at a time.", 1, flag_values=flags)


def _main(flags: absl_flags.FlagValues, args: list[str]) -> int:
    for name in ("model", "output"):
        if not flags[name].value:
            raise cli.UsageError(f"--{name} is missing: {flags[name].help}")
    if not args:
        raise cli.UsageError("No image is named: give files, folders, a glob or a data set.")
    cli.local("output", flags.output)
    from alexnet_tf.analysis import activations, feature_files, images, projector, rdm, stimuli
    from alexnet_tf.models import layer_names, saved_run
    from alexnet_tf.serving import predictor

    feature_files.require_ending(flags.output)
    data = args[0] if len(args) == 1 and _is_dataset(args[0]) else None
    if flags["split"].present and data is None:
        raise cli.UsageError("--split is only for a prepared data set.")
    paths = predictor.find_images(args) if data is None else []
    if predictor.STANDARD_INPUT in paths:
        raise cli.UsageError("- is no image here: activations need file names.")
    network = saved_run.open_model(flags.model)
    have = [layer.name for layer in network.model.layers]
    layers = layer_names.find_layers(
        [name.strip() for name in flags.layers.split(",") if name.strip()], have, network.path
    )
    inputs: stimuli.Stimuli
    if data is None:
        inputs = stimuli.FileStimuli(paths, network)
    else:
        dataset = images.dataset_for(network, data)
        inputs = stimuli.DatasetStimuli(dataset, flags.split, network)
    count = len(inputs.names)
    if flags.rdm:
        rdm.require_size(count, flags.rdm_max)
    if flags.projector:
        projector.require_size(count)
    print(activations.size_text(activations.shapes(network, layers, flags.pooling), count))
    about = {
        "model": os.path.basename(network.path),
        "layers": ",".join(f"{name}={layer}" for name, layer in layers.items()),
        "pooling": flags.pooling,
    }
    with activations.extracted(
        network, layers, inputs, flags.output, flags.pooling, flags.batch_size
    ) as found:
        feature_files.save(found, flags.output, about)
        print(f"Written: {flags.output}, {len(found.names)} images")
        if flags.rdm:
            _write_rdms(found, flags.rdm, flags.output)
        if flags.projector:
            name = next(reversed(found.arrays))
            projector.save(found, name, flags.projector, inputs)
            print(f"Written: {flags.projector}; tensorboard --logdir={flags.projector}")
    for name, reason in found.failed.items():
        print(f"error: {name}: {reason}", file=sys.stderr)
    return cli.EXIT_DATA if found.failed else cli.EXIT_OK


def _is_dataset(path: str) -> bool:
    from alexnet_tf.data import external

    return (
        path.startswith(external.TFDS_PREFIX)
        or os.path.exists(os.path.join(path, "dataset_info.json"))
        or (os.path.isdir(path) and bool(external.record_files(path)))
    )


def _write_rdms(found, kind: str, output: str) -> None:
    import numpy as np

    from alexnet_tf.analysis import rdm

    matrices = {name: rdm.dissimilarity(array, kind) for name, array in found.arrays.items()}
    for name, matrix in matrices.items():
        flat = int(np.isnan(np.diag(matrix)).sum())
        if flat:
            print(
                f"{name}: {flat} image(s) give the same number in all units; their correlations "
                "are not defined (NaN)."
            )
    for path in rdm.save(matrices, found.names, kind, output):
        print(f"Written: {path}")


if __name__ == "__main__":
    sys.exit(main())
