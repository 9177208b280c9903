"""Extracts layer activations to disk; an interrupted extraction resumes.

Rows are written to OUTPUT.partial beside the output, one array per layer, together with the
progress. Extracting the same layers of the same network and images again resumes there; the output
itself is written atomically at the end.
"""

import contextlib
import dataclasses
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from alexnet_tf import files
from alexnet_tf.analysis.stimuli import Stimuli
from alexnet_tf.models import saved_run

POOLINGS = ("none", "avg", "max")
_STATE = "state.json"


@dataclasses.dataclass(frozen=True)
class Activations:
    """Activations of images, in the order of the stimuli.

    Attributes:
      arrays: name of a layer, as it was asked for -> float32 (n, ...), mapped from the disk.
      names: file names, n of them.
      labels: int64 (n,), or None for stimuli without labels.
      failed: file name -> why it has no row.
    """

    arrays: dict[str, np.ndarray]
    names: tuple[str, ...]
    labels: np.ndarray | None
    failed: dict[str, str]


def shapes(
    network: saved_run.TrainedModel, layers: Mapping[str, str], pooling: str = "none"
) -> dict[str, tuple[int, ...]]:
    """The shape of each layer's output for one image, by the name that was asked for."""
    found = {}
    for name, layer in layers.items():
        shape = tuple(network.model.get_layer(layer).output.shape)[1:]
        found[name] = shape[-1:] if pooling != "none" and len(shape) == 3 else shape
    return found


def size_text(per_image: Mapping[str, tuple[int, ...]], count: int) -> str:
    """How much the activations of `count` images take, a line per layer."""
    lines, total = [], 0
    for name, shape in per_image.items():
        each = 4 * int(np.prod(shape))
        total += each * count
        lines.append(f"  {name:<12} {' x '.join(map(str, shape)):<14} {_bytes(each)} an image")
    lines.append(f"  {count} images: {_bytes(total)} of float32; as much again while it is written")
    return "\n".join(lines)


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


@contextlib.contextmanager
def extracted(
    network: saved_run.TrainedModel,
    layers: Mapping[str, str],
    stimuli: Stimuli,
    output: str,
    pooling: str = "none",
    batch_size: int = 32,
) -> Iterator[Activations]:
    """Yields the activations of all stimuli for the body to write, then removes temporary files.

    Args:
      network: from `saved_run.open_model`.
      layers: name to give -> layer, from `layer_names.find_layers`.
      stimuli: the images.
      output: the file that the body will write; OUTPUT.partial is made beside it, and removed only
        when the body ends well.
      pooling: "avg" or "max" over the two axes of maps, "none" for whole maps.
      batch_size: images at a time.

    Raises:
      ValueError: another pooling, no image that can be read, or another process at the same output.
      OSError: the disk is too small or cannot be written.
    """
    if pooling not in POOLINGS:
        raise ValueError(f"pooling is {pooling!r}: expected one of {', '.join(POOLINGS)}.")
    partial = f"{output}.partial"
    per_image = shapes(network, layers, pooling)
    os.makedirs(partial, exist_ok=True)
    with _held(partial):
        work = {
            "network": files.fingerprint(network.path).sha256,
            "stimuli": stimuli.identity(),
            "layers": dict(layers),
            "pooling": pooling,
            "batch_size": batch_size,
        }
        state = _state(partial, work)
        count = len(stimuli.names)
        if state["end"]:
            print(f"Going on after {state['end']} of {count} images.", file=sys.stderr)
        else:
            _require_space(partial, per_image, count)
        paths = {name: os.path.join(partial, f"{n}.npy") for n, name in enumerate(layers)}
        arrays = {
            name: np.lib.format.open_memmap(
                path, "r+" if state["end"] else "w+", np.dtype("<f4"), (count, *per_image[name])
            )
            for name, path in paths.items()
        }
        _extract(network, layers, stimuli, pooling, batch_size, arrays, partial, state)
        kept = state["kept"]
        if not kept:
            raise ValueError(
                f"None of the {count} images can be read: {next(iter(state['failed'].values()))}"
            )
        yield Activations(
            {name: array[: len(kept)] for name, array in arrays.items()},
            tuple(stimuli.names[n] for n in kept),
            None if stimuli.labels is None else stimuli.labels[kept],
            {stimuli.names[int(n)]: reason for n, reason in state["failed"].items()},
        )
    shutil.rmtree(partial)


def activation_batches(
    network: saved_run.TrainedModel,
    layers: Mapping[str, str],
    stimuli: Stimuli,
    pooling: str = "none",
    batch_size: int = 32,
    start: int = 0,
) -> Iterator[tuple[Any, dict[str, np.ndarray]]]:
    """Yields (`stimuli.Batch`, name -> float32 (b, ...)) in the order of the stimuli."""
    import keras

    outputs = [network.model.get_layer(layer).output for layer in layers.values()]
    part = keras.Model(network.model.inputs, outputs)

    @tf.function
    def call(images):
        found = tf.nest.flatten(part([tf.cast(images, tf.float32)], training=False))
        return [tf.cast(_pooled(one, pooling), tf.float32) for one in found]

    for batch in stimuli.batches(start, batch_size):
        rows: list = call(batch.images) if len(batch.positions) else []
        yield batch, {name: row.numpy() for name, row in zip(layers, rows, strict=False)}


def _pooled(output, pooling):
    if pooling == "none" or output.shape.rank != 4:
        return output
    return (tf.reduce_mean if pooling == "avg" else tf.reduce_max)(output, (1, 2))


def _extract(network, layers, stimuli, pooling, batch_size, arrays, partial, state) -> None:
    from alexnet_tf.progress import tqdm

    count = len(stimuli.names)
    with tqdm(total=count, initial=state["end"], unit="image", disable=None) as progress:
        for batch, rows in activation_batches(
            network, layers, stimuli, pooling, batch_size, state["end"]
        ):
            first = len(state["kept"])
            for name, row in rows.items():
                arrays[name][first : first + len(row)] = row
                arrays[name].flush()
            state["kept"] += [int(position) for position in batch.positions]
            state["failed"] |= {str(n): reason for n, reason in batch.failed.items()}
            progress.update(batch.end - state["end"])
            state["end"] = batch.end
            # After the rows: what the state counts is on the disk.
            files.write_json(os.path.join(partial, _STATE), state)
    if state["end"] != count:
        raise ValueError(
            f"The images ended after {state['end']} of {count}: the data set is truncated; run "
            "`python -m data_prep.verify`."
        )


def _state(partial: str, work: dict) -> dict:
    """How far an earlier extraction of the same work got; the beginning if there is none."""
    with contextlib.suppress(OSError, ValueError):
        with open(os.path.join(partial, _STATE), encoding="utf-8") as file:
            state = json.load(file)
        if state.get("work") == work:
            return state
    return {"work": work, "end": 0, "kept": [], "failed": {}}


def _require_space(partial: str, per_image: Mapping[str, tuple[int, ...]], count: int) -> None:
    needed = 2 * sum(4 * count * int(np.prod(shape)) for shape in per_image.values())
    free = shutil.disk_usage(partial).free
    if needed > free:
        os.rmdir(partial) if not os.listdir(partial) else None
        raise ValueError(
            f"The activations take {_bytes(needed)} with the copy that is made at the end, but "
            f"{_bytes(free)} are free: choose fewer layers or images, --pooling=avg, or another "
            "disk."
        )


@contextlib.contextmanager
def _held(partial: str) -> Iterator[None]:
    """Keeps other processes out of the directory; the hold ends with the process."""
    import fcntl

    descriptor = os.open(partial, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ValueError(
                f"{partial} is being written by another process: wait for it, or choose another "
                "--output."
            ) from None
        yield
    finally:
        os.close(descriptor)
