"""Alternating timed runs, their statistics, and a description of the machine.

A form clocks itself: it is called with how many times to do its work and returns the seconds that
this took. So it can leave out what does not belong, and wait for an accelerator once, at the end.
"""

import dataclasses
import math
import os
import pathlib
import platform
import statistics
import time
from collections.abc import Callable, Iterable

MATRIX_SIZE = {"CPU": 2048, "GPU": 8192}
# What the processor's name does not tell, and matrix products depend on.
_INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "avx_vnni", "amx_bf16")


@dataclasses.dataclass(frozen=True)
class Form:
    """Something to time.

    Attributes:
      seconds: from how many times to do it to the seconds that this took.
      amount: of what is counted (images, operations), done each time.
    """

    seconds: Callable[[int], float]
    amount: float = 1.0


def clocked(work: Callable[[], object]) -> Callable[[int], float]:
    """A form's `seconds` of a function that returns when its work is done."""

    def seconds(times: int) -> float:
        started = time.perf_counter()
        for _ in range(times):
            work()
        return time.perf_counter() - started

    return seconds


def take_turns(
    forms: dict[str, Form], runs: int, at_least: float = 0.5, order: Iterable[str] = ()
) -> dict[str, list[float]]:
    """Times every form `runs` times, in turn, so that a busy moment hits all alike.

    Args:
      forms: by name.
      runs: timed runs of each form. Two more before them are not counted.
      at_least: seconds that a run should take: short work is repeated.
      order: names, some more than once, of a round; by default every form once.

    Returns:
      Name -> `amount` per second in each run.
    """
    times = {}
    for name, form in forms.items():
        form.seconds(1)  # tracing, compiling, and the memory to be there
        times[name] = max(1, math.ceil(at_least / max(form.seconds(1), 1e-6)))
    rates = {name: [] for name in forms}
    for _ in range(runs):
        for name in order or forms:
            form, count = forms[name], times[name]
            rates[name].append(count * form.amount / form.seconds(count))
    return rates


def summary(values: list[float]) -> dict:
    """The runs of one form: median, least, greatest, spread (their difference over the median)."""
    median, low, high = statistics.median(values), min(values), max(values)
    return {
        "median": median,
        "least": low,
        "greatest": high,
        "spread": (high - low) / median,
        "runs": list(values),
    }


def matrix_product(dtype: str) -> Form:
    """Products of square matrices in `dtype`, counted in floating-point operations."""
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


def machine() -> dict:
    """What the numbers depend on: processor, accelerator, versions."""
    import keras
    import tensorflow as tf

    gpus = [
        tf.config.experimental.get_device_details(gpu).get("device_name", "GPU")
        for gpu in tf.config.list_physical_devices("GPU")
    ]
    return {
        **processor(),
        "accelerator": ", ".join(gpus) or "none",
        "oneDNN": os.environ.get("TF_ENABLE_ONEDNN_OPTS", "default"),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
    }


def processor() -> dict:
    """Its name, cores that this process may use, and instructions; and Python's version."""
    name, words = platform.processor() or platform.machine(), set()
    info = pathlib.Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                name = value.strip()
            elif key.strip() == "flags":
                words = set(value.split())
    usable = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))
    return {
        "processor": name,
        "cores": len(usable(0)),
        "instructions": " ".join(word for word in _INSTRUCTIONS if word in words),
        "python": platform.python_version(),
    }


def describe(machine: dict) -> str:
    """One line for people."""
    return ", ".join(f"{name} {value}" for name, value in machine.items() if value)
