"""Describes this machine: processor, accelerators, versions."""

import os
import pathlib
import platform

from alexnet_tf import __version__

# Instructions that matrix products depend on and the processor's name does not show.
_INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "avx_vnni", "amx_bf16")


def describe() -> dict:
    """Processor, accelerator and versions, which measurements depend on."""
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
        "alexnet_tf": __version__,
    }


def processor() -> dict:
    """The processor's name, cores usable by this process and instructions; Python's version."""
    name, words = platform.processor() or platform.machine(), set()
    info = pathlib.Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                name = value.strip()
            elif key.strip() == "flags":
                words = set(value.split())
    return {
        "processor": name,
        "cores": usable_processors(),
        "instructions": " ".join(word for word in _INSTRUCTIONS if word in words),
        "python": platform.python_version(),
    }


def usable_processors() -> int:
    """The number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def as_text(machine: dict) -> str:
    """What `describe` returns, as one line."""
    return ", ".join(f"{name} {value}" for name, value in machine.items() if value)
