"""Converts a weights file to a `.keras` file and reports what was done."""

import dataclasses
import os

from alexnet_tf import files
from alexnet_tf.models import catalog, knowledge, weights
from alexnet_tf.models.weights import openers


def convert(source, variant: str, output, classes: int | None = None) -> weights.ImportReport:
    """Writes the variant with the weights of `source` to `output`, and the report beside it.

    The report is written to `output` + ".json". Both files are written atomically.

    Args:
      source: a file of another program, see `weights.load`.
      variant: a name of `alexnet_tf.list_models()`.
      output: the `.keras` file.
      classes: number of classes of the written network. None uses the file's; for another number,
        the last layer is newly initialised.

    Raises:
      FileNotFoundError: no such source, or no such directory for the output. ValueError: the source
        does not fit, see `alexnet_tf.models.weights.load`, or is a Keras file.
    """
    output = os.fspath(output)
    directory = os.path.dirname(os.path.abspath(output))
    if not os.path.isdir(directory):
        raise FileNotFoundError(
            f"There is no directory {directory} to write {output} to: create it."
        )
    refuse_keras(source)
    opened = weights.open_source(weights.existing(source))
    wanted = opened.classes if classes is None else classes
    first = catalog.preprocessing_layer(variant, _fitting_mean(opened, variant))
    model = catalog.build_model(variant, classes=wanted, include_preprocessing=first)
    report = weights.assign(model, opened, new_head=wanted != opened.classes)
    named = opened.class_names is not None and len(opened.class_names) == wanted == opened.classes
    knowledge.write(
        model,
        {
            **({"class_names": list(opened.class_names or ())} if named else {}),
            "crop_size": model.input_shape[1],
            "apply_exif": False,  # none of the other programs applies it
            "lineage": {"weights": os.path.basename(os.fspath(source))},
        },
    )
    with files.replacing(output) as network:
        model.save(network)
        files.write_json(f"{output}.json", {"model": variant, **dataclasses.asdict(report)})
    return report


def refuse_keras(source) -> None:
    """Raises ValueError for a Keras file, which needs no conversion."""
    if os.fspath(source).endswith((".keras", ".weights.h5")):
        raise ValueError(
            f"{source} is a file of Keras and needs no conversion: expected one of "
            f"{', '.join(openers.SUFFIXES)}."
        )


def _fitting_mean(source: weights.Source, variant: str):
    """The mean given in the file, if the variant can subtract it."""
    mean, side = source.mean, catalog.crop_size(variant)
    return mean if mean is not None and mean.shape in ((3,), (side, side, 3)) else None


CONVENTIONS = {
    "caffe": "Caffe's network: BGR pixels of 0..255, minus a mean",
    "matconvnet": "Caffe's network, of which MatConvNet takes RGB pixels of 0..255, minus a mean",
    "slim": "TF-Slim's network: RGB pixels of 0..255, minus a mean",
    "torchvision": "torchvision's network: RGB pixels, standardised",
}


def text(report: weights.ImportReport, source, output) -> str:
    """The report in words."""
    lines = [
        f"{len(report.tensors)} tensors of {source} are now in {output}.",
        f"Read as {CONVENTIONS[report.convention]}.",
    ]
    for title, items, nothing in (
        ("Converted", report.conversions, "only the order of the numbers"),
        ("Differences in the network", report.modelling, "none: the same function"),
        ("Differences in the preprocessing", report.preprocessing, "none"),
    ):
        lines += [f"{title}:", *(f"  - {item}" for item in items or (nothing,))]
    return "\n".join(lines)
