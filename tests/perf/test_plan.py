"""The plan of a step on many GPUs: the simulation is what closed forms say where there are any."""

import dataclasses
import json
import math
import pathlib
import re

import numpy as np
import pytest

from alexnet_tf import benchmark, models
from alexnet_tf.perf import events, hardware, plan, schemes
from alexnet_tf.perf.events import Task
from alexnet_tf.perf.hardware import Link
from alexnet_tf.perf.schemes import Cluster, Layer

DOCUMENT = pathlib.Path(__file__).parents[2] / "docs" / "parallelism.md"

# Two convolutions and two dense layers; seconds of a batch of 10 images.
LAYERS = [
    Layer("conv1", 100, 50, 40, False, 1.0, 1.0),
    Layer("conv2", 200, 40, 30, False, 2.0, 4.0),
    Layer("fc3", 3000, 30, 100, True, 0.5, 1.0),
    Layer("fc4", 1000, 100, 10, True, 0.25, 0.5),
]
COMPUTED = 3.75 + 6.5
UPDATE = 0.125
LINK, NETWORK = Link(1000.0, 0.01, 0.05), Link(250.0, 0.03, 0.05)
FREE = Link(math.inf)
LAYOUTS = [(1, 1), (1, 2), (1, 8), (4, 1), (2, 8), (8, 2)]


def _end(tasks):
    return max(end for _, end in events.simulate(tasks).values())


def _sent(tasks, resource):
    return sum(task.sent for task in tasks if task.resource == resource)


def test_tasks_wait_for_each_other_and_take_turns():
    times = events.simulate(
        [
            Task("a", "gpu", 2.0),
            Task("send a", "link", 5.0, ("a",)),
            Task("b", "gpu", 1.0, ("a",)),
            Task("send b", "link", 1.0, ("b",)),
            Task("c", "gpu", 1.0, ("b",)),
            Task("end", "gpu", 0.5, ("send a", "send b", "c")),
        ]
    )
    assert times == {
        "a": (0, 2),
        "send a": (2, 7),
        "b": (2, 3),
        "c": (3, 4),
        "send b": (7, 8),
        "end": (8, 8.5),
    }


def test_who_waited_longest_is_next():
    tasks = [Task("busy", "link", 9.0), Task("first", "gpu", 1.0), Task("second", "gpu", 1.0)]
    tasks += [Task("late", "link", 1.0, ("second",)), Task("early", "link", 1.0, ("first",))]
    times = events.simulate(tasks)
    assert times["early"] == (9, 10) and times["late"] == (10, 11)


def test_tasks_that_can_never_begin_are_named():
    circle = [Task("a", "gpu", 1.0, ("b",)), Task("b", "gpu", 1.0, ("a",)), Task("c", "gpu", 1.0)]
    with pytest.raises(ValueError, match="never begin: a, b"):
        events.simulate(circle)
    with pytest.raises(ValueError, match="never begin: a"):
        events.simulate([Task("a", "gpu", 1.0, ("nobody",))])


def _ring_all_reduce(values):
    """Sums (n, n, ...) pieces of n members around a ring; (sums, pieces that each member sent)."""
    n, held, sent = len(values), values.copy(), np.zeros(len(values), int)
    for step in range(2 * (n - 1)):
        before = held.copy()
        for member in range(n):
            piece = (member - step) % n
            arrived = before[member, piece]
            target = (member + 1) % n
            # First the sums grow on their way, then they are handed on.
            held[target, piece] = arrived + before[target, piece] * (step < n - 1)
            sent[member] += 1
    return held, sent


@pytest.mark.parametrize("n", [2, 3, 8])
def test_a_ring_sends_what_one_that_is_carried_out_sends(n):
    values = np.random.default_rng(n).integers(0, 100, (n, n, 5))
    held, sent = _ring_all_reduce(values)
    np.testing.assert_array_equal(held, np.broadcast_to(values.sum(axis=0), held.shape))
    size = 1000.0
    (phase,) = schemes.all_reduce(size, Cluster(1, n, LINK, NETWORK))
    assert [phase.sent] * n == pytest.approx(list(sent * size / n))
    assert phase.seconds == pytest.approx(0.05 + sent[0] * 0.01 + phase.sent / 1000)


def test_between_machines_each_gpu_sends_its_part_of_the_sum():
    phases = schemes.all_reduce(1600.0, Cluster(4, 8, LINK, NETWORK))
    assert [(phase.resource, phase.sent) for phase in phases] == [
        ("link", 1400.0),  # 7/8: each GPU has an eighth of its machine's sum
        ("network", 2400.0),  # 2 * 3/4
        ("link", 1400.0),
    ]
    assert phases[0].seconds == pytest.approx(0.05 + 7 * 0.01 + 1.4)
    assert phases[1].seconds == pytest.approx(0.05 + 6 * 0.03 + 2400 / 250)
    assert schemes.all_reduce(1600.0, Cluster(1, 1, LINK, NETWORK)) == []


@pytest.mark.parametrize("limit", [100.0, 1234.0, 4000.0, 1e9, math.inf])
def test_buckets_hold_all_gradients_last_layer_first(limit):
    cut = schemes.buckets(LAYERS, 4, limit)
    assert sum(size for _, size in cut) == pytest.approx(4 * 4300)
    assert all(size == limit for _, size in cut[:-1]) and 0 < cut[-1][1] <= limit
    names = [layer.name for layer in LAYERS[::-1]]
    places = [names.index(name) for name, _ in cut]
    assert places == sorted(places) and cut[-1][0] == "conv1"
    # A piece never goes before the gradients that it holds are there.
    ready = np.cumsum([4 * layer.parameters for layer in LAYERS[::-1]])
    ends = np.cumsum([size for _, size in cut])
    assert all(ready[place] >= end for place, end in zip(places, ends, strict=True))


@pytest.mark.parametrize("machines, gpus", LAYOUTS)
def test_without_overlap_times_add_up(machines, gpus):
    cluster = Cluster(machines, gpus, LINK, NETWORK)
    tasks = schemes.data_parallel(LAYERS, UPDATE, cluster, 4, math.inf)
    size = 4 * 4300
    within = (gpus > 1) * (0.05 + (gpus - 1) * (0.01 + size / gpus / 1000))
    between = 2 * (machines - 1) * (0.03 + size / machines / 250) + 0.05 * (machines > 1)
    sums = 2 * within + between
    if machines == 1:  # one collective instead of two
        sums -= 0.05 * (gpus > 1)
    assert _end(tasks) == pytest.approx(COMPUTED + sums + UPDATE)


@pytest.mark.parametrize("machines, gpus", LAYOUTS)
@pytest.mark.parametrize("limit", [500.0, math.inf])
def test_where_sending_takes_no_time_a_step_takes_the_step(machines, gpus, limit):
    cluster = Cluster(machines, gpus, FREE, FREE)
    tasks = schemes.data_parallel(LAYERS, UPDATE, cluster, 4, limit)
    assert _end(tasks) == pytest.approx(COMPUTED + UPDATE)
    for turns in (1, gpus):
        tasks = schemes.weird_trick(LAYERS, UPDATE, cluster, 4, limit, 10, turns)
        # Each GPU changes all weights of the convolutions and its share of the others.
        kept = (300 + 4000 / gpus) / 4300
        assert _end(tasks) == pytest.approx(COMPUTED + kept * UPDATE)


@pytest.mark.parametrize("machines, gpus", LAYOUTS)
@pytest.mark.parametrize("limit", [500.0, 3000.0, math.inf])
@pytest.mark.parametrize("value_bytes", [2, 4])
def test_no_byte_is_lost_or_sent_twice(machines, gpus, limit, value_bytes):
    cluster = Cluster(machines, gpus, LINK, NETWORK)
    tasks = schemes.data_parallel(LAYERS, UPDATE, cluster, value_bytes, limit)
    assert _sent(tasks, "link") == pytest.approx(2 * (gpus - 1) / gpus * 4300 * value_bytes)
    network = 2 * (machines - 1) / machines * 4300 * value_bytes
    assert _sent(tasks, "network") == pytest.approx(network)
    for turns in (1, gpus):
        tasks = schemes.weird_trick(LAYERS, UPDATE, cluster, value_bytes, limit, 10, turns)
        # 30 + 100 values per image come in, their gradients go back, 10 logits are shown to all.
        exchanged = (gpus - 1) * 10 * (2 * (30 + 100) + 10) * value_bytes
        sums = 2 * (gpus - 1) / gpus * 300 * value_bytes
        assert _sent(tasks, "link") == pytest.approx(exchanged + sums)
        assert _sent(tasks, "network") == pytest.approx(network)


def test_overlap_by_hand():
    """Two pieces: the dense layers' gradients travel while the convolutions compute theirs."""
    link = Link(8000.0)  # two GPUs send as many bytes as there are: 16,000 in 2 s, then 1,200
    tasks = schemes.data_parallel(LAYERS, UPDATE, Cluster(1, 2, link, NETWORK), 4, 4 * 4000)
    times = events.simulate(tasks)
    # Forward until 3.75, fc4 until 4.25, fc3 until 5.25, conv2 until 9.25, conv1 until 10.25.
    assert times["backward fc3"] == pytest.approx((4.25, 5.25))
    assert times["sum 0.0"] == pytest.approx((5.25, 7.25))
    assert times["sum 1.0"] == pytest.approx((10.25, 10.4))
    assert times["update"] == pytest.approx((10.4, 10.4 + UPDATE))


@pytest.mark.parametrize("machines, gpus", [(1, 2), (1, 8), (4, 1), (2, 8)])
def test_overlap_is_between_the_longer_part_and_the_sum(machines, gpus):
    # No latency, so that pieces cost no more than the whole.
    cluster = Cluster(machines, gpus, Link(1000.0), Link(250.0))
    tasks = schemes.data_parallel(LAYERS, UPDATE, cluster, 4, 500.0)
    whole = _end(schemes.data_parallel(LAYERS, UPDATE, cluster, 4, math.inf))
    busiest = max(
        sum(task.seconds for task in tasks if task.resource == resource)
        for resource in ("link", "network")
    )
    # Nothing is sent before the first gradient is there, after 3.75 + 0.5 s.
    assert max(COMPUTED, 4.25 + busiest) + UPDATE <= _end(tasks) < whole


def test_the_split_pays_up_to_the_batch_at_which_both_send_as_much():
    dense = [layer for layer in LAYERS if layer.dense]
    images = plan.split_pays_below(dense)
    cluster = Cluster(1, 4, LINK, NETWORK)
    split = schemes.weird_trick(LAYERS, UPDATE, cluster, 4, math.inf, images / 4, 1)
    summed = schemes.data_parallel(LAYERS, UPDATE, cluster, 4, math.inf)
    assert _sent(split, "link") == pytest.approx(_sent(summed, "link"))


def test_layers_are_those_of_the_network_and_share_the_measured_step():
    settings = plan.PlanSettings()
    step = plan.step_seconds(settings)
    assert step == pytest.approx(512 / 22_790)
    layers = plan.layers_of(models.build_model("alexnet"), settings, step)
    convolutions = [f"conv{n}" for n in range(1, 6)]
    assert [layer.name for layer in layers] == [*convolutions, "fc6", "fc7", "fc8"]
    assert [layer.name for layer in layers if not layer.dense] == convolutions
    assert sum(layer.parameters for layer in layers) == 60_965_224
    dense = layers[5:]
    assert [(layer.inputs, layer.outputs) for layer in dense] == [
        (9216, 4096),
        (4096, 4096),
        (4096, 1000),
    ]
    parts = [sum(getattr(layer, way) for layer in layers) for way in ("forward", "backward")]
    assert [*parts, plan.update_seconds(step)] == pytest.approx(
        [step * part / 22.5 for part in (5.9, 16.1, 0.5)]
    )
    # Few weights and most of the arithmetic are in the convolutions.
    assert sum(layer.backward for layer in dense) < 0.1 * parts[1]
    assert plan.split_pays_below(dense) == pytest.approx(
        2 * 58_631_144 / (2 * (9216 + 4096 + 4096) + 1000)
    )


def test_weights_that_are_not_trained_have_no_gradients():
    settings = plan.PlanSettings(model="lenet5", step_ms=2.0)
    network = models.build_model("lenet5")
    layers = plan.layers_of(network, settings, 0.002)
    trained = sum(math.prod(weight.shape) for weight in network.trainable_weights)
    assert sum(layer.parameters for layer in layers) == trained < network.count_params()


def test_input_that_feeds_a_rate():
    settings = plan.PlanSettings(image_cpu_ms=(0.5, 0.25), jpeg_kb=20.0, worker_cores=16)
    jpeg, raw = plan.feeding(100_000.0, 2, 224 * 224 * 3, settings)
    assert (jpeg["encoding"], raw["encoding"]) == ("jpeg", "raw")
    assert (jpeg["cores"], raw["cores"]) == (25.0, 12.5)  # of each of two machines
    assert jpeg["disk_bytes_per_second"] == pytest.approx(1e9)
    assert raw["disk_bytes_per_second"] == pytest.approx(50_000 * 256 * 256 * 3)
    assert (jpeg["service_workers"], raw["service_workers"]) == (4, 2)  # 50 and 25 cores in all
    assert jpeg["service_gbit"] == pytest.approx(50_000 * 150_528 * 8 / 1e9)


def test_a_network_of_100_gbit_brings_12_gb_a_second():
    assert hardware.network(100).bytes_per_second == pytest.approx(12e9)


def _plan(tmp_path, *flags):
    output = tmp_path / "plan.json"
    assert benchmark.main(["plan", *flags, f"--output={output}"]) == 0
    return json.loads(output.read_text())


def test_the_command_plans_every_combination(tmp_path, capsys):
    flags = ["--gpus=1,2", "--machines=1,2", "--link=nvlink,pcie", "--network_gbit=25,400"]
    result = _plan(tmp_path, *flags, "--step_ms=6", "--batch_size=128")
    assert result["benchmark"] == "plan" and result["step_seconds"] == 0.006
    # The command's defaults are the library's.
    changed = {"gpus": [1, 2], "machines": [1, 2], "links": ["nvlink", "pcie"]}
    changed |= {"network_gbit": [25, 400], "step_ms": 6.0, "batch_size": 128}
    default = json.loads(json.dumps(dataclasses.asdict(plan.PlanSettings())))
    assert result["settings"] == {**default, **changed}
    places = [
        (row["machines"], row["gpus"], row["link"], row["network_gbit"]) for row in result["rows"]
    ]
    alone = [(1, 1, None, None), (1, 2, "nvlink", None), (1, 2, "pcie", None)]
    several = [(2, 1, None, gbit) for gbit in (25, 400)]
    several += [(2, 2, link, gbit) for link in ("nvlink", "pcie") for gbit in (25, 400)]
    assert list(dict.fromkeys(places)) == [*alone, *several]
    assert [places.count(place) for place in alone] == [3, 5, 5]
    for row in result["rows"]:
        images = row["machines"] * row["gpus"] * 128
        assert row["images_per_second"] == pytest.approx(images / row["step_seconds"])
        assert row["efficiency"] == pytest.approx(0.006 / row["step_seconds"])
        if row["scheme"] == "sum after backward":
            assert row["step_seconds"] == pytest.approx(0.006 + row["sending_seconds"])
            gradients = 4 * result["parameters"]
            assert row["link_bytes"] == pytest.approx(gradients * 2 * (1 - 1 / row["gpus"]))
            assert row["network_bytes"] == pytest.approx(gradients * 2 * (1 - 1 / row["machines"]))
    text = capsys.readouterr().out
    assert "6.0 ms a step on one GPU" in text and "96% of them in fc6 to fc8" in text


def test_the_document_shows_what_the_command_prints(capsys):
    document = DOCUMENT.read_text(encoding="utf-8")
    command = "python -m alexnet_tf.benchmark plan --gpus=8 --network_gbit=100"
    assert f"    {command}\n" in document
    assert benchmark.main(command.split()[3:]) == 0
    for line in capsys.readouterr().out.splitlines():
        assert f"    {line.rstrip()}\n" in document, line


def test_the_documents_table_is_the_plans():
    """Rows such as "| 1 x 8 | NVLink | - | 23.7 | ..." of two steps by four schemes each."""
    row = re.compile(r"^\| (\d+) x (\d+) \| (\w+) \| ([\d-]+) \| ([\d. |]+) \|$", re.MULTILINE)
    found = row.findall(DOCUMENT.read_text(encoding="utf-8"))
    assert len(found) == 10
    plans = []
    for size, precision in ((512, "float32"), (128, "mixed_bfloat16")):
        settings = plan.PlanSettings(batch_size=size, precision=precision)
        changes = {"gpus": (2, 8), "links": ("nvlink", "pcie"), "network_gbit": (25, 100, 400)}
        plans.append(plan.make_plan(dataclasses.replace(settings, **changes))["rows"])
    for machines, gpus, link, gbit, milliseconds in found:
        place = (int(machines), int(gpus), link.lower(), None if gbit == "-" else int(gbit))
        expected = [
            f"{1e3 * row['step_seconds']:.1f}"
            for rows in plans
            for row in rows
            if (row["machines"], row["gpus"], row["link"], row["network_gbit"]) == place
            and (row["scheme"], row["sent_as"]) != ("one weird trick", "float32")
        ]
        assert milliseconds.split(" | ") == expected, place
