"""An atlas of a network in the browser: `python -m alexnet_tf.atlas --model=RUN --data_dir=DATA --output=DIR`.

Writes a directory of pages that open from disk, without a server or the network. They show the
network layer by layer; for each unit its kernel or strongest inputs, the images that excite it most
with the patch it saw, an image optimised to excite it, the classes and colours it prefers, and
similar units; for each image its activations by layer, the prediction, a saliency map, and the
images most similar to it for the network. All numbers are in DIR/atlas.json.

The same command resumes an interrupted run.
"""  # noqa: E501 - the command

import sys

from absl import flags as absl_flags

from alexnet_tf import cli


def main(argv=None) -> int:
    """Runs the command; returns the exit code."""
    return cli.run(_define, _main, argv, doc=__doc__)


def _define(flags: absl_flags.FlagValues) -> None:
    for name, default, text in (
        ("model", None, "A run's workdir, or a .keras file."),
        ("data_dir", None, "A prepared data set whose images have labels."),
        ("split", "validation", "Its split."),
        ("output", None, "The directory to write: a new or an empty one, or the same atlas."),
    ):
        absl_flags.DEFINE_string(name, default, text, flag_values=flags)
    for name, default, least, text in (
        ("units", 16, 1, "Units of each layer that have a page, at most."),
        ("images", 24, 0, "Images that have a page, at most."),
        ("sample", 2000, 2, "Images that responses are measured on, at most: the split's first."),
        ("steps", 64, 1, "Steps of activation maximisation."),
        ("places", 14, 2, "Positions of the occluding square along each side of an image."),
    ):
        absl_flags.DEFINE_integer(name, default, text, least, flag_values=flags)
    absl_flags.DEFINE_integer("seed", 0, "Of activation maximisation.", flag_values=flags)


def _main(flags: absl_flags.FlagValues, args: list[str]) -> int:
    if args:
        raise cli.UsageError(f"Found {' '.join(args)}: expected flags only.")
    for name in ("model", "data_dir", "output"):
        if not flags[name].value:
            raise cli.UsageError(f"--{name} is missing: {flags[name].help}")
    output = cli.local("output", flags.output)

    from alexnet_tf.analysis.atlas import site
    from alexnet_tf.analysis.atlas.settings import Settings

    numbers = ("split", "units", "images", "sample", "steps", "places", "seed")
    settings = Settings(**{name: flags[name].value for name in numbers})
    built = site.build(flags.model, flags.data_dir, output, settings)
    print(f"{built.layers} layers, {built.units} units, {built.images} images")
    if built.already:
        print(f"{output} is already complete.")
    print(f"Open {built.index} in a browser.")
    return cli.EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
