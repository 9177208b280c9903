"""Predicts classes of pictures: python -m alexnet_tf.predict --model=PATH IMAGE...

IMAGE is a file, a directory, a quoted glob, or - for standard input; JPEG or PNG of any size.
Prints the five most probable classes of each. A picture that cannot be read is reported and the
others are still predicted; the exit code is then 1.
"""

import json
import sys
from collections.abc import Sequence

from absl import flags as absl_flags

from alexnet_tf import door


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the program and returns its exit code."""
    return door.run(_define, _main, argv, doc=__doc__)


def _define(flags: absl_flags.FlagValues) -> None:
    absl_flags.DEFINE_string(
        "model",
        None,
        "Model file (.keras), workdir of a run, or SavedModel (of several versions the newest).",
        flag_values=flags,
    )
    absl_flags.DEFINE_string(
        "labels",
        None,
        "File with one class name per line, in the order of the outputs (not for a SavedModel).",
        flag_values=flags,
    )
    absl_flags.DEFINE_bool(
        "json", False, "One JSON object per picture and line, instead of tables.", flag_values=flags
    )


def _main(flags: absl_flags.FlagValues, args: list[str]) -> int | None:
    if not flags.model:
        raise door.UsageError("--model is missing: name a .keras file, a workdir or a SavedModel.")
    if not args:
        raise door.UsageError("No picture is named: give files, directories, a glob, or -.")
    from alexnet_tf.serving import predictor

    pictures = predictor.find_pictures(args)
    classifier = predictor.open_classifier(flags.model, flags.labels)
    failed = 0
    for prediction in predictor.predict(classifier, pictures):
        failed += prediction.error is not None
        if flags.json:
            print(json.dumps(prediction.as_json()), flush=True)
        elif prediction.error is None:
            print(_table(prediction), flush=True)
        if prediction.error is not None:
            print(f"error: {prediction.source}: {prediction.error}", file=sys.stderr)
    return door.EXIT_DATA if failed else door.EXIT_OK


def _table(prediction) -> str:
    rows = zip(prediction.classes, prediction.scores, strict=True)
    return "\n".join([prediction.source, *(f"  {score:8.2%}  {name}" for name, score in rows)])


if __name__ == "__main__":
    sys.exit(main())
