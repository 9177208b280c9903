"""Two halves on two devices infer and train as the whole network.

The networks are variants with an eighth of the kernels, on images of 67 pixels, AlexNet's smallest.
"""

import collections
import dataclasses
import functools
import json
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.analysis import summary
from alexnet_tf.models import builder, catalog
from alexnet_tf.models.builder import dtype_policy
from alexnet_tf.models.spec import Conv, Dense
from alexnet_tf.models.towers import crossing_values, stages
from alexnet_tf.perf.placement import placement
from alexnet_tf.training import distributed_input, distribution
from alexnet_tf.training.optimizers import PaperSGD
from alexnet_tf.training.step import ReplicaSteps
from alexnet_tf.training.towers import Towers

KIND = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
DEVICES = (f"{KIND}:0", f"{KIND}:1")


def narrow(name):
    """A variant with an eighth of its kernels and a 64th of its neurons."""

    def thin(entry):
        if isinstance(entry, Conv):
            return dataclasses.replace(entry, filters=entry.filters // 8)
        if isinstance(entry, Dense) and entry.units:
            return dataclasses.replace(entry, units=entry.units // 64)
        return entry

    variant = catalog.find_variant(name)
    return dataclasses.replace(
        variant,
        features=tuple(map(thin, variant.features)),
        top=tuple(map(thin, variant.top)),
    )


def whole(variant, rate=0.01):
    """A network in one piece and its optimiser, always the same."""
    keras.utils.set_random_seed(1)
    size = max(67, variant.smallest_input())
    model = builder.build(
        variant, input_shape=(size, size, 3), classes=10, initializer="he", dropout_seed=3
    )
    optimizer = PaperSGD(rate)
    optimizer.build(model.trainable_variables)
    return model, optimizer


def batch(model, seed, count=8):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, *model.input_shape[1:]), np.uint8)
    return tf.constant(images), tf.constant(rng.integers(0, 10, count)), {}


def dealt(strategy, *batches):
    """The batches as a run's feed deals them to the strategy's devices."""
    data = [tf.data.Dataset.from_tensors(one) for one in batches]
    return list(
        distributed_input.dealt(
            strategy, lambda context: functools.reduce(lambda a, b: a.concatenate(b), data)
        )
    )


def cast(images, draws):
    return tf.cast(images, tf.float32)


NOTHING = tf.constant(0.0)


@pytest.mark.parametrize(
    "name",
    [
        "alexnet_145",
        "alexnet_145_no_cross",
        pytest.param("alexnet_145_no_norm", marks=pytest.mark.slow),
        pytest.param("alexnet_145_pool2", marks=pytest.mark.slow),
        pytest.param("alexnet_146", marks=pytest.mark.slow),
    ],
)
def test_two_halves_infer_and_train_as_the_whole_network(name):
    variant = narrow(name)
    halved, halved_optimizer = whole(variant)
    strategy = distribution.make_strategy("towers", 2)
    towers = Towers(strategy, variant, halved, halved_optimizer, cast)
    one, optimizer = whole(variant)
    start = [v.numpy() for v in one.weights]
    images = tf.cast(batch(one, seed=0)[0], tf.float32)
    expected = builder.logits_model(one)(images).numpy()
    assert np.ptp(expected, axis=0).min() > 0  # the answers depend on the images
    np.testing.assert_allclose(towers.logits(images), expected, rtol=1e-5, atol=1e-6)

    # Dropout, momentum and decay are on.
    steps = ReplicaSteps(tf.distribute.get_strategy(), one, optimizer, 8, cast)
    batches = [batch(one, number) for number in range(3)]
    for plain, copied in zip(batches, dealt(strategy, *batches), strict=True):
        sums, found = steps.step(plain, NOTHING), towers.step(copied, NOTHING)
        for name in sums:
            np.testing.assert_allclose(found[name], sums[name], rtol=1e-5)
    towers.gather()
    assert int(halved_optimizer.iterations) == 3
    for before, a, b in zip(start, one.weights, halved.weights, strict=True):
        moved, apart = np.asarray(a) - before, np.asarray(a) - np.asarray(b)
        assert np.linalg.norm(moved) > 0, a.path
        assert np.linalg.norm(apart) < 1e-3 * np.linalg.norm(moved), a.path
    for a, b in zip(optimizer.velocities, halved_optimizer.velocities, strict=True):
        assert np.linalg.norm(np.asarray(a) - np.asarray(b)) < 1e-3 * np.linalg.norm(a), a.path


@pytest.mark.skipif(KIND == "GPU", reason="counts the operations that a processor runs")
def test_work_is_split_and_only_the_papers_layers_transfer():
    variant = narrow("alexnet_145")
    model, optimizer = whole(variant)
    strategy = distribution.make_strategy("towers", 2)
    towers = Towers(strategy, variant, model, optimizer, cast)
    for section, device in (
        (towers.sections[0][0], DEVICES[0]),
        (towers.sections[0][1], DEVICES[1]),
    ):
        assert all(weight.value.device.endswith(device) for weight in section.weights)
    for own, device in zip(towers.optimizers, DEVICES, strict=True):
        assert all(velocity.value.device.endswith(device) for velocity in own.velocities)

    placed = placement(towers.step, dealt(strategy, batch(model, seed=0))[0], NOTHING)
    first, second = (collections.Counter(placed.operations[device]) for device in DEVICES)
    for kind in ("Conv2DBackpropFilter", "ReluGrad", "MaxPoolGrad", "AvgPoolGrad"):
        expected = {"Conv2DBackpropFilter": 5, "ReluGrad": 7, "MaxPoolGrad": 3, "AvgPoolGrad": 1}
        assert first[kind] == second[kind] == expected[kind], kind
    # conv2 to conv5: the gradient of the image is nobody's.
    assert first["Conv2DBackpropInput"] == second["Conv2DBackpropInput"] == 4
    # No collective: each tensor is handed over by itself.
    assert not [kind for kind in (*first, *second) if "Collective" in kind or "AllReduce" in kind]
    # Five layers, and two products with a band matrix (forward, backward) in each norm.
    assert first["Conv2D"] == second["Conv2D"] == 9
    # fc8's kernel and bias are the first device's alone.
    assert first["ResourceApplyKerasMomentum"] == 16
    assert second["ResourceApplyKerasMomentum"] == 14

    def crossed(source, target):
        return [
            (transfer.name, transfer.size)
            for transfer in placed.transfers
            if (transfer.source, transfer.target) == (source, target)
        ]

    values = crossing_values(variant, model)
    assert list(values) == ["pool2", "relu5", "drop6", "drop7"]
    bytes_of = {name: 8 * 4 * count // 2 for name, count in values.items()}
    bytes_of["drop7"] *= 2  # to the first device only, so not half of it
    for source, target in (DEVICES, DEVICES[::-1]):
        found = crossed(source, target)
        forward = {
            name.split("/")[1].removesuffix("_1"): size
            for name, size in found
            if not name.startswith("gradient_tape")
        }
        backward = sorted(size for name, size in found if name.startswith("gradient_tape"))
        read = {n: b for n, b in bytes_of.items() if (source, n) != (DEVICES[0], "drop7")}
        assert forward == read
        taught = [b for n, b in bytes_of.items() if (source, n) != (DEVICES[1], "drop7")]
        assert backward == sorted(taught)
    assert sum(transfer.size for transfer in placed.transfers) == 2 * 4 * 8 * sum(values.values())
    # Both ways after pool2, relu5 and drop6, one way after drop7; and the gradients.
    assert len(placed.transfers) == 2 * 7


def test_transfers_at_the_published_size():
    """By hand: 13x13x128 and 6x6x128 and 2048 each way, and 2048 to the device that has fc8."""
    model = builder.build(catalog.find_variant("alexnet_145"))
    values = 2 * (13 * 13 * 128 + 6 * 6 * 128 + 2048) + 2048
    # There and back as float32; weights and biases, there and back too.
    expected = {"towers": 100 * 2 * 4 * values, "mirrored": 2 * 4 * 60_965_224}
    assert summary.crossing_bytes(model, 100) == expected
    text = summary.crossing_text(model, 128)
    assert "60.03 MB: 468,992 bytes per image" in text and "487.72 MB" in text
    assert "up to 1,039 images" in text
    assert crossing_values(catalog.find_variant("alexnet_145"), model) == {
        "pool2": 2 * 13 * 13 * 128,
        "relu5": 2 * 6 * 6 * 128,
        "drop6": 2 * 2048,
        "drop7": 2048,
    }


@pytest.mark.parametrize(
    "name,reason",
    [
        ("alexnet", r"alexnet .*norm1 normalises across all maps.*use alexnet_145"),
        ("alexnet_145_half", r"alexnet_145_half .*norm1 normalises"),
        ("alexnet_owt", r"alexnet_owt .*has no columns.*use alexnet_145"),
        ("lenet5", r"lenet5 .*has no columns"),
    ],
)
def test_networks_without_two_columns_are_refused(name, reason):
    with pytest.raises(ValueError, match=reason):
        stages(catalog.find_variant(name))


@pytest.mark.slow
def test_mixed_precision_halves_the_transfers():
    variant, strategy = narrow("alexnet_145"), distribution.make_strategy("towers", 2)
    with dtype_policy("mixed_bfloat16"):
        model, optimizer = whole(variant)
    towers = Towers(strategy, variant, model, optimizer, cast)
    first, second = dealt(strategy, batch(model, seed=0), batch(model, seed=1))
    placed = placement(towers.step, first, NOTHING)
    moved = sum(transfer.size for transfer in placed.transfers)
    assert moved == 2 * 2 * 8 * sum(crossing_values(variant, model).values())
    towers.gather()  # `placement` trained a step
    steps = ReplicaSteps(tf.distribute.get_strategy(), model, optimizer, 8, cast)
    expected = steps.step(batch(model, 1), NOTHING)["loss"]
    np.testing.assert_allclose(towers.step(second, NOTHING)["loss"], expected, rtol=0.02)


@pytest.mark.slow
def test_commands_accept_a_network_trained_in_two_halves(photo_records, tmp_path, capsys):
    from alexnet_tf import analyze, evaluate, export, train

    workdir = str(tmp_path / "run")
    flags = [f"--data_dir={photo_records}", f"--workdir={workdir}", "--recipe=quickstart"]
    flags += ["--strategy=towers", "--epochs=1", "--crop_size=67", "--nodeterministic"]
    assert train.main([*flags, "--model=alexnet"]) == 2
    assert "norm1 normalises across all maps" in capsys.readouterr().err
    assert train.main([*flags, "--devices=3"]) == 2
    assert train.main([*flags, "--precision=mixed_float16"]) == 1
    assert "use --precision=float32 or mixed_bfloat16" in capsys.readouterr().err
    assert train.main(flags) == 0
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["recipe"]["model"] == "alexnet_145" and config["strategy"] == "TwoTowers"
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    output = str(tmp_path / "evaluation.json")
    assert (
        evaluate.main([f"--model={workdir}", f"--data_dir={photo_records}", f"--output={output}"])
        == 0
    )
    evaluated = json.loads(pathlib.Path(output).read_text())
    assert evaluated["top1_error"] == pytest.approx(results["validation_top1_error"])
    saved = str(tmp_path / "saved")
    assert export.main([f"--model={workdir}", f"--output={saved}"]) == 0
    capsys.readouterr()
    assert analyze.main(["summary", f"--workdir={workdir}", "--batch_size=1"]) == 0
    assert "step of 1 images" in capsys.readouterr().out
