"""The exported directory, read by loaders that share no code with this package."""

import io
import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

HERE = pathlib.Path(__file__).parent

PLAIN_TENSORFLOW = """
import json
import tensorflow as tf

loaded = tf.saved_model.load(sys.argv[1])
answers = []
for file in sys.argv[2:]:
    serve = loaded.signatures["serving_default"]
    outputs = serve(image_bytes=tf.constant([open(file, "rb").read()]))
    answers.append({
        "probabilities": outputs["probabilities"][0].numpy().tolist(),
        "classes": [name.decode() for name in outputs["classes"][0].numpy()],
        "scores": outputs["scores"][0].numpy().tolist(),
    })
assert not [name for name in sys.modules if name.split(".")[0] in ("alexnet_tf", "keras")]
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def by_keras(network, images):
    """name -> the Keras model's own probabilities of the evaluation's crop."""
    import tensorflow as tf

    from alexnet_tf.data import preprocessing

    # As a graph, like all who serve it: op by op the sums of float32 round differently (2e-6).
    call = tf.function(lambda crops: network.model(crops, training=False))
    answers = {}
    for name, path in images.items():
        decoded = preprocessing.decode(tf.io.read_file(path))
        crop = preprocessing.evaluation_crop(decoded, 224)
        answers[name] = call(crop[None]).numpy()[0]
    return answers


def test_plain_tensorflow_gives_the_keras_models_probabilities(exported, images, by_keras, without):
    run = subprocess.run(
        [
            sys.executable,
            "-c",
            without("alexnet_tf", "keras") + PLAIN_TENSORFLOW,
            exported,
            *images.values(),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    for name, answer in zip(images, json.loads(run.stdout), strict=True):
        np.testing.assert_allclose(answer["probabilities"], by_keras[name], atol=1e-6, err_msg=name)
        best = np.argsort(-by_keras[name], kind="stable")[:5]
        np.testing.assert_allclose(answer["scores"], by_keras[name][best], atol=1e-6)
        assert answer["classes"] == [f"thing {n}" for n in best], name


def test_probabilities_equal_those_that_evaluation_counts(exported, network, make_dataset):
    import tensorflow as tf

    from alexnet_tf import evaluation
    from alexnet_tf.data import records

    path, _, _ = make_dataset(6, 256, encoding="jpeg", classes=14)
    dataset = records.open_dataset(path)
    wanted, _ = evaluation.split_probabilities(
        network.model, dataset, evaluation.EvaluationSettings()
    )
    files = [
        tf.train.Example.FromString(record).features.feature["image"].bytes_list.value[0]
        for shard in dataset.shards["validation"]
        for record in tf.data.TFRecordDataset(shard).as_numpy_iterator()
    ]
    loaded = tf.saved_model.load(exported)
    found = loaded.signatures["serving_default"](image_bytes=tf.constant(files))
    np.testing.assert_allclose(found["probabilities"], wanted, atol=1e-6)
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(file))) for file in files])
    found = loaded.signatures["image_tensor"](images=tf.constant(pixels))
    np.testing.assert_allclose(found["probabilities"], wanted, atol=1e-6)


def _hidden(network, path):
    """fc7 (1, 1024) after its ReLU, by the Keras model."""
    import keras
    import tensorflow as tf

    from alexnet_tf.data import preprocessing

    crop = preprocessing.evaluation_crop(preprocessing.decode(tf.io.read_file(path)), 224)[None]
    hidden = keras.Model(network.model.inputs, network.model.get_layer("fc7").output)
    return np.maximum(hidden(crop, training=False).numpy(), 0)


def test_features_are_the_last_hidden_layer_after_its_relu(exported, network, images):
    import tensorflow as tf

    wanted = _hidden(network, images["astronaut.jpg"])
    content = tf.io.read_file(images["astronaut.jpg"])
    loaded = tf.saved_model.load(exported)
    found = loaded.signatures["features"](image_bytes=content[None])["fc7"].numpy()
    assert found.min() == 0 and found.max() > 0.1
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_each_bad_image_is_an_invalid_argument(exported, bad_images):
    import tensorflow as tf

    serve = tf.saved_model.load(exported).signatures["serving_default"]
    for name, path in bad_images.items():
        with pytest.raises(tf.errors.InvalidArgumentError) as caught:
            serve(image_bytes=tf.io.read_file(path)[None])
        if name in ("bomb.png", "long.png", "thin.png"):
            assert "Images may have" in str(caught.value)
        if name.startswith("other."):
            assert "neither a JPEG nor a PNG" in str(caught.value)
    loaded = tf.saved_model.load(exported)
    with pytest.raises(tf.errors.InvalidArgumentError, match="Images may have"):
        loaded.signatures["image_tensor"](images=tf.zeros((1, 2, 300, 3), tf.uint8))


EMPTY = {
    "serving_default": np.zeros(0, object),
    "features": np.zeros(0, object),
    "image_tensor": np.zeros((0, 64, 64, 3), np.uint8),
    "crops": np.zeros((0, 224, 224, 3), np.float32),
}


def test_a_request_of_no_images_is_an_invalid_argument(exported, network):
    import tensorflow as tf

    from alexnet_tf.serving import predictor, signatures
    from alexnet_tf.serving.classifier import ImageError

    loaded = tf.saved_model.load(exported)
    assert set(EMPTY) == set(loaded.signatures)
    for name, value in EMPTY.items():
        serve = loaded.signatures[name]
        (argument,) = serve.structured_input_signature[1]
        kind = tf.string if value.dtype == object else value.dtype
        with pytest.raises(tf.errors.InvalidArgumentError, match=signatures.NO_PICTURES):
            serve(**{argument: tf.constant(value, kind)})
    with pytest.raises(ImageError) as caught:
        predictor.open_classifier(exported)([])
    assert str(caught.value) == signatures.NO_PICTURES
    assert list(predictor.predict(predictor.open_classifier(exported), [])) == []


def _files_of_every_kind():
    """name -> (encoded file, its RGB pixels by the library that wrote or reads it, tolerance)."""
    import cv2
    import skimage.data

    coffee, coins = skimage.data.coffee(), skimage.data.coins()
    ramp = np.broadcast_to(np.arange(coins.shape[1]) % 256, coins.shape).astype(np.uint8)
    deep = coffee.astype(np.uint16) * 257
    grey_alpha = Image.merge("LA", (Image.fromarray(coins), Image.fromarray(ramp)))
    palette = Image.fromarray(coffee).quantize(64)
    palette.info["transparency"] = 3

    def by_pillow(image, tolerance=0, **options):
        buffer = io.BytesIO()
        image.save(buffer, **options)
        pixels = Image.open(io.BytesIO(buffer.getvalue())).convert("RGB")
        return buffer.getvalue(), np.asarray(pixels), tolerance

    def by_opencv(pixels, wanted):
        return cv2.imencode(".png", pixels)[1].tobytes(), wanted, 0

    as_rgb = np.repeat(coins[..., None], 3, -1)
    return {
        "grey with alpha": by_pillow(grey_alpha, format="PNG"),
        "palette with a transparent colour": by_pillow(palette, format="PNG"),
        "one bit": by_pillow(Image.fromarray(coins).convert("1"), format="PNG"),
        "16 bits grey": by_opencv(coins.astype(np.uint16) * 257, as_rgb),
        "16 bits colour": by_opencv(deep[..., ::-1], coffee),
        "16 bits colour with alpha": by_opencv(np.dstack([deep[..., ::-1], deep[..., :1]]), coffee),
        # CMYK is rounded differently by the two libraries.
        "CMYK": by_pillow(Image.fromarray(coffee).convert("CMYK"), 3, format="JPEG", quality=95),
        "progressive": by_pillow(
            Image.fromarray(coffee), 1, format="JPEG", quality=95, progressive=True
        ),
        "50 x 5000": by_pillow(
            Image.fromarray(np.tile(coffee[:, :50], (13, 1, 1))[:5000]), format="PNG"
        ),
    }


def test_every_kind_of_file_is_seen_as_other_libraries_see_it():
    import tensorflow as tf

    from alexnet_tf.data import untrusted

    decode = tf.function(untrusted.decode_untrusted)
    for name, (encoded, wanted, tolerance) in _files_of_every_kind().items():
        found = decode(tf.constant(encoded)).numpy().astype(int)
        assert found.shape == wanted.shape, name
        assert np.abs(found - wanted).max() <= tolerance, name


def c_api(exported, requests, threads, tmp_path):
    """Answers of c_api.py, a process without Python TensorFlow."""
    job = tmp_path / "job.json"
    job.write_text(json.dumps({"threads": threads, "requests": requests}))
    run = subprocess.run(
        [sys.executable, str(HERE / "c_api.py"), exported, str(job)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    return json.loads(run.stdout)


def test_the_c_api_that_tf_serving_loads_with(
    exported, network, images, bad_images, by_keras, tmp_path
):
    from tensorflow.core.protobuf import saved_model_pb2

    from alexnet_tf.serving import signatures

    content = pathlib.Path(exported, "saved_model.pb").read_bytes()
    graph = saved_model_pb2.SavedModel.FromString(content).meta_graphs[0]
    names = {
        name: (
            next(iter(signature.inputs.values())).name,
            {key: info.name for key, info in signature.outputs.items()},
        )
        for name, signature in graph.signature_def.items()
        if signature.inputs
    }

    def request(*files, signature="serving_default", **other):
        feed, fetches = names[signature]
        return {"input": feed, "outputs": fetches, "files": list(files), **other}

    pixels = tmp_path / "pixels.npy"
    np.save(pixels, np.asarray(Image.open(images["small.png"]))[None])
    requests = [request(path) for path in images.values()]
    requests.append(request(*images.values()))
    requests += [request(path) for path in bad_images.values()]
    requests.append(request(signature="image_tensor", npy=str(pixels)))
    last = [request(images["astronaut.jpg"], signature="features")]
    for name, value in EMPTY.items():
        if value.dtype == object:
            last.append(request(signature=name))
        else:
            np.save(tmp_path / f"{name}.npy", value)
            last.append(request(signature=name, npy=str(tmp_path / f"{name}.npy")))
    # Good and bad ones side by side from four threads, three times over.
    answers = c_api(exported, [*requests * 3, *last], 4, tmp_path)
    hidden, *nothing = answers[3 * len(requests) :]
    del answers[3 * len(requests) :]
    np.testing.assert_allclose(hidden["fc7"], _hidden(network, images["astronaut.jpg"]), atol=1e-5)
    assert len(nothing) == len(EMPTY)
    for answer in nothing:
        assert answer["code"] == 3 and signatures.NO_PICTURES in answer["message"]
    singles, bad = len(images), len(bad_images)
    for start in range(0, len(answers), len(requests)):
        part = answers[start : start + len(requests)]
        for name, answer in zip(images, part, strict=False):
            np.testing.assert_allclose(answer["probabilities"][0], by_keras[name], atol=1e-6)
            best = np.argsort(-by_keras[name], kind="stable")[:5]
            assert answer["classes"][0] == [f"thing {n}" for n in best], name
        batch = part[singles]
        assert np.shape(batch["probabilities"]) == (singles, 14)
        for row, name in zip(batch["probabilities"], images, strict=True):
            # Another batch size rounds differently too.
            np.testing.assert_allclose(row, by_keras[name], atol=1e-5, err_msg=name)
        for answer in part[singles + 1 : singles + 1 + bad]:
            assert answer["code"] == 3  # TF_INVALID_ARGUMENT
        np.testing.assert_allclose(part[-1]["probabilities"][0], by_keras["small.png"], atol=1e-6)


def test_openvino_reads_the_saved_model(exported, network, images, tmp_path):
    openvino = pytest.importorskip("openvino")
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

    from alexnet_tf.data import preprocessing

    # OpenVINO reads serving_default only and has no image decoder: a copy of the directory in which
    # the signature of the bare network carries that name. Graph and weights are as exported.
    saved = saved_model_pb2.SavedModel.FromString(
        pathlib.Path(exported, "saved_model.pb").read_bytes()
    )
    signature = saved.meta_graphs[0].signature_def
    signature["serving_default"].CopyFrom(signature["crops"])
    for name in ("crops", "features", "image_tensor"):
        del signature[name]
    shutil.copytree(os.path.join(exported, "variables"), tmp_path / "variables")
    (tmp_path / "saved_model.pb").write_bytes(saved.SerializeToString())
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(openvino.convert_model(tmp_path), "CPU", exact)
    crops = np.stack(
        [
            preprocessing.evaluation_crop(preprocessing.decode(tf.io.read_file(path)), 224)
            for path in images.values()
        ]
    )
    wanted = network.model(crops, training=False).numpy()
    np.testing.assert_allclose(compiled(crops)[0], wanted, atol=1e-5)


def test_a_bfloat16_export_agrees_and_is_half_as_large(network, exported, images, tmp_path):
    import tensorflow as tf

    from alexnet_tf.serving import export, precision

    smaller = precision.in_precision(network, "bfloat16")
    path = export.export_saved_model(
        smaller, [f"thing {n}" for n in range(14)], str(tmp_path / "m")
    )
    wanted = tf.saved_model.load(exported).signatures["serving_default"]
    found = tf.saved_model.load(path).signatures["serving_default"]
    files = tf.stack([tf.io.read_file(image) for image in images.values()])
    wanted, found = wanted(image_bytes=files), found(image_bytes=files)
    assert found["probabilities"].dtype == tf.float32
    np.testing.assert_allclose(found["probabilities"], wanted["probabilities"], atol=0.02)
    # Not equal: it really computed with 8 bits of mantissa.
    assert np.abs(found["probabilities"] - wanted["probabilities"]).max() > 1e-5
    weights = [
        os.path.getsize(os.path.join(one, "variables", "variables.data-00000-of-00001"))
        for one in (path, exported)
    ]
    assert 0.49 < weights[0] / weights[1] < 0.51
