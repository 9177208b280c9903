"""The training step beside PyTorch's and stock Keras layers', in one run.

    python benchmarks/train_step.py [--precision=float32,bfloat16] [--batch_size=128]

Whole steps on the same cores (or the same GPU, where all have one): forward, dropout,
cross-entropy, backward, momentum and weight decay. Peers are separate processes that take
turns:

- this package's AlexNet, the paper's with response normalisation and groups; on a GPU compiled by
  XLA, as `train` does in a long run;
- the same with deterministic operations, which are the default of `train` and which no peer has;
- the same network in PyTorch, channels last, also with torch.compile, and of stock Keras layers,
  also compiled by XLA as a whole, as `model.fit` does on a GPU;
- torchvision's AlexNet (no normalisation, no groups) here and in PyTorch, also with torch.compile;
- products of large matrices in TensorFlow, the ceiling of what a processor can do.

Images are where training has them: this package's are stored images, uint8, which wait on the
device and which the step crops, mirrors and casts; the peers' are finished float32 crops there.
Compilers work before the clock starts. What this machine cannot run is named and left out;
torch.compile needs a C++ compiler on processors. On processors --only asks for what is not measured
there by default: Keras layers under XLA, which are slow there, and deterministic operations.

Lower precisions are Keras' mixed policies and PyTorch's autocast. They pay where a processor
multiplies them in hardware (AMX, AVX512-BF16, GPUs); elsewhere they are slow: measure them there
with a small --batch_size, and a separate --output.
"""

import os
import pathlib
import sys

from absl import flags as absl_flags

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # before this directory, which has a data_prep.py too

from alexnet_tf import cli  # noqa: E402

PRECISIONS = ("float32", "bfloat16", "float16")
OURS, CEILING = "alexnet_tf", "matrix products"
FORMS = {
    OURS: "ours",
    "alexnet_tf, deterministic operations": "ours_deterministic",
    "PyTorch, same network": "torch",
    "PyTorch, same network, torch.compile": "torch_compiled",
    "stock Keras layers": "keras",
    "stock Keras layers, compiled by XLA": "keras_compiled",
    "alexnet_tf, torchvision's network": "ours_owt",
    "PyTorch, torchvision's network": "torch_owt",
    "PyTorch, torchvision's network, torch.compile": "torch_owt_compiled",
    CEILING: "matrices",
}
_ON_GPU = ("ours_deterministic", "keras_compiled")  # by default only there


def main(argv=None) -> int:
    """Runs the command; returns the exit code."""
    return cli.run(_define, _main, argv, doc=__doc__)


def _define(flags):
    absl_flags.DEFINE_integer("rounds", 5, "Turns of each peer.", 1, flag_values=flags)
    absl_flags.DEFINE_integer("batch_size", 128, "Images of a batch.", 1, flag_values=flags)
    absl_flags.DEFINE_list("precision", ["float32"], ", ".join(PRECISIONS), flag_values=flags)
    absl_flags.DEFINE_list(
        "only", [], f"Forms to measure: {', '.join(FORMS.values())}.", flag_values=flags
    )
    results = ROOT / "benchmarks" / "results" / "train_step.json"
    absl_flags.DEFINE_string("output", str(results), "JSON file.", flag_values=flags)


def _main(flags, args) -> int:
    if args:
        raise cli.UsageError(f"Unexpected argument {args[0]!r}: everything is a --flag here.")
    for name, given, known in (
        ("precision", flags.precision, PRECISIONS),
        ("only", flags.only, (*FORMS.values(), *FORMS)),
    ):
        unknown = set(given) - set(known)
        if unknown:
            raise cli.UsageError(f"--{name}={sorted(unknown)[0]}: expected {', '.join(known)}.")
    import peers

    from alexnet_tf import files, machine

    script = str(ROOT / "benchmarks" / "train_peers.py")
    wanted = flags.only or _default_forms()
    parts = []
    for precision in flags.precision:
        entries = [
            peers.Entry(name, [sys.executable, script, peer, precision, str(flags.batch_size)])
            for name, peer in FORMS.items()
            if name in wanted or peer in wanted
        ]
        print(f"{precision}, batches of {flags.batch_size}")
        # Each has made a step already when it says that it is ready.
        result = peers.compete(entries, flags.rounds, warm=0)
        peers.print_rates(result, OURS, "images/s")
        parts.append({"precision": precision, **result, **_share(result)})
    files.write_json(
        flags.output,
        {
            "benchmark": "train_step",
            "machine": machine.describe(),
            "rounds": flags.rounds,
            "batch_size": flags.batch_size,
            "precisions": parts,
        },
    )
    print(f"every time is in {os.path.relpath(flags.output)}")
    return cli.EXIT_OK


def _default_forms() -> list[str]:
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU"):
        return list(FORMS)
    return [name for name, peer in FORMS.items() if peer not in _ON_GPU]


def _share(result: dict) -> dict:
    """Our share of the ceiling, where both were measured."""
    rows = {row["form"]: row for row in result["rows"]}
    if OURS not in rows or CEILING not in rows:
        return {}
    ours, ceiling = rows[OURS], rows[CEILING]["rate"]["median"]
    operations = ours["about"]["operations_per_image"]
    share = ours["rate"]["median"] * operations / ceiling
    print(
        f"{operations / 1e9:.2f} GFLOP per image and step: {OURS} reaches {share:.0%} of the "
        f"matrix products' {ceiling / 1e9:.0f} GFLOP/s"
    )
    return {"share_of_ceiling": share}


if __name__ == "__main__":
    sys.exit(main())
