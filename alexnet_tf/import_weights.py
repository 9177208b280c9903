"""Converts weights of other programs to a `.keras` file of this package.

    python -m alexnet_tf.import_weights --source=alexnet-owt-7be5be79.pth --model=alexnet_owt \\
        --output=alexnet_owt.keras

Sources: .pth and .pth.tar (torchvision's AlexNet, also in a checkpoint; PyTorch is not needed),
.safetensors (with torchvision's tensor names), .onnx (the model zoo's bvlcalexnet, or torchvision's
as torch.onnx.export writes it), .caffemodel (BVLC's AlexNet and CaffeNet), .mat (MatConvNet's
imagenet-caffe-alex), .npy (bvlc_alexnet), a checkpoint of TensorFlow 1 as model.ckpt-1000
(TF-Slim's alexnet_v2, or Caffe's network). The number of classes is the file's. The model file
includes its preprocessing, so it takes RGB pixels of 0..255.

Prints what `python -m alexnet_tf.identify` finds; refuses weights that look random, as before
training, unless --allow_random is given.
Prints where the source's network differs from the model's, and writes it to OUTPUT.json.
"""

import sys

from absl import flags as absl_flags

from alexnet_tf import cli


def main(argv=None) -> int:
    return cli.run(_define, _main, argv, doc=__doc__)


def _define(flags):
    absl_flags.DEFINE_string("source", None, "File of weights to read.", flag_values=flags)
    absl_flags.DEFINE_string(
        "model", None, "Variant to fill, as alexnet_tf.list_models() names it.", flag_values=flags
    )
    absl_flags.DEFINE_string("output", None, "The .keras file to write.", flag_values=flags)
    absl_flags.DEFINE_bool(
        "allow_random", False, "Import weights that look random too.", flag_values=flags
    )
    absl_flags.DEFINE_integer(
        "classes",
        None,
        "Number of classes. Default: the file's. For another number the last layer begins anew, to "
        "be trained.",
        lower_bound=1,
        flag_values=flags,
    )


def _main(flags, args):
    for name in ("source", "model", "output"):
        if not flags[name].value:
            raise cli.UsageError(f"--{name} is missing: expected --source, --model and --output.")
    if args:
        raise cli.UsageError(f"Unexpected argument {args[0]!r}: this program takes only flags.")
    if not flags.output.endswith(".keras"):
        raise cli.UsageError(f"--output is {flags.output!r}: expected a name that ends in .keras.")

    from alexnet_tf.analysis import identification
    from alexnet_tf.models import list_models
    from alexnet_tf.models.weights import conversion

    if flags.model not in list_models():
        raise cli.UsageError(
            f"--model is {flags.model!r}: expected one of {', '.join(list_models())}."
        )
    conversion.refuse_keras(flags.source)
    identity = identification.identify(flags.source, answer=False)
    print(identity.text())
    if identity.verdict == "random" and not flags.allow_random:
        raise ValueError(
            f"The weights in {flags.source} look random, as they are before training: expected a "
            "trained network; --allow_random imports them."
        )
    report = conversion.convert(flags.source, flags.model, flags.output, flags.classes)
    print(conversion.text(report, flags.source, flags.output))


if __name__ == "__main__":
    sys.exit(main())
