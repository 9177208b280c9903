"""Serving speed of an exported SavedModel: python benchmarks/serving.py [--workdir=RUN]

Requests to a network that `python -m alexnet_tf.export` writes, in float32 and bfloat16, in this
process, beside the bare Keras model and the same layers in PyTorch (in a separate process). Forms
take turns, after a warm-up that is not counted; decoding is measured alone too. Without --workdir
an AlexNet with random weights and 1000 classes is measured: time does not depend on the weights.
With --workdir and --data_dir the top-1 errors of both precisions on the validation images are
compared. Several clients at once, and a server: `python -m alexnet_tf.benchmark serve`.
"""

import os
import pathlib
import sys
import tempfile
import time

from absl import flags as absl_flags

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # before this directory, which has a data_prep.py too

from alexnet_tf import cli  # noqa: E402

BARE, PYTORCH = "bare Keras model", "PyTorch, same layers"
_WARM_TURNS = 2
_PAUSE = 0.1


def main(argv=None) -> int:
    """Runs the command; returns the exit code."""
    return cli.run(_define, _main, argv, doc=__doc__)


def _define(flags):
    absl_flags.DEFINE_string("workdir", None, "A run with a model.keras.", flag_values=flags)
    absl_flags.DEFINE_string("data_dir", None, "A prepared data set.", flag_values=flags)
    absl_flags.DEFINE_list(
        "precision", ["float32", "bfloat16"], "Of float32, bfloat16.", flag_values=flags
    )
    absl_flags.DEFINE_list("batch_size", ["1", "8", "32"], "Images.", flag_values=flags)
    absl_flags.DEFINE_integer("runs", 15, "Timed requests of each form.", 2, flag_values=flags)
    results = ROOT / "benchmarks" / "results" / "serving.json"
    absl_flags.DEFINE_string("output", str(results), "JSON file.", flag_values=flags)


def _main(flags, args) -> int:
    if args:
        raise cli.UsageError(f"Unexpected argument {args[0]!r}: everything is a --flag here.")
    if flags.data_dir and not flags.workdir:
        raise cli.UsageError(
            "--data_dir needs --workdir: random weights have no errors to compare."
        )
    if not all(word.isdigit() and int(word) for word in flags.batch_size):
        raise cli.UsageError(f"--batch_size={','.join(flags.batch_size)}: expected 1,8,32.")

    import peers

    from alexnet_tf import files, machine
    from alexnet_tf.models import saved_run
    from alexnet_tf.perf import serve
    from alexnet_tf.serving import precision as precisions

    network = saved_run.open_model(flags.workdir) if flags.workdir else serve.random_alexnet()
    networks = {kind: precisions.in_precision(network, kind) for kind in flags.precision}
    rows, absent = [], {}
    with tempfile.TemporaryDirectory() as directory:
        loaded = {kind: _exported(one, f"{directory}/{kind}") for kind, one in networks.items()}
        for batch_size in map(int, flags.batch_size):
            forms = _forms(network, loaded, batch_size)
            peer = None
            try:
                peer = peers.Peer(
                    peers.Entry(PYTORCH, [sys.executable, __file__, PYTORCH, str(batch_size)])
                )
                forms[PYTORCH] = peer.run
            except peers.Absent as why:
                absent[PYTORCH] = str(why)
            rows += _take_turns(forms, batch_size, flags.runs)
            if peer:
                peer.close()
    result = {
        "benchmark": "serving",
        "machine": machine.describe(),
        "runs": flags.runs,
        "picture": {"bytes": len(serve.photograph()), "size": [512, 512]},
        "rows": rows,
        "absent": absent,
    }
    if flags.data_dir:
        result["top1_error"] = _errors(networks, flags.data_dir)
    _print(result)
    files.write_json(flags.output, result)
    print(f"every time is in {os.path.relpath(flags.output)}")
    return cli.EXIT_OK


def _exported(network, output: str):
    import tensorflow as tf

    from alexnet_tf.serving import export, labels

    names = labels.class_names(network)
    return tf.saved_model.load(export.export_saved_model(network, names, f"{output}/alexnet"))


def _forms(network, loaded: dict, batch_size: int) -> dict:
    """Name -> a function that makes one request and waits for the answer."""
    import tensorflow as tf

    from alexnet_tf.perf import serve

    shape = (batch_size, *network.model.input_shape[1:])
    crops = tf.random.stateless_uniform(shape, (7, 8), maxval=255.0)
    bare = tf.function(lambda x: network.model(x, training=False))
    forms = {BARE: lambda: bare(crops).numpy()}
    image = serve.photograph()
    for kind, saved_model in loaded.items():
        of_file, of_crops, decoding = serve.request_forms(saved_model, image, batch_size).values()
        forms[f"SavedModel {kind}, crops"] = of_crops
        forms[f"SavedModel {kind}, JPEG files"] = of_file
        forms["decode and crop"] = decoding
    return forms


def _take_turns(forms: dict, batch_size: int, runs: int) -> list[dict]:
    """Each form `runs` times, in turn, so that a busy moment hits all alike."""
    from alexnet_tf.perf import serve

    seconds = {name: [] for name in forms}
    for run in range(-_WARM_TURNS, runs):
        for name, form in forms.items():
            if name == PYTORCH:
                time.sleep(_PAUSE)  # the other framework's threads go idle
            started = time.perf_counter()
            answer = form()
            took = time.perf_counter() - started
            if name == PYTORCH:
                ((_, took),) = answer  # by its own clock, without the way there
                time.sleep(_PAUSE)
            if run >= 0:
                seconds[name].append(took)
    return [
        {
            "form": name,
            "batch_size": batch_size,
            **serve.percentiles(values),
            "images_per_second": batch_size / (serve.percentiles(values)["p50_ms"] / 1e3),
            "seconds": values,
        }
        for name, values in seconds.items()
    ]


def _errors(networks: dict, data_dir: str) -> dict:
    """Top-1 error of each precision on every validation image."""
    from alexnet_tf import evaluation
    from alexnet_tf.data import records

    dataset = records.open_dataset(data_dir)
    dataset.require_split("validation")
    view = evaluation.EvaluationSettings("validation", crops=1, batch_size=32)
    errors = {}
    for kind, network in networks.items():
        found = evaluation.split_probabilities(network.model, dataset, view)
        errors[kind] = evaluation.score(*found).top1_error
    return errors


def _print(result: dict) -> None:
    from alexnet_tf import machine

    print(machine.as_text(result["machine"]))
    bare = {
        row["batch_size"]: row["images_per_second"] for row in result["rows"] if row["form"] == BARE
    }
    print(f"{'form':34}{'batch':>6}{'p50 ms':>9}{'p95':>9}{'p99':>9}{'images/s':>10}{'of bare':>9}")
    for row in result["rows"]:
        print(
            f"{row['form']:34}{row['batch_size']:6}{row['p50_ms']:9.1f}{row['p95_ms']:9.1f}"
            f"{row['p99_ms']:9.1f}{row['images_per_second']:10.1f}"
            f"{row['images_per_second'] / bare[row['batch_size']]:9.0%}"
        )
    for name, why in result["absent"].items():
        print(f"{name} absent: {why}")
    for kind, error in result.get("top1_error", {}).items():
        print(f"top-1 error in {kind}: {error:.2%}")


def _pytorch(batch_size: int):
    """PyTorch's side of the comparison, as a peer."""
    import networks
    import torch

    forward = networks.torch_forward(batch_size)

    def turn():
        started = time.perf_counter()
        forward()
        return [(batch_size, time.perf_counter() - started)]

    return {"torch": torch.__version__}, turn


if __name__ == "__main__":
    if sys.argv[1:2] == [PYTORCH]:
        import peers

        peers.serve(lambda: _pytorch(int(sys.argv[2])))
    else:
        sys.exit(main())
