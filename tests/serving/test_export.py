"""What is written: a version directory that a server can take as it is, or nothing."""

import concurrent.futures
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

from alexnet_tf import export as export_command
from alexnet_tf.models import saved_run
from alexnet_tf.serving import export, predictor, signatures


def read_graph(path):
    from tensorflow.core.protobuf import saved_model_pb2

    with open(os.path.join(path, "saved_model.pb"), "rb") as file:
        return saved_model_pb2.SavedModel.FromString(file.read()).meta_graphs[0]


def test_signatures_have_the_names_types_and_shapes_of_the_contract(exported):
    found = {}
    for name, signature in read_graph(exported).signature_def.items():
        if name.startswith("__"):
            continue
        found[name] = tuple(
            {
                key: (info.dtype, [d.size for d in info.tensor_shape.dim])
                for key, info in side.items()
            }
            for side in (signature.inputs, signature.outputs)
        )
    float32, uint8, string = 1, 4, 7
    answers = {
        "probabilities": (float32, [-1, 14]),
        "classes": (string, [-1, 5]),
        "scores": (float32, [-1, 5]),
    }
    files = {"image_bytes": (string, [-1])}
    assert found == {
        "serving_default": (files, answers),
        "image_tensor": ({"images": (uint8, [-1, -1, -1, 3])}, answers),
        "features": (files, {"fc7": (float32, [-1, 1024])}),
        "crops": (
            {"crops": (float32, [-1, 224, 224, 3])},
            {"probabilities": (float32, [-1, 14])},
        ),
    }


def test_the_graph_holds_nothing_that_a_server_refuses(exported):
    graph = read_graph(exported)
    library = graph.graph_def.library.function
    assert not [f.signature.name for f in library if f.attr["_XlaMustCompile"].b]
    ops = {n.op for f in library for n in f.node_def} | {n.op for n in graph.graph_def.node}
    assert not {op for op in ops if "Py" in op or "Xla" in op}
    assert "DecodeJpeg" in ops and "Conv2D" in ops  # the graph that was looked at is the whole one
    assert not graph.object_graph_def.nodes[0].user_object.identifier.startswith("_tf_keras")


def test_an_xla_compiled_network_is_refused_and_leaves_nothing(tmp_path):
    import keras

    inputs = keras.Input((32, 32, 4))
    # Keras wraps its own grouped convolution in a function that must be compiled.
    x = keras.layers.Conv2D(8, 3, groups=2)(inputs)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(x))
    # Four channels cannot be decoded from a file, so the signature is written by hand here.
    import tensorflow as tf

    module = tf.Module()
    module.weights = [v.value for v in model.variables]
    call = tf.function(lambda x: model(x), input_signature=[tf.TensorSpec((None, 32, 32, 4))])
    tf.saved_model.save(module, str(tmp_path / "m"), signatures=call)
    with pytest.raises(ValueError, match="compiled by XLA"):
        export.require_servable(str(tmp_path / "m"))

    inputs = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(8, 3)(inputs)
    x = keras.layers.Conv2D(8, 3, groups=2)(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(x))
    network = saved_run.TrainedModel("m.keras", model, None, 32)
    with pytest.raises(ValueError, match="GroupedConv2D"):
        export.export_saved_model(network, ["a", "b", "c"], str(tmp_path / "served"))
    assert os.listdir(tmp_path / "served") == []


def test_a_function_of_python_is_refused(tmp_path):
    import tensorflow as tf

    module = tf.Module()
    call = tf.function(
        lambda x: tf.numpy_function(lambda v: v, [x], tf.float32),
        input_signature=[tf.TensorSpec((None,))],
    )
    tf.saved_model.save(module, str(tmp_path), signatures=call)
    with pytest.raises(ValueError, match="PyFunc"):
        export.require_servable(str(tmp_path))


def test_labels_and_warmup_requests_are_what_tf_serving_reads(exported):
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    with open(os.path.join(exported, "assets", "labels.txt"), encoding="utf-8") as file:
        assert file.read().splitlines() == [f"thing {n}" for n in range(14)]
    loaded = tf.saved_model.load(exported)
    file = os.path.join(exported, "assets.extra", "tf_serving_warmup_requests")
    seen = []
    for record in tf.data.TFRecordDataset(file).as_numpy_iterator():
        log = prediction_log_pb2.PredictionLog.FromString(record)
        # TF Serving's own classes find every byte known and the parts where they look for them.
        assert log.WhichOneof("log_type") == "predict_log"
        assert log.SerializeToString(deterministic=True) == record
        request = log.predict_log.request
        assert request.model_spec.name == "alexnet"
        inputs = {name: tf.make_ndarray(value) for name, value in request.inputs.items()}
        batch = len(next(iter(inputs.values())))
        if batch == 1 or request.model_spec.signature_name == "serving_default":
            outputs = loaded.signatures[request.model_spec.signature_name](
                **{name: tf.constant(value) for name, value in inputs.items()}
            )
            assert {value.shape[0] for value in outputs.values()} == {batch}
        seen.append((request.model_spec.signature_name, batch))
    assert sorted(seen) == sorted(
        (name, batch)
        for name in ("serving_default", "image_tensor", "features", "crops")
        for batch in (1, 8)
    )


def test_requests_and_responses_equal_tf_servings_protos():
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    from alexnet_tf.serving import messages

    ours = messages.predict_request("alexnet", "features", {"image_bytes": [b"one"]}, "canary")
    theirs = predict_pb2.PredictRequest.FromString(ours.SerializeToString())
    assert (theirs.model_spec.name, theirs.model_spec.signature_name) == ("alexnet", "features")
    assert theirs.model_spec.version_label == "canary"
    assert tf.make_ndarray(theirs.inputs["image_bytes"]).tolist() == [b"one"]
    response = predict_pb2.PredictResponse()
    response.model_spec.version.value = 7
    response.outputs["scores"].CopyFrom(tf.make_tensor_proto(np.float32([[0.5, 0.25]])))
    parsed = messages.parse_response(response.SerializeToString())
    np.testing.assert_array_equal(parsed["scores"], np.float32([[0.5, 0.25]]))


@pytest.fixture
def small_network():
    import keras

    inputs = keras.Input((24, 24, 3))
    x = keras.layers.Flatten()(inputs)
    x = keras.layers.Dense(16, activation="relu")(x)
    model = keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(x))
    return saved_run.TrainedModel("small.keras", model, None, 24)


def test_versions_count_up_and_are_never_overwritten(small_network, tmp_path):
    output, names = str(tmp_path / "small"), ["a", "b", "c"]
    assert export.export_saved_model(small_network, names, output) == f"{output}/1"
    assert export.export_saved_model(small_network, names, output, 7) == f"{output}/7"
    assert export.export_saved_model(small_network, names, output) == f"{output}/8"
    with open(f"{output}/7/saved_model.pb", "rb") as file:
        before = file.read()
    with pytest.raises(FileExistsError, match="already holds version 7"):
        export.export_saved_model(small_network, names, output, 7)
    with open(f"{output}/7/saved_model.pb", "rb") as file:
        assert file.read() == before
    for number in (0, -1, 2**63):
        with pytest.raises(ValueError, match="no positive number of 64 bits"):
            export.export_saved_model(small_network, names, output, number)
    # To a server 00000009 is version 9.
    os.rename(f"{output}/8", f"{output}/00000009")
    with pytest.raises(FileExistsError, match="already holds version 9"):
        export.export_saved_model(small_network, names, output, 9)
    assert predictor.find_saved_model(output) == f"{output}/00000009"
    assert sorted(os.listdir(output)) == ["00000009", "1", "7"]


def test_a_polling_server_sees_a_version_only_when_it_is_whole(
    small_network, tmp_path, monkeypatch
):
    output = tmp_path / "small"
    during = []
    check = export.require_servable

    def look_while_writing(path):
        # All but the rename is done here: what a server polling now would see.
        during.extend(export.versions(str(output)))
        check(path)

    monkeypatch.setattr(export, "require_servable", look_while_writing)
    path = export.export_saved_model(small_network, ["a", "b", "c"], str(output))
    assert during == [] and export.versions(str(output)) == [1]
    assert all(os.path.getsize(os.path.join(path, name)) for name in NEEDED)


NEEDED = {
    "saved_model.pb",
    "variables/variables.index",
    "variables/variables.data-00000-of-00001",
    "assets/labels.txt",
    "assets.extra/tf_serving_warmup_requests",
}


def test_whoever_polls_all_the_time_never_sees_half_a_version(small_network, tmp_path):
    """What each look at a numbered directory finds is what is there when all is over."""
    output = str(tmp_path / "small")
    looks, over = [], threading.Event()

    def poll():
        while not over.wait(0.001):
            for version in export.versions(output):
                root = os.path.join(output, str(version))
                files = {
                    os.path.relpath(os.path.join(place, name), root): os.path.getsize(
                        os.path.join(place, name)
                    )
                    for place, _, names in os.walk(root)
                    for name in names
                }
                looks.append((version, files))

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        polling = pool.submit(poll)
        try:
            for _ in range(3):
                export.export_saved_model(small_network, ["a", "b", "c"], output)
        finally:
            over.set()
        polling.result()
    at_last = dict(looks)
    assert {1, 2} <= set(at_last)
    assert all(files == at_last[version] for version, files in looks)
    assert all(files.keys() >= NEEDED for files in at_last.values())


def test_of_two_exports_of_one_version_one_is_refused(small_network, tmp_path, monkeypatch):
    """Both are past the first look, and have written all, when either gets its name."""
    output, both = str(tmp_path / "small"), threading.Barrier(2, timeout=60)
    check = export.require_servable

    def wait_for_the_other(path):
        check(path)
        both.wait()

    monkeypatch.setattr(export, "require_servable", wait_for_the_other)

    def one(names):
        try:
            return export.export_saved_model(small_network, names, output, 3)
        except FileExistsError as error:
            return str(error)

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(one, (["a", "b", "c"], ["d", "e", "f"])))
    refused = f"{output} already holds version 3: choose another, or leave --version out."
    assert sorted(answers) == sorted([f"{output}/3", refused])
    assert os.listdir(output) == ["3"]
    # One export's files, not a mixture of both.
    with open(f"{output}/3/assets/labels.txt", encoding="utf-8") as file:
        assert file.read() == ("a\nb\nc\n" if answers[0] == f"{output}/3" else "d\ne\nf\n")


KILLED = """
import os, signal, sys
import keras
from alexnet_tf.models import saved_run
from alexnet_tf.serving import export, messages

log, written = messages.prediction_log, []

def killed_at_the_third(request):
    written.append(request)
    if len(written) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return log(request)

messages.prediction_log = killed_at_the_third
inputs = keras.Input((24, 24, 3))
outputs = keras.layers.Dense(3, activation="softmax")(keras.layers.Flatten()(inputs))
network = saved_run.TrainedModel("small.keras", keras.Model(inputs, outputs), None, 24)
export.export_saved_model(network, ["a", "b", "c"], sys.argv[1])
"""


@pytest.mark.slow
def test_a_killed_export_leaves_no_version(small_network, tmp_path):
    """SIGKILL in the middle of the warm-up requests: graph, weights and labels are on disk."""
    output = str(tmp_path / "small")
    run = subprocess.run([sys.executable, "-c", KILLED, output], capture_output=True, check=False)
    assert run.returncode == -signal.SIGKILL, run.stderr[-2000:]
    (left,) = os.listdir(output)
    assert os.path.exists(os.path.join(output, left, "saved_model.pb"))
    assert export.versions(output) == [] and predictor.find_saved_model(output) is None
    path = export.export_saved_model(small_network, ["a", "b", "c"], output)
    assert path == f"{output}/1" and os.listdir(output) == ["1"]


def test_a_version_taken_meanwhile_is_left_alone(small_network, tmp_path, monkeypatch):
    output = tmp_path / "small"
    check = export.require_servable

    def another_export_is_faster(path):
        os.makedirs(output / "1" / "theirs")
        check(path)

    monkeypatch.setattr(export, "require_servable", another_export_is_faster)
    numbers = iter([[], [1]])
    monkeypatch.setattr(export, "versions", lambda _: next(numbers))
    assert export.export_saved_model(small_network, ["a", "b", "c"], str(output)) == f"{output}/2"
    assert os.listdir(output / "1") == ["theirs"]


def test_features_of_other_networks_are_what_their_classifier_reads(small_network):
    name, model = signatures.feature_model(small_network.model)
    assert (name, model.output_shape) == ("features", (None, 16))


def test_bad_input_ends_with_one_sentence(workdir, exported, tmp_path, capsys):
    few = tmp_path / "few.txt"
    few.write_text("a\nb\n")
    broken = tmp_path / "broken.keras"
    broken.write_bytes(b"PK nothing")
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    (mixed / "model.keras").symlink_to(workdir / "model.keras")
    (mixed / "config.json").write_text('{"class_names": ["a"]}')
    output = f"--output={tmp_path}/out"
    cases = [
        ([output], 2, "--model is missing"),
        ([f"--model={workdir}", output, "--format=caffe"], 2, "format"),
        ([f"--model={workdir}", output, "--version=0"], 2, "expected a positive number"),
        ([f"--model={workdir}", output, "again"], 2, "Unexpected argument"),
        ([f"--model={tmp_path}/none", output], 1, "There is no model"),
        ([f"--model={broken}", output], 1, "broken.keras"),
        ([f"--model={exported}", output], 1, "is a SavedModel"),
        ([f"--model={mixed}", output], 1, "names 1 classes, but"),
        ([f"--model={workdir}", output, f"--labels={few}"], 1, "has 2 names, but the model has 14"),
        ([f"--model={workdir}", output, f"--labels={tmp_path}/no"], 1, "no label file"),
    ]
    for flags, code, sentence in cases:
        found = export_command.main(flags)
        err = capsys.readouterr().err.strip().splitlines()
        assert (found, sentence in err[-1]) == (code, True), (flags, found, err)
        assert not any("Traceback" in line for line in err), flags
    assert not (tmp_path / "out").exists()
