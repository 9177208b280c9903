"""Estimates time and required input of a training step on many GPUs and machines.

The estimate uses the measured step of one GPU, the network's layers and the rates in `hardware`.
The cost of communication between GPUs is simulated (`schemes`, `events`).
"""

import dataclasses
import itertools
import math

from alexnet_tf.perf import events, hardware, schemes

VALUE_BYTES = {"float32": 4, "bfloat16": 2}


@dataclasses.dataclass(frozen=True)
class PlanSettings:
    """What to plan: every combination of machines, GPUs, links and networks.

    Attributes:
      model: a variant.
      batch_size: images per GPU.
      precision: a Keras policy.
      step_ms: measured milliseconds of one GPU's training step; None for the value in `hardware`.
      machines: numbers of machines.
      gpus: numbers of GPUs per machine.
      links: links between the GPUs of a machine, see `hardware.LINKS`.
      network_gbit: Gbit/s from a machine to the others, in each direction.
      image_cpu_ms: core milliseconds per image from JPEG and from raw records.
      jpeg_kb: kilobytes per JPEG record.
      worker_cores: cores of a machine that runs a tf.data service worker.
    """

    model: str = "alexnet"
    batch_size: int = 512
    precision: str = "float32"
    step_ms: float | None = None
    machines: tuple[int, ...] = (1, 2, 8)
    gpus: tuple[int, ...] = (8,)
    links: tuple[str, ...] = ("nvlink",)
    network_gbit: tuple[int, ...] = (100,)
    image_cpu_ms: tuple[float, float] = tuple(hardware.IMAGE_CPU_MS.values())
    jpeg_kb: float = hardware.JPEG_KB
    worker_cores: int = 16


@dataclasses.dataclass(frozen=True)
class Scheme:
    """How the GPUs share a step.

    Attributes:
      name: a readable name.
      sent_as: dtype in which gradients and activations are sent.
      limit: bytes of gradients per collective; infinite for all at once after the backward pass.
      split: whether dense layers are split by neurons; the faster of the paper's schemes a and c is
        used.
    """

    name: str
    sent_as: str
    limit: float = hardware.BUCKET_BYTES
    split: bool = False


SCHEMES = (
    # As in --strategy=mirrored and multi_worker: TensorFlow packs all gradients into one tensor.
    Scheme("sum after backward", "float32", math.inf),
    Scheme("sum during backward", "float32"),
    Scheme("sum during backward", "bfloat16"),
    Scheme("one weird trick", "float32", split=True),
    Scheme("one weird trick", "bfloat16", split=True),
)


def make_plan(settings: PlanSettings) -> dict:
    """Estimates the time of a step with each scheme, and the input that it needs.

    Returns:
      {"settings", "step_seconds": of one GPU, "parameters", "dense_parameters", "dense_layers":
      names, "split_pays_below": total images of a machine's GPUs up to which splitting dense
      layers sends fewer bytes than summing their gradients, "rows": one per combination and
      scheme, "inputs": one per combination and encoding of records}.

    Raises:
      ValueError: unknown model, or no measured step of it in this precision.
    """
    from alexnet_tf import models
    from alexnet_tf.models import catalog

    variant = catalog.find_variant(settings.model)
    step = step_seconds(settings)
    layers = layers_of(models.build_model(settings.model), settings, step)
    rows, inputs = [], []
    for layout in _layouts(settings):
        found = [_row(layout, scheme, layers, settings, step) for scheme in SCHEMES]
        own = [row for row in found if row]
        rows += own
        best = max(row["images_per_second"] for row in own)
        crop = variant.crop_size**2 * variant.channels
        inputs += [{**layout, **need} for need in feeding(best, layout["machines"], crop, settings)]
    dense = [layer for layer in layers if layer.dense]
    return {
        "settings": dataclasses.asdict(settings),
        "step_seconds": step,
        "parameters": sum(layer.parameters for layer in layers),
        "dense_parameters": sum(layer.parameters for layer in dense),
        "dense_layers": [layer.name for layer in dense],
        "split_pays_below": split_pays_below(dense),
        "rows": rows,
        "inputs": inputs,
    }


def step_seconds(settings: PlanSettings) -> float:
    """Seconds of a step on one GPU, from the settings or else the measured rate."""
    if settings.step_ms is not None:
        return settings.step_ms / 1e3
    measured = hardware.STEP_RATES.get((settings.model, settings.precision))
    if measured is None:
        known = ", ".join(f"{model} in {precision}" for model, precision in hardware.STEP_RATES)
        raise ValueError(
            f"There is no measured step of {settings.model} in {settings.precision}, only of "
            f"{known}: give --step_ms, from the images/s that `benchmark step` measures."
        )
    return settings.batch_size / measured


def update_seconds(step: float) -> float:
    """Seconds of the weight update in a step of one GPU."""
    return step * hardware.UPDATE / (hardware.FORWARD + hardware.BACKWARD + hardware.UPDATE)


def layers_of(network, settings: PlanSettings, step: float) -> list[schemes.Layer]:
    """A network's layers with weights and their shares of the measured step time.

    A layer's share follows the roofline model: the greater of its operations at the rate of matrix
    products and its values at the rate of memory. Gradients of weights and of inputs cost the same
    again each, but gradients of the pixels are not needed.

    Args:
      network: a built chain of layers.
      settings: batch size and precision.
      step: seconds of a step on one GPU.
    """
    from alexnet_tf.analysis.summary import layer_table

    table = layer_table(network)
    trained = {
        layer.name: sum(math.prod(weight.shape) for weight in layer.trainable_weights)
        for layer in network.layers
    }
    value_bytes = 4 if settings.precision == "float32" else 2
    rate = hardware.MATRIX_RATE[settings.precision]
    found: list[dict] = []
    leading = 0.0
    for before, row in itertools.pairwise(table):
        inputs, outputs = math.prod(before.shape), math.prod(row.shape)
        values = settings.batch_size * (inputs + outputs) + row.parameters
        seconds = max(
            2 * settings.batch_size * row.multiply_adds / rate,
            value_bytes * values / hardware.MEMORY_RATE,
        )
        if trained[row.name]:
            found.append(
                {
                    "name": row.name,
                    "parameters": trained[row.name],
                    "inputs": inputs,
                    "dense": len(row.shape) == 1,
                    "forward": seconds,
                    "backward": 2 * seconds if found else seconds,
                }
            )
        elif found:
            found[-1]["forward"] += seconds
            found[-1]["backward"] += seconds
        else:
            leading += seconds
        if found:
            found[-1]["outputs"] = outputs
    found[0]["forward"] += leading
    computed = step - update_seconds(step)
    parts = {"forward": hardware.FORWARD, "backward": hardware.BACKWARD}
    for way, part in parts.items():
        scale = computed * part / sum(parts.values()) / sum(layer[way] for layer in found)
        for layer in found:
            layer[way] *= scale
    return [schemes.Layer(**layer) for layer in found]


def split_pays_below(dense: list[schemes.Layer]) -> float:
    """Total images of n GPUs up to which splitting dense layers sends fewer bytes.

    Each GPU sends (n - 1) / n of the layers' inputs (forward, and backward as gradients) and of the
    logits; summing the gradients sends 2 (n - 1) / n times the weights.
    """
    each_image = 2 * sum(layer.inputs for layer in dense) + dense[-1].outputs
    return 2 * sum(layer.parameters for layer in dense) / each_image


def feeding(rate: float, machines: int, crop_values: int, settings: PlanSettings) -> list[dict]:
    """Resources that supply `rate` images per second, from JPEG and from raw records.

    Returns:
      Per encoding: {"encoding", "images_per_second", "cores" and "disk_bytes_per_second" per
      machine if each reads its own share, "service_workers": total workers that could do so
      instead, and "service_gbit": what each machine then receives as uint8 crops}.
    """
    needs = []
    kilobytes = {"jpeg": settings.jpeg_kb, "raw": hardware.RAW_KB}
    for (encoding, size), cpu_ms in zip(kilobytes.items(), settings.image_cpu_ms, strict=True):
        cores = rate * cpu_ms / 1e3
        needs.append(
            {
                "encoding": encoding,
                "images_per_second": rate,
                "cores": cores / machines,
                "disk_bytes_per_second": rate * size * 1e3 / machines,
                "service_workers": math.ceil(cores / settings.worker_cores),
                "service_gbit": rate * crop_values * 8 / 1e9 / machines,
            }
        )
    return needs


def _layouts(settings: PlanSettings) -> list[dict]:
    """All combinations; a single machine has no network, a single GPU no link."""
    found = []
    for machines, gpus, link, gbit in itertools.product(
        settings.machines, settings.gpus, settings.links, settings.network_gbit
    ):
        layout = {
            "machines": machines,
            "gpus": gpus,
            "link": link if gpus > 1 else None,
            "network_gbit": gbit if machines > 1 else None,
        }
        if layout not in found:
            found.append(layout)
    return found


def _row(layout: dict, scheme: Scheme, layers: list, settings: PlanSettings, step: float):
    """One scheme on one layout; None for a split on machines with a single GPU."""
    if scheme.split and layout["gpus"] == 1:
        return None
    link = hardware.LINKS.get(layout["link"], hardware.Link(math.inf))
    network = hardware.network(layout["network_gbit"] or math.inf)
    cluster = schemes.Cluster(layout["machines"], layout["gpus"], link, network)
    common = (layers, update_seconds(step), cluster, VALUE_BYTES[scheme.sent_as], scheme.limit)
    if scheme.split:
        size = settings.batch_size
        forms = [schemes.weird_trick(*common, size, turns) for turns in (1, cluster.gpus)]
    else:
        forms = [schemes.data_parallel(*common)]
    seconds, tasks = min(((_end(tasks), tasks) for tasks in forms), key=lambda form: form[0])
    rate = layout["machines"] * layout["gpus"] * settings.batch_size / seconds
    sending = [task for task in tasks if task.sent]

    def sent(resource: str) -> float:
        return sum(task.sent for task in sending if task.resource == resource)

    return {
        **layout,
        "scheme": scheme.name,
        "sent_as": scheme.sent_as,
        "link_bytes": sent("link"),
        "network_bytes": sent("network"),
        "sending_seconds": sum(task.seconds for task in sending),
        "step_seconds": seconds,
        "images_per_second": rate,
        "efficiency": step / seconds,
    }


def _end(tasks: list) -> float:
    return max(end for _, end in events.simulate(tasks).values())
