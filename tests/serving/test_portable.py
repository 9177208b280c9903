"""ONNX and LiteRT files say what the network says."""

import json
import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from alexnet_tf import export as export_command
from alexnet_tf.models import saved_run

NAMES = [f"kind {n}" for n in range(7)]


@pytest.fixture(scope="module")
def cifarnet(tmp_path_factory, photo_crops):
    """The paper's CIFAR-10 network, trained for seconds to tell 7 photographs from each other."""
    import keras

    from alexnet_tf import models

    directory = tmp_path_factory.mktemp("cifarnet")
    keras.utils.set_random_seed(5)
    model = models.build_model("cifarnet", classes=7, initializer="he")
    model.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy")
    windows = np.stack(list(photo_crops(420, 24, seed=1))).astype(np.float32)
    model.fit(windows, np.arange(420) % 7, batch_size=42, epochs=6, verbose=0)
    model.save(directory / "model.keras")
    (directory / "config.json").write_text(json.dumps({"class_names": NAMES}))
    return str(directory)


def run_command(capsys, *flags):
    code = export_command.main(list(flags))
    captured = capsys.readouterr()
    return code, captured.out, captured.err.strip().splitlines()


def crops_of(dataset, network):
    from alexnet_tf.serving import portable

    return portable.sample_crops(network, dataset, "validation")


def test_onnxruntime_gives_the_networks_probabilities(cifarnet, make_dataset, tmp_path, capsys):
    import onnxruntime

    path, _, _ = make_dataset(9, 32)
    output = str(tmp_path / "net.onnx")
    code, out, err = run_command(
        capsys, f"--model={cifarnet}", "--format=onnx", f"--output={output}", f"--data_dir={path}"
    )
    assert code == 0, err
    assert "Compared on 9 images" in out and "top-1 agreement 100.0%" in out
    session = onnxruntime.InferenceSession(output, providers=["CPUExecutionProvider"])
    network = saved_run.open_model(cifarnet)
    windows = crops_of(path, network)
    (found,) = session.run(["probabilities"], {"crops": windows})
    np.testing.assert_allclose(found, network.model(windows, training=False), atol=1e-5)
    # ONNX has no op that refuses in words: the runtime's own error, or no rows.
    try:
        (nothing,) = session.run(["probabilities"], {"crops": windows[:0]})
    except Exception as error:
        assert type(error).__module__.startswith("onnxruntime"), error
    else:
        assert nothing.shape == (0, 7)
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["class_names"]) == NAMES
    assert os.listdir(tmp_path).count("net.onnx") == 1
    assert not [name for name in os.listdir(tmp_path) if "writing" in name]


@pytest.mark.parametrize(
    ("quantization", "tolerance"),
    [("float32", 1e-5), ("float16", 5e-3), ("dynamic_int8", 0.1), ("int8", 0.25)],
)
def test_litert_gives_the_networks_probabilities(
    cifarnet, make_dataset, tmp_path, capsys, quantization, tolerance
):
    """On a trained network, whose answers differ from image to image."""
    import tensorflow as tf

    path, _, _ = make_dataset(140, 32)
    output = str(tmp_path / "net.tflite")
    code, out, err = run_command(
        capsys,
        f"--model={cifarnet}",
        "--format=litert",
        f"--output={output}",
        f"--data_dir={path}",
        f"--quantization={quantization}",
    )
    assert code == 0, err
    network = saved_run.open_model(cifarnet)
    windows = crops_of(path, network)
    interpreter = tf.lite.Interpreter(model_path=output)
    runner = interpreter.get_signature_runner()
    found = np.concatenate([runner(crops=crop[None])["probabilities"] for crop in windows])
    wanted = network.model(windows, training=False).numpy()
    np.testing.assert_allclose(found, wanted, atol=tolerance)
    agreement = np.mean(found.argmax(1) == wanted.argmax(1))
    assert len(set(wanted.argmax(1))) >= 5, "a constant would agree"
    assert agreement >= (0.95 if quantization == "int8" else 0.98)
    compared = 70 if quantization == "int8" else 128
    assert f"Compared on {compared} images: largest difference of a probability" in out
    # Only ranges that were learnt from images make what flows between the layers integers.
    flowing = [t for t in interpreter.get_tensor_details() if -1 in t["shape_signature"][:1]]
    assert len(flowing) > 10  # the inputs and outputs of layers, with the batch's open size
    integers = sum(t["dtype"] == np.int8 for t in flowing)
    assert (integers > 5) == (quantization == "int8"), integers
    parameters = network.model.count_params()
    per_weight = {"float32": 4, "float16": 2, "dynamic_int8": 1, "int8": 1}[quantization]
    # Graph and biases come on top; the next larger type would be twice as large.
    assert os.path.getsize(output) < 1.6 * per_weight * parameters + 30_000
    with zipfile.ZipFile(output) as archive:
        assert archive.namelist() == ["labels.txt", "knowledge.json", "card.md"]
        assert archive.testzip() is None
        assert archive.read("labels.txt").decode().splitlines() == NAMES


@pytest.mark.parametrize("kind, name", [("onnx", "a.onnx"), ("litert", "a.tflite")])
def test_a_network_trained_in_mixed_precision_is_exported_in_float32(
    cifarnet, make_dataset, tmp_path, capsys, kind, name
):
    import keras

    from alexnet_tf import models

    path, _, _ = make_dataset(9, 32)
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        mixed = models.build_model("cifarnet", classes=7)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    mixed.set_weights(saved_run.open_model(cifarnet).model.get_weights())
    mixed.save(tmp_path / "mixed.keras")
    flags = [f"--model={tmp_path}/mixed.keras", f"--format={kind}", f"--output={tmp_path}/{name}"]
    code, out, err = run_command(capsys, *flags, f"--data_dir={path}")
    assert code == 0, err
    assert "top-1 agreement 100.0%" in out


def test_int8_learns_from_other_images_than_it_is_compared_on(
    cifarnet, photo_crops, tmp_path, monkeypatch
):
    from alexnet_tf.serving import portable

    network = saved_run.open_model(cifarnet)
    given = np.stack(list(photo_crops(20, 24, seed=3))).astype(np.float32)
    seen = {}
    convert, compare = portable._litert, portable._compare

    def converting(network, quantization, learnt_from):
        seen["learnt"] = learnt_from
        return convert(network, quantization, learnt_from)

    def comparing(network, run, images):
        seen["compared"] = images
        return compare(network, run, images)

    monkeypatch.setattr(portable, "_litert", converting)
    monkeypatch.setattr(portable, "_compare", comparing)
    portable.export_litert(network, NAMES, str(tmp_path / "net.tflite"), given, "int8", 0)
    learnt, compared = ({i.tobytes() for i in seen[name]} for name in ("learnt", "compared"))
    assert len(learnt) == len(compared) == 10 and not learnt & compared


def test_a_file_that_disagrees_is_not_written(cifarnet, photo_crops, tmp_path):
    """Ranges learnt from black images are wrong for all others."""
    from alexnet_tf.serving import portable

    network = saved_run.open_model(cifarnet)
    given = np.stack(list(photo_crops(56, 24, seed=3))).astype(np.float32)
    given[::2] = 0
    output = str(tmp_path / "net.tflite")
    with pytest.raises(ValueError, match=r"not written.* of 28 images, expected 95\.0%") as error:
        portable.export_litert(network, NAMES, output, given, "int8")
    assert "--min_agreement" in str(error.value) and os.listdir(tmp_path) == []
    parity = portable.export_litert(network, NAMES, output, given, "int8", min_agreement=0)
    assert parity.top1_agreement < 0.95 and os.listdir(tmp_path) == ["net.tflite"]
    with pytest.raises(ValueError, match="at least 2"):
        portable.export_litert(network, NAMES, output, given[:1], "int8")


@pytest.mark.parametrize(
    ("variant", "shape"),
    [
        ("cifarnet", (24, 24, 3)),  # both sides of a pool hang over by one
        ("cifarnet", (25, 24, 3)),  # one side only
        ("alexnet_145", (67, 67, 3)),  # groups in the norm, spatial norm
        ("alexnet_caffe", (67, 67, 3)),
        ("lenet5", (32, 32, 1)),
    ],
)
def test_the_network_for_integers_is_the_same_function(variant, shape):
    import keras

    from alexnet_tf import models
    from alexnet_tf.serving import integers

    keras.utils.set_random_seed(0)  # logits of some draws are so large that last bits show
    model = models.build_model(variant, classes=7, input_shape=shape, initializer="he")
    images = np.random.default_rng(0).uniform(0, 255, (3, *shape)).astype(np.float32)
    wanted = model(images, training=False)
    assert np.ptp(wanted) > 1e-4
    np.testing.assert_allclose(integers.for_integers(model)(images), wanted, atol=1e-5)


@pytest.mark.parametrize(("size", "stride", "side"), [(3, 2, 24), (3, 2, 25), (2, 2, 7), (4, 3, 9)])
def test_a_pool_without_infinity_is_the_pool(size, stride, side):
    import keras

    from alexnet_tf.models.layers import CeilMaxPooling2D
    from alexnet_tf.serving import integers

    inputs = keras.Input((side, side + 1, 2))
    model = keras.Model(inputs, CeilMaxPooling2D(size, stride)(inputs))
    images = np.random.default_rng(0).normal(size=(2, side, side + 1, 2)).astype(np.float32)
    images -= 5  # below zero, where a padding of zeros would win
    np.testing.assert_array_equal(integers.for_integers(model)(images), model(images))


def test_a_network_that_cannot_be_converted_is_one_sentence(tmp_path):
    """What LiteRT has no operation for, and what its quantiser finds no range for."""
    import keras
    import tensorflow as tf

    from alexnet_tf.serving import portable

    class Foreign(keras.layers.Layer):
        def call(self, x):
            return tf.nn.softmax(tf.math.bessel_i0(tf.reduce_mean(x, (1, 2))))

    inputs = keras.Input((8, 8, 3))
    network = saved_run.TrainedModel("a.keras", keras.Model(inputs, Foreign()(inputs)), None, 8)
    images = np.zeros((2, 8, 8, 3), np.float32)
    for quantization in ("float32", "int8"):
        with pytest.raises(ValueError, match=rf"refuses the network as {quantization} \(.+\):"):
            portable.export_litert(
                network, "abc", str(tmp_path / "a.tflite"), images, quantization, 0
            )
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("kind", "name"), [("saved_model", "net"), ("litert", "net.tflite"), ("onnx", "net.onnx")]
)
def test_a_full_disk_is_one_sentence(cifarnet, full_disk, capsys, kind, name):
    output = full_disk / name
    code, _, err = run_command(
        capsys, f"--model={cifarnet}", f"--format={kind}", f"--output={output}"
    )
    assert code == 1
    assert err[-1].startswith("error: ") and "No space left on device" in err[-1]
    assert name in err[-1] and not [line for line in err if "Traceback" in line]
    left = [path.name for path in full_disk.rglob("*") if path.is_file()]
    assert left == ["ballast"]


def test_bad_flags_end_with_one_sentence(cifarnet, tmp_path, capsys):
    model, output = f"--model={cifarnet}", f"--output={tmp_path}/net.onnx"
    cases = [
        ([model, output, "--format=onnx", "--version=3"], 2, "belongs to --format=saved_model"),
        ([model, output, "--format=onnx", "--quantization=int8"], 2, "belongs to --format=litert"),
        ([model, output, "--format=litert", "--quantization=int8"], 2, "needs --data_dir"),
        ([model, output, "--data_dir=x"], 2, "--data_dir belongs to"),
        ([model, output, "--min_agreement=0.5"], 2, "--min_agreement belongs to"),
        ([model, output, "--format=onnx", "--min_agreement=95"], 2, "min_agreement"),
        ([model, output, "--format=litert"], 1, "should end in .tflite"),
        ([model, f"--output={tmp_path}/net", "--format=onnx"], 1, "should end in .onnx"),
        ([model, output, "--format=onnx", f"--data_dir={tmp_path}/no"], 1, "no directory"),
    ]
    for flags, wanted, sentence in cases:
        code, _, err = run_command(capsys, *flags)
        assert (code, sentence in err[-1]) == (wanted, True), (flags, code, err)
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux counts")
def test_the_full_network_as_onnx_takes_a_few_times_its_weights(tmp_path):
    """In a process of its own, since a peak is a process's. The weights are 0.23 GiB."""
    from alexnet_tf import models

    model = models.build_model("alexnet", initializer="he")
    model.save(tmp_path / "model.keras")
    output = tmp_path / "net.onnx"
    program = (
        "import sys\nfrom alexnet_tf import export\nassert export.main(sys.argv[1:]) == 0\n"
        # Not ru_maxrss, which a process has from the one that started it.
        "print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])"
    )
    flags = [f"--model={tmp_path}", "--format=onnx", f"--output={output}"]
    done = subprocess.run(
        [sys.executable, "-c", program, *flags], capture_output=True, text=True, check=True
    )
    kibibytes = int(done.stdout.split()[-1])
    assert kibibytes < 3 * 2**20, f"{kibibytes / 2**20:.2f} GiB"
    assert "top-1 agreement 100.0%" in done.stdout
    assert output.stat().st_size > 4 * model.count_params()


@pytest.mark.parametrize("format", ["onnx", "litert"])
def test_predict_reads_what_export_wrote_and_says_what_the_network_says(
    cifarnet, images, tmp_path, capsys, format
):
    from alexnet_tf import predict as predict_command

    output = str(tmp_path / f"net{ {'onnx': '.onnx', 'litert': '.tflite'}[format] }")
    flags = [f"--format={format}", f"--output={output}", "--min_agreement=0"]
    code, _, err = run_command(capsys, f"--model={cifarnet}", *flags)
    assert code == 0, err
    names, answers = list(images.values()), []
    for model in (cifarnet, output):
        assert predict_command.main([f"--model={model}", "--json", *names]) == 0
        answers.append([json.loads(line) for line in capsys.readouterr().out.splitlines()])
    for ours, theirs in zip(*answers, strict=True):
        ours, theirs = ours["predictions"], theirs["predictions"]
        assert [one["class"] for one in ours] == [one["class"] for one in theirs]
        scores = [[one["score"] for one in answer] for answer in (ours, theirs)]
        np.testing.assert_allclose(*scores, atol=1e-4)
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    assert predict_command.main([f"--model={output}", str(tmp_path / "bad.jpg"), names[0]]) == 1
    captured = capsys.readouterr()
    assert "neither a JPEG nor a PNG" in captured.err and names[0] in captured.out


@pytest.mark.parametrize("name", ["x.onnx", "x.tflite"])
def test_a_file_of_another_kind_is_one_sentence(tmp_path, images, capsys, name):
    from alexnet_tf import predict as predict_command

    image = next(iter(images.values()))
    for content, sentence in ((None, "There is no model"), (b"nothing", "no network of this")):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        assert predict_command.main([f"--model={tmp_path / name}", image]) == 1
        assert sentence in capsys.readouterr().err.splitlines()[-1]
