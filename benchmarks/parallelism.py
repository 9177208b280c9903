"""One network on two devices: split by pictures or split by neurons? Step times and bytes moved.

    python benchmarks/parallelism.py

Trains `alexnet_145` on pictures in memory under --strategy=none, mirrored and towers, in turn, on
two GPUs or else on two logical devices of the CPU, and counts what the placed graphs send from one
device to the other. Beside each measured time stands what a cost model expects that has seen
neither mirrored nor towers. Its terms are measured apart:

    c   seconds per picture: the slope of none's step over the batch
    u   seconds per step whatever the batch: its intercept, the update of the weights
    s   seconds to add the gradients of two replicas
    r   seconds to bring a byte to the other device

| strategy | one processor in two parts   | two processors               |
|----------|------------------------------|------------------------------|
| none     | c B + u                      | c B + u                      |
| mirrored | c B + 2 u + s + r bytes      | c B / 2 + u + s + r bytes    |
| towers   | c B + u + r bytes            | c B / 2 + u / 2 + r bytes    |

Logical CPUs share their cores and their memory: nothing can be won there, and a "copy" hands over a
pointer, so r is near 0. What shows is what each strategy does twice: replicas update every weight
twice, towers once. On two processors the bytes decide, and the batch decides the bytes.
"""

import dataclasses
import json
import os
import pathlib
import sys
import time

from absl import flags as absl_flags

from alexnet_tf import door

RESULTS = pathlib.Path(__file__).parent / "results" / "parallelism.json"
STRATEGIES = ("none", "mirrored", "towers")
MODEL = "alexnet_145"


def main(argv=None) -> int:
    """The front door; returns the exit code."""
    return door.run(_define, _main, argv, doc=__doc__)


def _define(flags):
    absl_flags.DEFINE_list(
        "batch_sizes", ["32", "128"], "Two or more, ascending.", flag_values=flags
    )
    absl_flags.DEFINE_integer("runs", 5, "Timed runs of each form.", 1, flag_values=flags)
    absl_flags.DEFINE_bool(
        "quick", False, "Batches of 4 and 8, one run: does it work?", flag_values=flags
    )
    absl_flags.DEFINE_string("output", str(RESULTS), "JSON file for the times.", flag_values=flags)


def _main(flags, args) -> int:
    sizes = [4, 8] if flags.quick else [int(size) for size in flags.batch_sizes]
    if len(sizes) < 2 or sizes != sorted(set(sizes)) or sizes[0] < 2 or any(n % 2 for n in sizes):
        raise door.UsageError(
            f"--batch_sizes={','.join(map(str, sizes))}: expected two or more even numbers, "
            "ascending."
        )
    result = measure(sizes, 1 if flags.quick else flags.runs)
    print(text(result))
    output = pathlib.Path(flags.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    aside = output.with_suffix(".tmp")
    aside.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    os.replace(aside, output)
    print(f"every time is in {output}")
    return 0


def measure(sizes: list[int], runs: int) -> dict:
    """{"machine", "terms" of the cost model, "rows": one per strategy and batch size}."""
    from alexnet_tf.benchmarking import timing
    from alexnet_tf.training import distribution, placement

    # Mirrored first: the CPU can only be split into devices before anything runs.
    strategies = {name: distribution.make_strategy(name) for name in sorted(STRATEGIES)}
    own_processors = "GPU" in strategies["towers"].devices[0]
    forms, rows = {}, []
    for name in STRATEGIES:
        trained = Trained(strategies[name])
        for size in sizes:
            arguments = trained.arguments(size)
            # The first step of a shape: TensorFlow shows only what it compiles meanwhile.
            transfers = placement.placement(trained.function, *arguments).transfers
            key = f"{name} {size}"
            forms[key] = timing.Form(_clock(trained.step, size))
            moved = sum(transfer.size for transfer in transfers)
            rows.append({"key": key, "strategy": name, "batch_size": size, "moved": moved})
    parameters = trained.network.count_params()
    devices = strategies["towers"].devices
    forms |= {name: timing.Form(work) for name, work in gradient_forms(devices, parameters).items()}
    rates = timing.take_turns(forms, runs)
    seconds = {key: timing.summary([1 / rate for rate in values]) for key, values in rates.items()}
    terms = {
        **slope_and_intercept(sizes, [seconds[f"none {size}"]["median"] for size in sizes]),
        "s": seconds["add"]["median"],
        "r": seconds["copy"]["median"] / (4 * parameters),
    }
    for row in rows:
        row["seconds"] = seconds[row.pop("key")]
        row["expected"] = expected(row, terms, own_processors)
    return {
        "machine": timing.machine(),
        "model": MODEL,
        "own_processors": own_processors,
        "terms": terms,
        "rows": rows,
    }


class Trained:
    """A network under a strategy, and its training step on pictures in memory."""

    def __init__(self, strategy):
        import numpy as np
        import tensorflow as tf

        from alexnet_tf.training import step as steps
        from alexnet_tf.training import towers
        from alexnet_tf.training.recipes import SOURCE_145
        from alexnet_tf.training.schedules import make_optimizer

        # A rate so low that no step changes what the next one has to compute.
        recipe = dataclasses.replace(
            SOURCE_145, learning_rate=1e-7, rate_steps=(), bias_rate_steps=(), conv1_rate_steps=()
        )
        self.strategy = strategy
        with strategy.scope():
            self.network = steps.make_network(recipe, 1000, 3, np.full(3, 120, np.float32), seed=0)
            optimizer = make_optimizer(recipe, steps_per_epoch=1)
            optimizer.build(self.network.trainable_variables)
        self.halves = towers.make_towers(strategy, recipe, self.network, optimizer)
        # The batch stands in the loss only as a divisor: any number takes the same time.
        self.function = (
            self.halves.compiled_step
            if self.halves
            else steps.make_train_step(strategy, self.network, optimizer, recipe.batch_size)
        )
        self.nothing = tf.constant(0.0)
        self.batches = {}

    def arguments(self, size: int) -> tuple:
        """What `function` takes, for a global batch of that size."""
        import tensorflow as tf

        if size not in self.batches:
            share = size // self.strategy.num_replicas_in_sync
            images = tf.random.stateless_uniform((share, 224, 224, 3), (3, 4), maxval=255.0)
            labels = tf.range(share, dtype=tf.int64) % 1000
            data = tf.data.Dataset.from_tensors((images, labels)).repeat()
            self.batches[size] = next(
                iter(self.strategy.distribute_datasets_from_function(lambda context: data))
            )
        if self.halves:
            images, labels = self.batches[size]
            return self.halves.on_both(images), labels, self.nothing
        return self.batches[size], self.nothing

    def step(self, size: int):
        """One step, as the training loop runs it."""
        if self.halves:
            return self.halves.step(self.batches[size], self.nothing)
        return self.function(*self.arguments(size))


def _clock(step, size: int):
    def seconds(times: int) -> float:
        started = time.perf_counter()
        for _ in range(times):
            sums = step(size)
        sums.numpy()  # waits for the last one, whose weights depend on all before it
        return time.perf_counter() - started

    return seconds


def gradient_forms(devices: tuple[str, str], parameters: int) -> dict:
    """The clocks of the terms s and r, on as many numbers as the network has weights."""
    import tensorflow as tf

    with tf.device(devices[0]):
        here = tf.random.stateless_normal((parameters,), (1, 2))

    @tf.function
    def add(a, b):
        with tf.device(devices[0]):
            return a + b

    @tf.function
    def copy(a):
        with tf.device(devices[1]):
            return tf.identity(a)[-2:]

    def clock(work):
        def seconds(times: int) -> float:
            started = time.perf_counter()
            for _ in range(times):
                result = work()
            result[-1].numpy()  # waits for the last one
            return time.perf_counter() - started

        return seconds

    return {"add": clock(lambda: add(here, here)), "copy": clock(lambda: copy(here))}


def slope_and_intercept(sizes: list[int], seconds: list[float]) -> dict:
    """{"c", "u"}: least squares through seconds per step over the batch."""
    import numpy as np

    slope, intercept = np.polyfit(sizes, seconds, 1)
    return {"c": float(slope), "u": max(float(intercept), 0.0)}


def expected(row: dict, terms: dict, own_processors: bool) -> float:
    """Seconds of a step by the cost model in this file's first lines."""
    pictures, update = terms["c"] * row["batch_size"], terms["u"]
    travel = terms["r"] * row["moved"]
    if row["strategy"] == "none":
        return pictures + update
    if own_processors:
        if row["strategy"] == "mirrored":
            return pictures / 2 + update + terms["s"] + travel
        return pictures / 2 + update / 2 + travel
    if row["strategy"] == "mirrored":
        return pictures + 2 * update + terms["s"] + travel
    return pictures + update + travel


def text(result: dict) -> str:
    """What was measured, beside what the model expects."""
    from alexnet_tf.benchmarking import timing

    terms = result["terms"]
    rate = f"{1e-9 / terms['r']:.1f} GB/s"
    lines = [
        timing.describe(result["machine"]),
        f"{MODEL}, two devices "
        + ("with processors of their own" if result["own_processors"] else "of one processor"),
        f"c {1e3 * terms['c']:.2f} ms per picture, u {1e3 * terms['u']:.0f} ms, "
        f"s {1e3 * terms['s']:.0f} ms, r {rate}",
        f"{'strategy':10}{'batch':>7}{'ms':>10}{'spread':>8}{'model ms':>10}{'off by':>8}"
        f"{'MB moved':>10}{'images/s':>10}",
    ]
    for row in result["rows"]:
        median = row["seconds"]["median"]
        lines.append(
            f"{row['strategy']:10}{row['batch_size']:7}{1e3 * median:10.1f}"
            f"{row['seconds']['spread']:8.0%}{1e3 * row['expected']:10.1f}"
            f"{row['expected'] / median - 1:8.0%}{row['moved'] / 1e6:10.1f}"
            f"{row['batch_size'] / median:10.1f}"
        )
    lines.append(_winner(result))
    return "\n".join(lines)


def _winner(result: dict) -> str:
    """From which batch on the replicas would be faster on two processors, by the model."""
    terms = result["terms"]
    moved = {row["strategy"]: row for row in result["rows"]}
    each = moved["towers"]["moved"] / moved["towers"]["batch_size"]
    # c B / 2 + u / 2 + r each B = c B / 2 + u + s + r bytes
    equal = moved["mirrored"]["moved"] / each
    saved = terms["u"] / 2 + terms["s"]
    return (
        f"towers move fewer bytes in batches of up to {int(equal):,} pictures; on two processors "
        f"each step also saves half of the update and the sum, {1e3 * saved:.0f} ms here"
    )


if __name__ == "__main__":
    sys.exit(main())
