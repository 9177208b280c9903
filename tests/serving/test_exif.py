"""A network that learned from turned images sees turned images, wherever it is used."""

import io
import json
import os

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from alexnet_tf import evaluate, evaluation, models
from alexnet_tf.data import records
from alexnet_tf.models import knowledge, saved_run
from alexnet_tf.serving import export, predictor
from data_prep import convert

SIZE = 32
NAMES = ["1 top left", "2 top right", "3 bottom left", "4 bottom right"]  # sorted


def quarter_network(facts):
    """Tells which quarter of the image is the brightest: exact, with weights set by hand."""
    inputs = keras.Input((SIZE, SIZE, 3))
    hidden = models.PixelNormalization(128.0, name="preprocessing")(inputs)
    hidden = keras.layers.Flatten()(keras.layers.AveragePooling2D(SIZE // 2)(hidden))
    dense = keras.layers.Dense(4)
    outputs = keras.layers.Softmax(name="prob")(dense(hidden))
    dense.set_weights([np.repeat(np.eye(4), 3, axis=0) / 10, np.zeros(4)])
    model = keras.Model(inputs, outputs)
    if facts:
        knowledge.write(model, {"class_names": NAMES, "image_size": SIZE, **facts})
    return model


@pytest.fixture(scope="module")
def turned_files():
    """(JPEG bytes, label): each quarter bright, stored in all eight ways that a camera is held."""
    undo = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    files = []
    for label in range(4):
        pixels = np.full((48, 48, 3), 40, np.uint8)
        row, column = divmod(label, 2)
        pixels[row * 24 : row * 24 + 24, column * 24 : column * 24 + 24] = 220
        for orientation, how in undo.items():
            stored = Image.fromarray(pixels)
            tags = Image.Exif()
            tags[0x0112] = orientation
            out = io.BytesIO()
            (stored if how is None else stored.transpose(how)).save(out, "JPEG", exif=tags)
            files.append((out.getvalue(), label))
    return files


def saved(directory, facts):
    path = str(directory / "model.keras")
    quarter_network(facts).save(path)
    return path


def errors(classifier, turned_files):
    answers = classifier([content for content, _ in turned_files])["probabilities"].argmax(1)
    return np.mean(answers != [label for _, label in turned_files])


@pytest.mark.parametrize(
    "facts, wrong", [({"apply_exif": True}, False), ({"apply_exif": False}, True), ({}, True)]
)
def test_predict_and_the_saved_model(facts, wrong, turned_files, tmp_path):
    path = saved(tmp_path, facts)
    assert (errors(predictor.open_classifier(path), turned_files) > 0) == wrong
    output = export.export_saved_model(saved_run.open_model(path), NAMES, str(tmp_path / "served"))
    assert (errors(predictor.open_classifier(output), turned_files) > 0) == wrong
    features = tf.saved_model.load(output).signatures["features"]
    found = features(image_bytes=tf.constant([turned_files[0][0], turned_files[5][0]]))["features"]
    assert np.allclose(found[0], found[1], atol=2) != wrong
    with open(os.path.join(output, export.KNOWLEDGE_FILE), encoding="utf-8") as file:
        assert json.load(file).get("apply_exif") == facts.get("apply_exif")


def test_other_people_s_records_follow_the_network(turned_files, tmp_path):
    directory = tmp_path / "records"
    directory.mkdir()
    with tf.io.TFRecordWriter(str(directory / "validation-00000-of-00001")) as writer:
        for content, label in turned_files:
            example = tf.train.Example()
            example.features.feature["image/encoded"].bytes_list.value.append(content)
            example.features.feature["image/class/label"].int64_list.value.append(label)
            writer.write(example.SerializeToString())
    (directory / "labels.txt").write_text("".join(f"{name}\n" for name in NAMES))
    view = evaluation.EvaluationSettings("validation", 1, 8)
    for apply_exif in (True, False):
        path = saved(tmp_path, {"apply_exif": apply_exif})
        result = evaluation.evaluate([path], str(directory), view)
        assert (result["top1_error"] == 0) == apply_exif
        assert result["notes"] == []


@pytest.fixture(scope="module")
def prepared(turned_files, tmp_path_factory):
    """apply_exif -> a data set that was prepared so."""
    home = tmp_path_factory.mktemp("turned")
    for number, (content, label) in enumerate(turned_files):
        for split in ("train", "val"):
            folder = home / "source" / split / NAMES[label]
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{number}.jpg").write_bytes(content)
    for name, flag in (("True", "--apply_exif"), ("False", "--noapply_exif")):
        flags = [f"--source={home}/source", f"--output={home}/{name}", f"--image_size={SIZE}", flag]
        assert convert.main([*flags, "--workers=1"]) == 0
    return {choice: str(home / str(choice)) for choice in (True, False)}


@pytest.mark.parametrize("of_data", [True, False])
@pytest.mark.parametrize("of_model", [True, False, None])
def test_converted_records_are_never_turned_again(of_model, of_data, prepared, tmp_path, capsys):
    assert records.open_dataset(prepared[of_data]).turned == of_data
    path = saved(tmp_path, {} if of_model is None else {"apply_exif": of_model})
    flags = [f"--model={path}", f"--data_dir={prepared[of_data]}", "--batch_size=8"]
    assert evaluate.main([*flags, f"--output={tmp_path}/result.json"]) == 0
    result = json.loads((tmp_path / "result.json").read_text())
    assert (result["top1_error"] == 0) == of_data
    disagree = of_model is not None and of_model != of_data
    assert len(result["notes"]) == disagree
    assert ("prepare the data with --" in capsys.readouterr().out) == disagree
