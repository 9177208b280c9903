"""Interleaved timed runs and their statistics.

A form times itself: it takes a number of repetitions and returns the seconds they took. So it can
exclude setup, and wait for an accelerator once at the end.
"""

import dataclasses
import math
import statistics
import time
from collections.abc import Callable, Iterable

MATRIX_SIZE = {"CPU": 2048, "GPU": 8192}


@dataclasses.dataclass(frozen=True)
class Form:
    """Something to time.

    Attributes:
      seconds: number of repetitions -> seconds they took.
      amount: what one repetition processes (images, operations).
    """

    seconds: Callable[[int], float]
    amount: float = 1.0


def take_turns(
    forms: dict[str, Form], runs: int, at_least: float = 0.5, order: Iterable[str] = ()
) -> dict[str, list[float]]:
    """Times every form `runs` times, interleaved, so that disturbances affect all equally.

    Args:
      forms: by name.
      runs: timed runs of each form, after two warm-up runs.
      at_least: minimum seconds per run: short work is repeated.
      order: names in a round, possibly repeated; by default every form once.

    Returns:
      Name -> `amount` per second in each run.
    """
    times = {}
    for name, form in forms.items():
        form.seconds(1)  # traces, compiles and allocates memory
        times[name] = max(1, math.ceil(at_least / max(form.seconds(1), 1e-6)))
    rates = {name: [] for name in forms}
    for _ in range(runs):
        for name in order or forms:
            form, count = forms[name], times[name]
            rates[name].append(count * form.amount / form.seconds(count))
    return rates


def summary(values: list[float]) -> dict:
    """Median, least, greatest and spread (greatest minus least, over the median) of the runs."""
    median, low, high = statistics.median(values), min(values), max(values)
    return {
        "median": median,
        "least": low,
        "greatest": high,
        "spread": (high - low) / median,
        "runs": list(values),
    }


def matrix_product(dtype: str) -> Form:
    """A form of square matrix products in `dtype`, counted in floating-point operations."""
    import tensorflow as tf

    device = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    size = MATRIX_SIZE[device]
    numbers = tf.random.stateless_normal((2, size, size), (1, 2))
    left, right = (tf.cast(matrix, dtype) for matrix in numbers)

    @tf.function
    def product(left, right):
        return tf.matmul(left, right)

    def seconds(times: int) -> float:
        started = time.perf_counter()
        for _ in range(times):
            result = product(left, right)
        float(result[0, 0])  # waits for the last one
        return time.perf_counter() - started

    return Form(seconds, 2.0 * size**3)
