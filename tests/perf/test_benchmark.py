"""The command `benchmark` measures what it says; numbers follow from the times that it keeps."""

import json
import os
import statistics

import numpy as np
import pytest

from alexnet_tf import benchmark, models
from alexnet_tf.perf import serve, steps, timing


def _run(tmp_path, *argv) -> dict:
    output = tmp_path / "result.json"
    assert benchmark.main([*argv, f"--output={output}"]) == 0
    return json.loads(output.read_text())


@pytest.mark.parametrize(
    "argv, code, words",
    [
        ([], 2, ["nothing", "step, input, train, serve, plan"]),
        (["stepp"], 2, ["stepp", "expected"]),
        (["step", "--clients=2"], 2, ["--clients", "step", "leave it out"]),
        (["serve", "--data_dir=x"], 2, ["--data_dir", "serve"]),
        (["step", "--batch_size=0"], 2, ["--batch_size=0", "positive"]),
        (["serve", "--clients=two"], 2, ["--clients=two", "positive"]),
        (["train", "--batch_size=1,2"], 2, ["--batch_size", "2 values", "one"]),
        (["step", "--precision=float64"], 2, ["float64", "mixed_bfloat16"]),
        (["train", "--strategy=tpu"], 2, ["tpu", "mirrored"]),
        (["step", "--runs=0"], 2, ["runs"]),
        (["plan", "--runs=3"], 2, ["--runs", "plan"]),
        (["plan", "--gpus=0"], 2, ["--gpus=0", "positive"]),
        (["plan", "--link=ethernet"], 2, ["ethernet", "nvlink, pcie"]),
        (["plan", "--step_ms=0"], 2, ["step_ms"]),
        (["plan", "--image_cpu_ms=1"], 2, ["--image_cpu_ms=1", "two numbers"]),
        (["plan", "--image_cpu_ms=1,fast"], 2, ["--image_cpu_ms=1,fast", "two numbers"]),
        (["plan", "--model=lenet5"], 1, ["lenet5", "--step_ms"]),
        (["plan", "--model=alexnot"], 1, ["alexnot", "alexnet_145"]),
        (["step", "--model=alexnot"], 1, ["alexnot", "alexnet_145"]),
        (
            ["step", "--model=lenet5", "--batch_size=3", "--strategy=mirrored"],
            1,
            ["3", "2 replicas"],
        ),
        (["input", "--data_dir=/no/such/place"], 1, ["/no/such/place"]),
        (
            ["serve", "--saved_model=/no/such/place"],
            1,
            ["/no/such/place", "saved_models/alexnet/1"],
        ),
    ],
)
def test_a_mistake_is_one_sentence(argv, code, words, capsys):
    assert benchmark.main(argv) == code
    error = capsys.readouterr().err
    said = [line for line in error.splitlines() if line.startswith("error: ")]
    assert len(said) == 1 and "Traceback" not in error
    assert all(word in said[0] for word in words), said


def test_forms_take_turns_and_rates_are_amounts_per_second():
    calls = []

    def form(name, each):
        def seconds(times):
            calls.append((name, times))
            return times * each

        return seconds

    forms = {
        "long": timing.Form(form("long", 2.0), 10),
        "short": timing.Form(form("short", 0.125), 3),
    }
    rates = timing.take_turns(forms, runs=2, at_least=0.5)
    assert rates == {"long": [5.0, 5.0], "short": [24.0, 24.0]}
    warm = [("long", 1), ("long", 1), ("short", 1), ("short", 1)]
    assert calls == warm + [("long", 1), ("short", 4)] * 2


def test_summaries_and_percentiles_are_those_of_numpy():
    values = list(np.random.default_rng(0).uniform(0.01, 0.5, 37))
    found = timing.summary(values)
    assert found["median"] == pytest.approx(np.median(values))
    assert found["spread"] == pytest.approx(np.ptp(values) / np.median(values))
    assert found["runs"] == values
    for name, value in serve.percentiles(values).items():
        assert value == pytest.approx(1e3 * np.percentile(values, int(name[1:3])))


def test_operations_of_a_step_are_those_of_the_layers():
    network = models.build_model("alexnet", input_shape=(67, 67, 3), classes=10)
    # Maps of 15, 7 and 3 pixels; kernels see half of the channels in conv2, conv4 and conv5.
    first = 15 * 15 * 96 * 11 * 11 * 3
    rest = 7 * 7 * 256 * 5 * 5 * 48 + 9 * 3 * 3 * (384 * 256 + 384 * 192 + 256 * 192)
    rest += 256 * 4096 + 4096 * 4096 + 4096 * 10
    # Forward, gradient of the weights, and gradient of the inputs but for the pixels.
    assert steps.training_operations(network) == 2 * (2 * first + 3 * rest)


def test_matrix_products_count_two_operations_per_multiply_add():
    form = timing.matrix_product("float32")
    size = timing.MATRIX_SIZE["CPU"]
    assert form.amount in (2 * size**3, 2 * timing.MATRIX_SIZE["GPU"] ** 3)
    assert form.seconds(1) > 0


def test_input_shows_where_the_time_goes(photo_records, tmp_path, capsys):
    flags = [f"--data_dir={photo_records}", "--batch_size=16", "--batches=2", "--runs=2"]
    result = _run(tmp_path, "input", *flags)
    assert [row["stage"] for row in result["rows"]] == ["read", "decode", "augment"]
    shards = [name for name in os.listdir(photo_records) if "-train." in name]
    size = sum(os.path.getsize(os.path.join(photo_records, name)) for name in shards)
    assert result["data"]["bytes_per_record"] == pytest.approx(size / 96)
    whole = sum(row["cpu_milliseconds_per_image"] for row in result["rows"])
    # Two batches were asked for; an epoch, which is read in one go, has six.
    assert result["images"] == 96
    last = 1e3 * statistics.median(result["rows"][-1]["cpu_seconds"]) / 96
    assert whole == pytest.approx(last)
    assert all(len(row["images_per_second"]["runs"]) == 2 for row in result["rows"])
    text = capsys.readouterr().out
    assert "96 records of 256 x 256 x 3, jpeg" in text and "decode" in text


@pytest.mark.slow
def test_step_measures_every_combination(tmp_path):
    flags = ["--model=lenet5", "--batch_size=4,8", "--runs=2"]
    both = ["--precision=float32,mixed_bfloat16", "--strategy=none,mirrored"]
    result = _run(tmp_path, "step", *flags, *both)
    found = {(r["strategy"], r["precision"], r["batch_size"]): r for r in result["rows"]}
    assert len(found) == len(result["rows"]) == 8
    assert {row["replicas"] for row in result["rows"] if row["strategy"] == "mirrored"} == {2}
    assert set(result["ceilings"]) == {"float32", "bfloat16"}
    for (_, precision, _), row in found.items():
        rate = row["images_per_second"]["median"]
        ceiling = result["ceilings"][steps.PRECISIONS[precision]]["median"]
        share = rate * row["operations_per_image"] / ceiling
        assert row["share_of_ceiling"] == pytest.approx(share) and 0 < share < 1


@pytest.mark.slow
def test_the_measured_step_trains():
    """The step on the clock is the one that learns, not a forward pass."""
    import tensorflow as tf

    from alexnet_tf.data.augmentation import Augmentation
    from alexnet_tf.training import distribution

    strategy = distribution.make_strategy("none")
    form, _ = steps.training_form(strategy, "lenet5", "float32", 4)
    still = Augmentation(crop_size=32, mirror=False)
    saved_run, network = steps.trainer(strategy, still, ("lenet5", "float32", 4, 10))
    before = [weight.numpy() for weight in network.trainable_weights]
    pixels = tf.random.stateless_uniform((4, 32, 32, 1), (1, 1), maxval=256, dtype=tf.int32)
    batch = (tf.cast(pixels, tf.uint8), tf.constant([1, 2, 3, 4], tf.int64), {})
    sums = saved_run.step(batch, tf.constant(0.0))
    assert all(np.isfinite(value) for value in sums.values())
    moved = [
        not np.array_equal(old, new.numpy())
        for old, new in zip(before, network.trainable_weights, strict=True)
    ]
    assert any(moved) and form.seconds(2) > 0


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["none", "mirrored"])
def test_train_compares_the_whole_with_its_parts(photo_records, tmp_path, strategy):
    flags = [f"--data_dir={photo_records}", "--model=cifarnet", "--batch_size=8", "--runs=1"]
    result = _run(tmp_path, "train", *flags, f"--strategy={strategy}")
    rates = {row["form"]: row["images_per_second"]["median"] for row in result["rows"]}
    assert set(rates) == {"input", "step", "training"}
    slower = min(rates["input"], rates["step"])
    assert result["share_of_slower"] == pytest.approx(rates["training"] / slower)


@pytest.mark.slow
def test_train_refuses_images_that_the_network_does_not_take(photo_records, tmp_path, capsys):
    flags = ["train", f"--data_dir={photo_records}", "--model=lenet5", "--batch_size=8"]
    assert benchmark.main(flags) == 1
    error = capsys.readouterr().err
    assert "3 channel(s)" in error and "lenet5 takes 1" in error


@pytest.fixture(scope="module")
def small_saved_model(tmp_path_factory):
    from alexnet_tf.models import saved_run
    from alexnet_tf.serving import export

    network = saved_run.TrainedModel("small", models.build_model("cifarnet"), None, 32)
    names = [f"thing {n}" for n in range(network.classes)]
    return export.export_saved_model(network, names, str(tmp_path_factory.mktemp("m") / "small"))


@pytest.mark.slow
def test_serve_measures_each_batch_and_number_of_clients(small_saved_model, tmp_path):
    flags = [f"--saved_model={small_saved_model}", "--batch_size=1,3", "--clients=1,2"]
    result = _run(tmp_path, "serve", *flags, "--requests=4")
    forms = ["SavedModel, JPEG files", "SavedModel, crops", "decode and crop"]
    found = [(row["form"], row["batch_size"], row["clients"]) for row in result["rows"]]
    assert found == [(f, b, c) for b in (1, 3) for c in (1, 2) for f in forms]
    for row in result["rows"]:
        assert len(row["seconds"]) == 4 * row["clients"]
        assert row["p50_ms"] == pytest.approx(1e3 * np.percentile(row["seconds"], 50))
        # No client can have waited longer than all of them took.
        whole = 4 * row["clients"] * row["batch_size"] / row["images_per_second"]
        assert max(row["seconds"]) <= whole


@pytest.mark.slow
def test_serve_says_that_the_server_is_not_there(small_saved_model, capsys):
    flags = [f"--saved_model={small_saved_model}", "--batch_size=1", "--clients=1"]
    # Port 9 ("discard") is nobody's.
    assert benchmark.main(["serve", *flags, "--server=http://127.0.0.1:9"]) == 1
    assert "http://127.0.0.1:9 did not answer" in capsys.readouterr().err
