"""One network on two devices: split by images or split by neurons? Step times and bytes moved.

    python benchmarks/parallelism.py

Trains `alexnet_145` on images in memory under --strategy=none, mirrored and towers, in turn, on
two GPUs or else on two logical devices of the CPU, and counts what the placed graphs send from one
device to the other. Each measured time is compared with a cost model that was fitted to neither
mirrored nor towers. Its terms are measured separately:

    c   seconds per image: the slope of none's step over the batch
    u   seconds per step whatever the batch: its intercept, mostly the update of the weights
    s   seconds to add the gradients of two replicas
    r   seconds to bring a byte to the other device
    f   how much longer two devices need at once than one alone for the same convolution, and g for
        the same update: 1 if each has its own processor, 2 if they share all of one

| strategy | expected                        |
|----------|---------------------------------|
| none     | c B + u                         |
| mirrored | f c B / 2 + g u + s + r bytes   |
| towers   | f c B / 2 + g u / 2 + r bytes   |

Replicas update every weight twice, towers once. On logical CPUs f is near 2, so the arithmetic
gains nothing, and r is near 0: only a pointer is passed in one memory. On separate GPUs f and g
are 1, and the bytes decide: mirrored's are the same for any batch, towers' grow with it.
"""

import dataclasses
import pathlib
import sys
import time

from absl import flags as absl_flags

from alexnet_tf import cli, files, machine

RESULTS = pathlib.Path(__file__).parent / "results" / "parallelism.json"
STRATEGIES = ("none", "mirrored", "towers")
MODEL = "alexnet_145"


def main(argv=None) -> int:
    """Runs the command; returns the exit code."""
    return cli.run(_define, _main, argv, doc=__doc__)


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
        raise cli.UsageError(
            f"--batch_sizes={','.join(map(str, sizes))}: expected two or more even numbers, "
            "ascending."
        )
    result = measure(sizes, 1 if flags.quick else flags.runs)
    print(text(result))
    files.write_json(flags.output, result, indent=1)
    print(f"every time is in {flags.output}")
    return 0


def measure(sizes: list[int], runs: int) -> dict:
    """{"machine", "terms" of the cost model, "rows": one per strategy and batch size}."""
    from alexnet_tf.perf import placement, timing
    from alexnet_tf.training import distribution

    # Mirrored first: the CPU can only be split into devices before anything runs.
    strategies = {name: distribution.make_strategy(name) for name in sorted(STRATEGIES)}
    forms, rows = {}, []
    for name in STRATEGIES:
        trained = Trained(strategies[name])
        for size in sizes:
            arguments = trained.arguments(size)
            # The first step of a shape: TensorFlow shows only what it compiles meanwhile.
            transfers = placement.placement(trained.steps.step, *arguments).transfers
            key = f"{name} {size}"
            forms[key] = timing.Form(_clock(trained.step, size))
            moved = sum(transfer.size for transfer in transfers)
            rows.append({"key": key, "strategy": name, "batch_size": size, "moved": moved})
    parameters = trained.network.count_params()
    works = term_forms(strategies["towers"].devices, parameters)
    forms |= {name: timing.Form(work) for name, work in works.items()}
    rates = timing.take_turns(forms, runs)
    seconds = {key: timing.summary([1 / rate for rate in values]) for key, values in rates.items()}
    alone = {key: value["median"] for key, value in seconds.items()}
    terms = {
        **slope_and_intercept(sizes, [alone[f"none {size}"] for size in sizes]),
        "s": alone["sum"],
        "r": alone["copy"] / (4 * parameters),
        "f": alone["convolution on both"] / alone["convolution"],
        "g": alone["update on both"] / alone["update"],
    }
    for row in rows:
        row["seconds"] = seconds[row.pop("key")]
        row["expected"] = expected(row, terms)
    return {"machine": machine.describe(), "model": MODEL, "terms": terms, "rows": rows}


class Trained:
    """A network under a strategy, and its training step on images in memory."""

    def __init__(self, strategy):
        import numpy as np
        import tensorflow as tf

        from alexnet_tf.data.augmentation import Augmentation
        from alexnet_tf.training import distribution
        from alexnet_tf.training.initialization import build
        from alexnet_tf.training.recipes import SOURCE_145

        # A rate so low that no step changes what the next one has to compute.
        recipe = dataclasses.replace(
            SOURCE_145, learning_rate=1e-7, rate_steps=(), bias_rate_steps=(), conv1_rate_steps=()
        )
        self.strategy = strategy
        mean = np.full(3, 120, np.float32)
        self.network, optimizer = build(strategy, recipe, (1000, 3), mean)
        still = Augmentation(crop_size=224, mirror=False).compiled
        # The batch is in the loss only as a divisor: any number takes the same time.
        self.steps = distribution.make_steps(strategy, recipe, self.network, optimizer, still)
        self.nothing = tf.constant(0.0)
        self.batches = {}

    def arguments(self, size: int) -> tuple:
        """What `steps.step` takes, for a global batch of that size."""
        import tensorflow as tf

        from alexnet_tf.training import distributed_input

        if size not in self.batches:
            share = size // self.strategy.num_replicas_in_sync
            shape = (share, 224, 224, 3)
            images = tf.random.stateless_uniform(shape, (3, 4), maxval=256, dtype=tf.int32)
            labels = tf.range(share, dtype=tf.int64) % 1000
            data = tf.data.Dataset.from_tensors((tf.cast(images, tf.uint8), labels, {})).repeat()
            self.batches[size] = next(distributed_input.dealt(self.strategy, lambda context: data))
        return self.batches[size], self.nothing

    def step(self, size: int):
        """One step on a batch that is on the devices."""
        return self.steps.step(*self.arguments(size))


def _clock(step, size: int):
    def seconds(times: int) -> float:
        started = time.perf_counter()
        for _ in range(times):
            sums = step(size)
        sums["loss"].numpy()  # waits for the last one, whose weights depend on all before it
        return time.perf_counter() - started

    return seconds


def term_forms(devices: tuple[str, str], parameters: int) -> dict:
    """Timed forms of the model's other terms, on arrays of the size of the network's weights."""
    import tensorflow as tf

    gradients, maps, variables = [], [], []
    for number, device in enumerate(devices):
        with tf.device(device):
            gradients.append(tf.random.stateless_normal((parameters,), (1, number)))
            maps.append(tf.random.stateless_normal((32, 13, 13, 384), (2, number)))
            variables.append([tf.Variable(tf.zeros(parameters)) for _ in range(2)])

    def convolution(number):
        kernel = tf.ones((3, 3, 384, 384))
        return tf.nn.conv2d(maps[number], kernel, 1, "SAME")[0, 0, 0, 0]

    def update(number):
        weight, velocity = variables[number]
        tf.raw_ops.ResourceApplyKerasMomentum(
            var=weight.handle,
            accum=velocity.handle,
            lr=tf.constant(1e-7),
            grad=gradients[number],
            momentum=tf.constant(0.9),
        )
        return weight[0]

    def on(work, count):
        @tf.function
        def run():
            results = []
            for number, device in enumerate(devices[:count]):
                with tf.device(device):
                    results.append(work(number))
            return results

        return _waiting(run)

    @tf.function
    def add():
        with tf.device(devices[0]):
            # Arrays of the same size represent the other replica's gradients.
            variables[0][1].assign(gradients[0] + variables[0][0])
            return [variables[0][1][0]]

    @tf.function
    def copy():
        with tf.device(devices[1]):
            return [tf.identity(gradients[0])[0]]

    return {
        "sum": _waiting(add),
        "copy": _waiting(copy),
        "convolution": on(convolution, 1),
        "convolution on both": on(convolution, 2),
        "update": on(update, 1),
        "update on both": on(update, 2),
    }


def _waiting(run):
    """A form's `seconds` of a function that gives single numbers."""

    def seconds(times: int) -> float:
        started = time.perf_counter()
        for _ in range(times):
            results = run()
        for result in results:
            result.numpy()
        return time.perf_counter() - started

    return seconds


def slope_and_intercept(sizes: list[int], seconds: list[float]) -> dict:
    """{"c", "u"}: least squares through seconds per step over the batch."""
    import numpy as np

    slope, intercept = np.polyfit(sizes, seconds, 1)
    return {"c": float(slope), "u": max(float(intercept), 0.0)}


def expected(row: dict, terms: dict) -> float:
    """Seconds of a step by the cost model in this file's first lines."""
    images, update = terms["c"] * row["batch_size"], terms["u"]
    travel = terms["r"] * row["moved"]
    if row["strategy"] == "none":
        return images + update
    if row["strategy"] == "mirrored":
        return terms["f"] * images / 2 + terms["g"] * update + terms["s"] + travel
    return terms["f"] * images / 2 + terms["g"] * update / 2 + travel


def text(result: dict) -> str:
    """What was measured, beside what the model expects."""

    terms = result["terms"]
    rate = f"{1e-9 / terms['r']:.1f} GB/s"
    lines = [
        machine.as_text(result["machine"]),
        f"{MODEL}: c {1e3 * terms['c']:.2f} ms per image, u {1e3 * terms['u']:.0f} ms, "
        f"s {1e3 * terms['s']:.0f} ms, r {rate}, f {terms['f']:.2f}, g {terms['g']:.2f}",
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
    lines += _verdict(result)
    return "\n".join(lines)


def _verdict(result: dict) -> list[str]:
    """Which strategy transfers less up to which batch, and the other differences."""
    terms, rows = result["terms"], result["rows"]
    towers = next(row for row in rows if row["strategy"] == "towers")
    mirrored = next(row for row in rows if row["strategy"] == "mirrored")
    equal = mirrored["moved"] * towers["batch_size"] // towers["moved"]
    once = terms["g"] * terms["u"] / 2 + terms["s"]
    return [
        f"towers move fewer bytes in batches of up to {equal:,} images;",
        f"whatever the batch they save {1e3 * once:.0f} ms a step by the model, half of the update "
        "and the sum of gradients",
    ]


if __name__ == "__main__":
    sys.exit(main())
