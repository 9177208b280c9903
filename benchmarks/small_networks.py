"""Training of the small networks, input included, beside PyTorch's and stock Keras', in one run.

    python benchmarks/small_networks.py [--model=lenet5_softmax,cifarnet]

Steps of `lenet5_softmax` and `cifarnet` take milliseconds, so what surrounds the arithmetic counts:
this package starts many steps in one call and keeps a small data set in memory. Peers are
separate processes that take turns. All of them hold random uint8 images in memory, shuffle
them, and crop (and for CIFAR-10 mirror) each image by draws of its own:

- this package from records, as `train` does;
- stock Keras layers and `model.fit` on a `tf.data` pipeline, as it is and with
  steps_per_execution=32;
- PyTorch, eager, with crops and mirrors of a whole batch at a time.

Locally connected layers, which neither Keras 3 nor PyTorch has, are patches and one product of
matrices for each position there.
"""

import os
import pathlib
import sys

from absl import flags as absl_flags

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # before this directory, which has a data_prep.py too

from alexnet_tf import cli  # noqa: E402

OURS = "alexnet_tf"
FORMS = {
    OURS: "ours",
    "stock Keras, fit": "keras",
    "stock Keras, fit, steps_per_execution=32": "keras_many",
    "PyTorch": "torch",
}
MODELS = ("lenet5_softmax", "cifarnet")


def main(argv=None) -> int:
    """Runs the command; returns the exit code."""
    return cli.run(_define, _main, argv, doc=__doc__)


def _define(flags):
    absl_flags.DEFINE_integer("rounds", 5, "Turns of each peer.", 1, flag_values=flags)
    absl_flags.DEFINE_integer("images", 12_800, "Images of the data set.", 1, flag_values=flags)
    absl_flags.DEFINE_list("model", list(MODELS), "Networks to measure.", flag_values=flags)
    results = ROOT / "benchmarks" / "results" / "small_networks.json"
    absl_flags.DEFINE_string("output", str(results), "JSON file.", flag_values=flags)


def _main(flags, args) -> int:
    if args:
        raise cli.UsageError(f"Unexpected argument {args[0]!r}: everything is a --flag here.")
    if unknown := set(flags.model) - set(MODELS):
        raise cli.UsageError(f"--model={sorted(unknown)[0]}: expected {', '.join(MODELS)}.")
    import peers

    from alexnet_tf import files, machine

    script = str(ROOT / "benchmarks" / "small_peers.py")
    parts = []
    for model in flags.model:
        entries = [
            peers.Entry(name, [sys.executable, script, peer, model, str(flags.images)])
            for name, peer in FORMS.items()
        ]
        print(model)
        result = peers.compete(entries, flags.rounds)
        peers.print_rates(result, OURS, "images/s")
        parts.append({"model": model, **result})
    files.write_json(
        flags.output,
        {
            "benchmark": "small_networks",
            "machine": machine.describe(),
            "rounds": flags.rounds,
            "images": flags.images,
            "models": parts,
        },
    )
    print(f"every time is in {os.path.relpath(flags.output)}")
    return cli.EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
