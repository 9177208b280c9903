"""Exports a trained network: python -m alexnet_tf.export --model=RUN --output=saved_models/alexnet

Writes a SavedModel for TF Serving under the next version number. It includes preprocessing and
class names: loading it needs neither this package nor Keras. ONNX and LiteRT files hold the bare
network and the class names; they are compared with the network on real images, and the agreement is
printed. A safetensors file holds the weights in PyTorch's layout, with torchvision's names for
alexnet_owt. Each export has a model card.
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
    absl_flags.DEFINE_string(
        "model", None, "Model file (.keras) or workdir of a run.", flag_values=flags
    )
    absl_flags.DEFINE_string(
        "output",
        "saved_models/alexnet",
        "saved_model: directory of the model, the version becomes a directory in it. onnx, litert: "
        "the file, ending in .onnx or .tflite; "
        "safetensors: ending in .safetensors.",
        flag_values=flags,
    )
    absl_flags.DEFINE_enum(
        "format",
        "saved_model",
        ["saved_model", "onnx", "litert", "safetensors"],
        "What to write.",
        flag_values=flags,
    )
    absl_flags.DEFINE_integer(
        "version",
        None,
        "saved_model: version number; by default the next one.",
        flag_values=flags,
    )
    absl_flags.DEFINE_enum(
        "precision",
        "float32",
        ["float32", "bfloat16"],
        "saved_model: type of weights and arithmetic; bfloat16 is for processors that have it.",
        flag_values=flags,
    )
    absl_flags.DEFINE_enum(
        "quantization",
        "float32",
        ["float32", "float16", "dynamic_int8", "int8"],
        "litert: type of the weights; int8 also computes in integers and needs --data_dir.",
        flag_values=flags,
    )
    absl_flags.DEFINE_string(
        "data_dir",
        None,
        "onnx, litert: prepared data set to compare on, instead of scikit-image's photographs.",
        flag_values=flags,
    )
    absl_flags.DEFINE_float(
        "min_agreement",
        0.95,
        "onnx, litert: no file is written if its most probable class is the network's for a "
        "smaller fraction of the images.",
        lower_bound=0.0,
        upper_bound=1.0,
        flag_values=flags,
    )
    absl_flags.DEFINE_string("split", "validation", "Split of --data_dir.", flag_values=flags)
    absl_flags.DEFINE_string(
        "labels",
        None,
        "File with one class name per line, in the order of the outputs. By default the names in "
        "the run's config.json, else ImageNet's for 1000 classes.",
        flag_values=flags,
    )


def _main(flags: absl_flags.FlagValues, args: list[str]) -> int | None:
    if args:
        raise cli.UsageError(f"Unexpected argument {args[0]!r}: everything is a --flag here.")
    if not flags.model:
        raise cli.UsageError("--model is missing: name a .keras file or a workdir.")
    if flags.version is not None and flags.version < 1:
        raise cli.UsageError(f"--version={flags.version}: expected a positive number.")
    _refuse_flags_of_other_formats(flags)
    _require_output(flags.format, flags.output)
    from alexnet_tf.models import saved_run
    from alexnet_tf.serving import labels, precision

    network = saved_run.open_model(flags.model)
    names = labels.class_names(network, flags.labels)
    what = f"{network.path} ({network.classes} classes)"
    if flags.format == "saved_model":
        from alexnet_tf.serving import export

        network = precision.in_precision(network, flags.precision)
        path = export.export_saved_model(network, names, flags.output, flags.version)
        print(f"Exported {what} to {path}")
        return
    if flags.format == "safetensors":
        from alexnet_tf.serving import tensors

        found = tensors.export_safetensors(network, names, flags.output)
        print(f"Exported {what} to {flags.output}: {found[0]} to {found[-1]}")
        return
    from alexnet_tf.serving import portable

    # The converters know no network of mixed precision.
    network = precision.in_precision(network, "float32")
    count = portable.COMPARED * (2 if flags.quantization == "int8" else 1)
    crops = portable.sample_crops(network, flags.data_dir, flags.split, count)
    if flags.format == "onnx":
        parity = portable.export_onnx(network, names, flags.output, crops, flags.min_agreement)
    else:
        parity = portable.export_litert(
            network, names, flags.output, crops, flags.quantization, flags.min_agreement
        )
    print(f"Exported {what} to {flags.output}")
    print(
        f"Compared on {parity.images} images: largest difference of a probability "
        f"{parity.largest_difference:.1e}, top-1 agreement {parity.top1_agreement:.1%}"
    )


_ENDINGS = {"onnx": ".onnx", "litert": ".tflite"}


def _require_output(wanted: str, output: str) -> None:
    """Checks the output's name before any work is done."""
    ending = _ENDINGS.get(wanted)
    if ending is not None and not output.endswith(ending):
        raise ValueError(
            f"{output} should end in {ending}: --output names the file here, such as "
            f"{os.path.normpath(output)}{ending}."
        )
    from alexnet_tf.files import can_write

    if "://" not in output and not can_write(os.path.dirname(output) if ending else output):
        raise OSError(f"{output} cannot be written: name another place with --output.")


def _refuse_flags_of_other_formats(flags: absl_flags.FlagValues) -> None:
    of_format = {
        "version": "saved_model",
        "precision": "saved_model",
        "quantization": "litert",
    }
    for name, wanted in of_format.items():
        if flags[name].present and flags.format != wanted:
            raise cli.UsageError(f"--{name} belongs to --format={wanted}, not {flags.format}.")
    for name in ("data_dir", "min_agreement"):
        if flags[name].present and flags.format not in ("onnx", "litert"):
            raise cli.UsageError(
                f"--{name} belongs to --format=onnx or litert, not {flags.format}."
            )
    if flags.quantization == "int8" and not flags.data_dir:
        raise cli.UsageError(
            "--quantization=int8 needs --data_dir: the ranges of the integers are learnt from "
            "images like those that the model will see."
        )


if __name__ == "__main__":
    sys.exit(main())
