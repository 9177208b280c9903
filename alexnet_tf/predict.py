"""Predicts classes of images: python -m alexnet_tf.predict --model=PATH IMAGE...

With --server=http://HOST:8501 or grpc://HOST:8500 a TF Serving server predicts instead, and --model
is the model's name there (default: alexnet). IMAGE is a file, a directory, a quoted glob, or - for
standard input; JPEG or PNG of any size. Prints the five most probable classes of each. An image
that cannot be read is reported and the others are still predicted; the exit code is then 1.
"""

import json
import os
import sys
from collections.abc import Sequence

from absl import flags as absl_flags

from alexnet_tf import cli


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the program and returns its exit code."""
    return cli.run(_define, _main, argv, doc=__doc__)


def _define(flags: absl_flags.FlagValues) -> None:
    absl_flags.DEFINE_string(
        "model",
        None,
        "Model file (.keras, .onnx, .tflite), workdir, or SavedModel (its newest version).",
        flag_values=flags,
    )
    absl_flags.DEFINE_string(
        "labels",
        None,
        "File with one class name per line, in the order of the outputs (not for a SavedModel).",
        flag_values=flags,
    )
    absl_flags.DEFINE_string(
        "plot",
        None,
        "Also draw the images with their classes (the paper's Figure 4): a .png, .svg or .pdf.",
        flag_values=flags,
    )
    absl_flags.DEFINE_string(
        "server", None, "http://HOST:8501 or grpc://HOST:8500.", flag_values=flags
    )
    absl_flags.DEFINE_string(
        "version_label",
        "",
        "With --server: a version label such as stable; by default the newest version.",
        flag_values=flags,
    )
    absl_flags.DEFINE_float(
        "timeout",
        30.0,
        "With --server: seconds that a request may take.",
        lower_bound=0.001,
        flag_values=flags,
    )
    absl_flags.DEFINE_float(
        "patience",
        60.0,
        "With --server: seconds to go on trying while it cannot be reached.",
        lower_bound=0.0,
        flag_values=flags,
    )
    absl_flags.DEFINE_bool(
        "json", False, "One JSON object per image and line, instead of tables.", flag_values=flags
    )


def _main(flags: absl_flags.FlagValues, args: list[str]) -> int | None:
    if not flags.model and not flags.server:
        raise cli.UsageError("--model is missing: name a model file, a workdir or a SavedModel.")
    for name in ("version_label", "timeout", "patience"):
        if flags[name].present and not flags.server:
            raise cli.UsageError(f"--{name} is only for --server.")
    if flags.server and flags.labels:
        raise cli.UsageError("--labels is not for --server: the server tells the classes.")
    if not args:
        raise cli.UsageError("No image is named: give files, directories, a glob, or -.")
    if flags.plot:
        _require_plot(flags.plot)
    from alexnet_tf.serving import predictor

    images = predictor.find_images(args)
    if flags.server:
        from alexnet_tf.serving import client

        classifier = client.open_server(
            client.Server(
                url=flags.server,
                model=flags.model or "alexnet",
                label=flags.version_label,
                timeout=flags.timeout,
                patience=flags.patience,
            )
        )
    else:
        classifier = predictor.open_classifier(flags.model, flags.labels)
    failed, drawable = 0, []
    for prediction in predictor.predict(classifier, images):
        failed += prediction.error is not None
        if prediction.error is None and prediction.source != predictor.STANDARD_INPUT:
            drawable.append(prediction)
        if flags.json:
            print(json.dumps(prediction.as_json()), flush=True)
        elif prediction.error is None:
            print(_table(prediction), flush=True)
        if prediction.error is not None:
            print(f"error: {prediction.source}: {prediction.error}", file=sys.stderr)
    if flags.plot:
        from alexnet_tf.analysis import prediction_panel

        drawn = prediction_panel.draw_predictions(drawable, flags.plot)
        print(f"Drawn: {drawn} of {len(images)} images in {flags.plot}", file=sys.stderr)
    return cli.EXIT_DATA if failed else cli.EXIT_OK


def _require_plot(output: str) -> None:
    """Checks the plot's file name and that matplotlib is installed, before any work is done."""
    import matplotlib  # noqa: F401  # if missing, the error says how to install it

    from alexnet_tf.analysis import plots
    from alexnet_tf.files import can_write

    plots.image_ending(output)
    if os.path.isdir(output) or not can_write(os.path.dirname(output)):
        raise OSError(f"{output} cannot be written: name another file with --plot.")


def _table(prediction) -> str:
    rows = zip(prediction.classes, prediction.scores, strict=True)
    return "\n".join([prediction.source, *(f"  {score:8.2%}  {name}" for name, score in rows)])


if __name__ == "__main__":
    sys.exit(main())
