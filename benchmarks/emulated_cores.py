"""Emulates the input pipeline's scaling on more cores than this machine has.

    python benchmarks/emulated_cores.py [--threads=1,4,16,32] [--batch_size=128,256]

Decoding an image is replaced by a sleep, which gives up Python's interpreter lock as decoding does
but needs no core. So many threads can "decode" at a time on few cores, and the remaining time is
the pipeline's own cost: reading bytes, passing the lock on, making batches. The ideal is one
image for each thread and sleep. Two numbers bound what real cores could do:

- images/s at N threads, beside the ideal;
- processor time per image beside the sleep: as long as it is under the lock, which one thread holds
  at a time, its inverse is the most that any number of cores can do.

It is pessimistic where this machine has few cores, because all that work has to share them.
"""

import ctypes
import os
import pathlib
import sys
import time

from absl import flags as absl_flags

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # before this directory, which has a data_prep.py too

from alexnet_tf import cli  # noqa: E402

_SPARE = 4  # threads of the pipeline's other stages
_PR_SET_TIMERSLACK = 29


def main(argv=None) -> int:
    """Runs the program and returns its exit code."""
    return cli.run(_define, _main, argv, doc=__doc__)


def _define(flags):
    absl_flags.DEFINE_list(
        "threads", ["1", "4", "16", "32"], "Emulated cores, with commas.", flag_values=flags
    )
    absl_flags.DEFINE_list(
        "batch_size", ["128", "256"], "Images of a batch, with commas.", flag_values=flags
    )
    absl_flags.DEFINE_float("milliseconds", 0.4, "Of decoding an image.", 0.01, flag_values=flags)
    absl_flags.DEFINE_integer("runs", 5, "Timed runs of each.", 1, flag_values=flags)
    absl_flags.DEFINE_float("seconds", 1.0, "Of a run, at least.", 0.01, flag_values=flags)
    absl_flags.DEFINE_string(
        "data_dir", None, "A data set of JPEGs; by default the embedded ones.", flag_values=flags
    )
    results = ROOT / "benchmarks" / "results" / "emulated_cores.json"
    absl_flags.DEFINE_string("output", str(results), "JSON file.", flag_values=flags)


def _main(flags, args) -> int:
    if args:
        raise cli.UsageError(f"Unexpected argument {args[0]!r}: everything is a --flag here.")
    for name in ("threads", "batch_size"):
        if not all(word.isdigit() and int(word) > 0 for word in flags[name].value):
            raise cli.UsageError(f"--{name}: expected positive numbers with commas between them.")
    from alexnet_tf import memory

    memory.keep_freed_memory()  # as training does
    _sleep_exactly()
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()

    from alexnet_tf import files, machine
    from alexnet_tf.data import records
    from alexnet_tf.perf import inputs
    from data_prep import photos

    dataset = records.open_dataset(flags.data_dir or photos.cached_photos())
    if dataset.format.encoding != "jpeg":
        raise ValueError(f"{dataset.path} stores {dataset.format.encoding} images: expected JPEGs.")
    rows = []
    for batch_size in map(int, flags.batch_size):
        for threads in map(int, flags.threads):
            rows.append(_measure(dataset, threads, batch_size, flags))
            _tell(rows[-1])
    result = {
        "benchmark": "emulated_cores",
        "machine": machine.describe(),
        "milliseconds": flags.milliseconds,
        "data": inputs.describe_data(dataset),
        "rows": rows,
    }
    files.write_json(flags.output, result)
    print(f"every time is in {os.path.relpath(flags.output)}")
    return cli.EXIT_OK


def _sleep_exactly() -> None:
    """Linux prolongs a sleep by 50 us, to wake up less often; threads begun from here on do not."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)


def _measure(dataset, threads: int, batch_size: int, flags) -> dict:
    """Images/s of `training_inputs` and processor microseconds per image with N threads."""
    import tensorflow as tf

    from alexnet_tf.data import located_records, pipeline
    from alexnet_tf.perf import inputs, timing

    # Where the pipeline decodes, and what it makes of the machine.
    located_records._decode = lambda encoded, image: time.sleep(flags.milliseconds / 1e3)
    pipeline._processors = lambda: threads
    options = tf.data.Options()
    # By default there are as many threads as this machine has cores.
    options.threading.private_threadpool_size = threads + _SPARE
    schedule = pipeline.Schedule(batch_size, epochs=1_000_000)
    augmentation = inputs.augmentation(dataset, "alexnet")
    batches = pipeline.training_inputs(dataset, augmentation, schedule).with_options(options)
    iterator = iter(batches)
    for _ in range(2 * threads + _SPARE):  # all calls under way, buffers full
        next(iterator)
    ideal = threads / (flags.milliseconds / 1e3)
    # A whole number of turns of all threads.
    count = threads * max(1, round(flags.seconds * ideal / batch_size / threads))
    rates, processor = [], []
    for _ in range(flags.runs):
        started, busy = time.perf_counter(), time.process_time()
        for _ in range(count):
            next(iterator)
        rates.append(count * batch_size / (time.perf_counter() - started))
        processor.append(1e6 * (time.process_time() - busy) / (count * batch_size))
    return {
        "threads": threads,
        "batch_size": batch_size,
        "ideal": ideal,
        "images_per_second": timing.summary(rates),
        "cpu_microseconds_per_image": timing.summary(processor),
    }


def _tell(row: dict) -> None:
    rate, processor = row["images_per_second"], row["cpu_microseconds_per_image"]
    print(
        f"batch {row['batch_size']}, {row['threads']} threads: {rate['median']:,.0f} "
        f"({rate['least']:,.0f} to {rate['greatest']:,.0f}) of {row['ideal']:,.0f} images/s; "
        f"{processor['median']:.1f} us of processor time per image",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
