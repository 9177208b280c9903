"""Measures this package on this machine: python -m alexnet_tf.benchmark step|input|train|serve|plan

step    the training step on images in memory: images/s by --strategy, --precision and
        --batch_size, and its share of the rate of large matrix products in the same run
input   the pipeline from records to augmented float32 batches, and the time of each stage
train   both together: images/s, also as a share of the slower of the two
serve   an exported network: latency and throughput by --batch_size and --clients, in this process
        and, with --server, of a TF Serving server
plan    measures nothing: estimates a training step on several GPUs and machines from one GPU's
        step, and the cores, disks and tf.data workers that feed it

Every run is kept in the JSON file that --output names.
"""

import os
import sys
from collections.abc import Sequence

from absl import flags as absl_flags

from alexnet_tf import cli, memory
from alexnet_tf.perf import hardware

_PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
_STRATEGIES = ("none", "mirrored")
_JIT_COMPILE = ("true", "false", "auto")
# Which flags each mode reads, besides --output.
_FLAGS = {
    "step": ("model", "batch_size", "precision", "strategy", "devices", "jit_compile", "runs"),
    "input": ("data_dir", "model", "batch_size", "batches", "runs"),
    "train": (
        "data_dir",
        "model",
        "batch_size",
        "precision",
        "strategy",
        "devices",
        "jit_compile",
        "runs",
    ),
    "serve": ("saved_model", "server", "name", "batch_size", "clients", "requests"),
    "plan": (
        "model",
        "batch_size",
        "precision",
        "gpus",
        "machines",
        "link",
        "network_gbit",
        "step_ms",
        "image_cpu_ms",
        "jpeg_kb",
        "worker_cores",
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the program and returns its exit code."""
    if argv is None:  # as in train
        memory.keep_freed_memory()
        if "serve" not in sys.argv:
            os.environ.setdefault("TF_DETERMINISTIC_OPS", "1")
    return cli.run(_define, _main, argv, doc=__doc__)


def _define(flags: absl_flags.FlagValues) -> None:
    def define(kind, name, default, text, *limits):
        modes = [mode for mode, names in _FLAGS.items() if name in names]
        of = f" ({', '.join(modes)})" if modes and len(modes) < len(_FLAGS) else ""
        kind(name, default, f"{text}{of}.", *limits, flag_values=flags)

    several = ", several with commas"
    text, number, real, words = (
        absl_flags.DEFINE_string,
        absl_flags.DEFINE_integer,
        absl_flags.DEFINE_float,
        absl_flags.DEFINE_list,
    )
    define(text, "model", "alexnet", "The network's name")
    define(text, "data_dir", None, "A prepared data set; by default the embedded photographs")
    define(
        words,
        "batch_size",
        None,
        f"Images of a batch{several} for step and serve; by default 128, for serve 1,8,32, for "
        "plan 512 on each GPU",
    )
    define(words, "precision", ["float32"], f"Of {', '.join(_PRECISIONS)}{several} for step")
    define(words, "strategy", ["none"], f"none or mirrored{several} for step")
    choices = ", ".join(_JIT_COMPILE)
    define(words, "jit_compile", ["auto"], f"Whether XLA compiles the step: {choices}, on a GPU")
    define(number, "devices", None, "Replicas of mirrored", 1)
    define(number, "runs", 5, "Timed runs of each form", 1)
    define(number, "batches", 16, "Batches of a run", 1)
    define(text, "saved_model", None, "A version's directory; by default AlexNet, random weights")
    define(text, "server", None, "http://HOST:8501 or grpc://HOST:8500, to measure it too")
    define(text, "name", "alexnet", "The model's name at the server")
    define(words, "clients", ["1", "2", "4"], "Requests under way at a time, with commas")
    define(number, "requests", 10, "Timed requests of each client", 1)
    commas = "several with commas"
    define(words, "gpus", ["8"], f"GPUs of each machine, {commas}")
    define(words, "machines", ["1", "2", "8"], f"Number of machines, {commas}")
    links = ", ".join(hardware.LINKS)
    define(words, "link", ["nvlink"], f"Of {links}, between a machine's GPUs, {commas}")
    define(words, "network_gbit", ["100"], f"Gbit/s from each machine to the others, {commas}")
    define(real, "step_ms", None, "Milliseconds of one GPU's step; by default an H200's", 0.001)
    cpu_ms = [f"{ms}" for ms in hardware.IMAGE_CPU_MS.values()]
    define(words, "image_cpu_ms", cpu_ms, "Milliseconds of a core per image: JPEG, raw record")
    define(real, "jpeg_kb", hardware.JPEG_KB, "Kilobytes of a JPEG record", 0.001)
    define(number, "worker_cores", 16, "Cores of a machine that is a tf.data service worker", 1)
    define(text, "output", None, "JSON file for every single time")


def _main(flags: absl_flags.FlagValues, args: list[str]) -> int:
    if len(args) != 1 or args[0] not in _FLAGS:
        raise cli.UsageError(
            f"Found {' '.join(args) or 'nothing'}: expected what to measure: {', '.join(_FLAGS)}."
        )
    (mode,) = args
    for name in flags:
        if flags[name].present and name not in (*_FLAGS[mode], "output"):
            raise cli.UsageError(f"--{name} means nothing to {mode}: leave it out.")
    run = {"step": _step, "input": _input, "train": _train, "serve": _serve, "plan": _plan}[mode]
    result, text = run(flags)

    from alexnet_tf import files, machine

    if "machine" in result:
        print(machine.as_text(result["machine"]))
    print(text)
    if flags.output:
        files.write_json(flags.output, {"benchmark": mode, **result})
        print(f"Every single time is in {flags.output}")
    return cli.EXIT_OK


def _step(flags):
    from alexnet_tf.perf import report, steps

    settings = steps.StepSettings(
        model=flags.model,
        batch_sizes=_numbers(flags, "batch_size", (128,)),
        precisions=_words(flags, "precision", _PRECISIONS),
        strategies=_words(flags, "strategy", _STRATEGIES),
        devices=flags.devices,
        jit_compile=_one(_words(flags, "jit_compile", _JIT_COMPILE), "jit_compile"),
        runs=flags.runs,
    )
    result = steps.measure_step(settings)
    return result, report.step_text(result)


def _input(flags):
    from alexnet_tf.perf import inputs, report
    from data_prep import photos

    settings = inputs.InputSettings(
        data_dir=flags.data_dir or photos.cached_photos(),
        model=flags.model,
        batch_size=_one(_numbers(flags, "batch_size", (128,)), "batch_size"),
        batches=flags.batches,
        runs=flags.runs,
    )
    result = inputs.measure_input(settings)
    result["settings"]["data_dir"] = flags.data_dir  # as given, not the resolved path
    return result, report.input_text(result)


def _train(flags):
    from alexnet_tf.perf import report, train_throughput
    from data_prep import photos

    settings = train_throughput.TrainSettings(
        model=flags.model,
        batch_size=_one(_numbers(flags, "batch_size", (128,)), "batch_size"),
        precision=_one(_words(flags, "precision", _PRECISIONS), "precision"),
        strategy=_one(_words(flags, "strategy", _STRATEGIES), "strategy"),
        devices=flags.devices,
        jit_compile=_one(_words(flags, "jit_compile", _JIT_COMPILE), "jit_compile"),
        runs=flags.runs,
        data_dir=flags.data_dir or photos.cached_photos(),
    )
    result = train_throughput.measure_train(settings)
    result["settings"]["data_dir"] = flags.data_dir  # as given, not the resolved path
    return result, report.train_text(result)


def _serve(flags):
    from alexnet_tf.perf import report, serve

    settings = serve.ServeSettings(
        saved_model=flags.saved_model,
        server=flags.server,
        name=flags.name,
        batch_sizes=_numbers(flags, "batch_size", (1, 8, 32)),
        clients=_numbers(flags, "clients", ()),
        requests=flags.requests,
    )
    result = serve.measure_serve(settings)
    return result, report.serve_text(result)


def _plan(flags):
    from alexnet_tf.perf import plan, report

    settings = plan.PlanSettings(
        model=flags.model,
        batch_size=_one(_numbers(flags, "batch_size", (512,)), "batch_size"),
        precision=_one(_words(flags, "precision", _PRECISIONS), "precision"),
        step_ms=flags.step_ms,
        machines=_numbers(flags, "machines", ()),
        gpus=_numbers(flags, "gpus", ()),
        links=_words(flags, "link", tuple(hardware.LINKS)),
        network_gbit=_numbers(flags, "network_gbit", ()),
        image_cpu_ms=_milliseconds(flags),
        jpeg_kb=flags.jpeg_kb,
        worker_cores=flags.worker_cores,
    )
    result = plan.make_plan(settings)
    return result, report.plan_text(result)


def _milliseconds(flags) -> tuple[float, float]:
    found = flags.image_cpu_ms
    try:
        jpeg, raw = (float(word) for word in found)
    except ValueError as error:
        raise cli.UsageError(
            f"--image_cpu_ms={','.join(found)}: expected two numbers, of a JPEG and of a raw "
            "record, with a comma between them."
        ) from error
    return jpeg, raw


def _numbers(flags, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
    found = flags[name].value
    if found is None:
        return default
    if not found or not all(word.isdigit() and int(word) > 0 for word in found):
        raise cli.UsageError(
            f"--{name}={','.join(found)}: expected positive numbers with commas between them."
        )
    return tuple(int(word) for word in found)


def _words(flags, name: str, known: tuple[str, ...]) -> tuple[str, ...]:
    found = flags[name].value
    if not found or not set(found) <= set(known):
        raise cli.UsageError(f"--{name}={','.join(found)}: expected {', '.join(known)}.")
    return tuple(found)


def _one(values: tuple, name: str):
    if len(values) != 1:
        raise cli.UsageError(f"--{name} has {len(values)} values: expected one here.")
    return values[0]


if __name__ == "__main__":
    sys.exit(main())
