"""ONNX and LiteRT files say what the network says."""

import json
import os

import numpy as np
import pytest

from alexnet_tf import export as export_door
from alexnet_tf.models import trained

NAMES = [f"kind {n}" for n in range(7)]


@pytest.fixture(scope="module")
def cifarnet(tmp_path_factory):
    """The paper's CIFAR-10 network with 7 classes: normalisation, overlapping pools, small."""
    import keras

    from alexnet_tf import models

    directory = tmp_path_factory.mktemp("cifarnet")
    keras.utils.set_random_seed(5)
    models.build_model("cifarnet", classes=7, initializer="he").save(directory / "model.keras")
    (directory / "config.json").write_text(json.dumps({"class_names": NAMES}))
    return str(directory)


def run_door(capsys, *flags):
    code = export_door.main(list(flags))
    captured = capsys.readouterr()
    return code, captured.out, captured.err.strip().splitlines()


def crops_of(dataset, network):
    from alexnet_tf.serving import portable

    return portable.sample_crops(network, dataset, "validation")


def test_onnxruntime_gives_the_networks_probabilities(cifarnet, make_dataset, tmp_path, capsys):
    import onnxruntime

    path, _, _ = make_dataset(9, 32)
    output = str(tmp_path / "net.onnx")
    code, out, err = run_door(
        capsys, f"--model={cifarnet}", "--format=onnx", f"--output={output}", f"--data_dir={path}"
    )
    assert code == 0, err
    assert "Compared on 9 pictures" in out and "top-1 agreement 100.0%" in out
    session = onnxruntime.InferenceSession(output, providers=["CPUExecutionProvider"])
    network = trained.open_model(cifarnet)
    crops = crops_of(path, network)
    (found,) = session.run(["probabilities"], {"crops": crops})
    np.testing.assert_allclose(found, network.model(crops, training=False), atol=1e-5)
    # ONNX has no op that refuses in words: the runtime's own error, or no rows.
    try:
        (nothing,) = session.run(["probabilities"], {"crops": crops[:0]})
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
    [("float32", 1e-5), ("float16", 5e-3), ("dynamic_int8", 0.1), ("int8", 0.2)],
)
def test_litert_gives_the_networks_probabilities(
    cifarnet, make_dataset, tmp_path, capsys, quantization, tolerance
):
    import tensorflow as tf

    path, _, _ = make_dataset(9, 32)
    output = str(tmp_path / "net.tflite")
    code, out, err = run_door(
        capsys,
        f"--model={cifarnet}",
        "--format=litert",
        f"--output={output}",
        f"--data_dir={path}",
        f"--quantization={quantization}",
    )
    assert code == 0, err
    network = trained.open_model(cifarnet)
    crops = crops_of(path, network)
    interpreter = tf.lite.Interpreter(model_path=output)
    runner = interpreter.get_signature_runner()
    found = np.concatenate([runner(crops=crop[None])["probabilities"] for crop in crops])
    wanted = network.model(crops, training=False).numpy()
    np.testing.assert_allclose(found, wanted, atol=tolerance)
    agreement = np.mean(found.argmax(1) == wanted.argmax(1))
    assert "Compared on 9 pictures: largest difference of a probability" in out
    assert f"top-1 agreement {agreement:.1%}" in out
    # Only ranges that were learnt from pictures make what flows between the layers integers.
    flowing = [t for t in interpreter.get_tensor_details() if -1 in t["shape_signature"][:1]]
    assert len(flowing) > 10  # the inputs and outputs of layers, with the batch's open size
    integers = sum(t["dtype"] == np.int8 for t in flowing)
    assert (integers > 5) == (quantization == "int8"), integers
    parameters = network.model.count_params()
    per_weight = {"float32": 4, "float16": 2, "dynamic_int8": 1, "int8": 1}[quantization]
    # Graph and biases come on top; the next larger type would be twice as large.
    assert os.path.getsize(output) < 1.6 * per_weight * parameters + 30_000


def test_bad_flags_end_with_one_sentence(cifarnet, tmp_path, capsys):
    model, output = f"--model={cifarnet}", f"--output={tmp_path}/net.onnx"
    cases = [
        ([model, output, "--format=onnx", "--version=3"], 2, "belongs to --format=saved_model"),
        ([model, output, "--format=onnx", "--quantization=int8"], 2, "belongs to --format=litert"),
        ([model, output, "--format=litert", "--quantization=int8"], 2, "needs --data_dir"),
        ([model, output, "--data_dir=x"], 2, "--data_dir belongs to"),
        ([model, output, "--format=litert"], 1, "should end in .tflite"),
        ([model, f"--output={tmp_path}/net", "--format=onnx"], 1, "should end in .onnx"),
        ([model, output, "--format=onnx", f"--data_dir={tmp_path}/no"], 1, "no directory"),
    ]
    for flags, wanted, sentence in cases:
        code, _, err = run_door(capsys, *flags)
        assert (code, sentence in err[-1]) == (wanted, True), (flags, code, err)
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
def test_the_whole_alexnet_as_onnx(network, tmp_path):
    import onnxruntime

    from alexnet_tf.serving import portable

    crops = portable.sample_crops(network, None, "validation")
    output = str(tmp_path / "alexnet.onnx")
    parity = portable.export_onnx(network, [f"thing {n}" for n in range(14)], output, crops)
    assert parity.largest_difference < 1e-5 and parity.top1_agreement == 1
    session = onnxruntime.InferenceSession(output, providers=["CPUExecutionProvider"])
    (found,) = session.run(["probabilities"], {"crops": crops})
    np.testing.assert_allclose(found, network.model(crops, training=False), atol=1e-5)
