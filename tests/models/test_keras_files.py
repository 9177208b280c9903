"""Model files that are made to do harm, and those that are not."""

import base64
import contextlib
import json
import os
import pathlib
import resource
import zipfile

import h5py
import keras
import numpy as np
import pytest

import alexnet_tf
from alexnet_tf.models import keras_files


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A small network of Keras' own layers."""
    path = tmp_path_factory.mktemp("keras") / "whole.keras"
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, activation="relu", kernel_regularizer="l2")(inputs)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Dropout(0.5)(keras.layers.Flatten()(x))
    model = keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(x))
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.save(path)
    return path


def rebuilt(whole, path, config=None, weights=None, extra=(), **options):
    """The archive with another configuration, other weights or more members."""
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(path, "w", **options) as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "config.json" and config is not None:
                text = json.loads(content)
                config(text)
                content = json.dumps(text)
            if name == "model.weights.h5" and weights is not None:
                (path.parent / "w.h5").write_bytes(content)
                with h5py.File(path.parent / "w.h5", "r+") as file:
                    weights(file)
                content = (path.parent / "w.h5").read_bytes()
            new.writestr(name, content)
        for name, content in extra:
            new.writestr(name, content)
    return path


def refused(path, words):
    with pytest.raises(ValueError, match=words) as error:
        alexnet_tf.load_model(path)
    assert str(error.value).startswith(f"{path} cannot be read as a Keras model (")
    assert "\n" not in str(error.value) and len(str(error.value)) < 600


@pytest.mark.parametrize("compiled", [False, True])
def test_honest_models_of_others_load(whole, tmp_path, compiled):
    model = alexnet_tf.load_model(whole, compile=compiled)
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)
    np.testing.assert_array_equal(model(x), keras.models.load_model(whole)(x))
    assert compiled == (getattr(model, "optimizer", None) is not None)
    again = rebuilt(whole, tmp_path / "again.keras", lambda config: None, lambda file: None)
    np.testing.assert_array_equal(alexnet_tf.load_model(again)(x), model(x))


def test_a_network_of_keras_applications_loads(tmp_path):
    model = keras.applications.MobileNetV2((32, 32, 3), alpha=0.35, weights=None, classes=3)
    model.save(tmp_path / "a.keras")
    again = alexnet_tf.load_model(tmp_path / "a.keras")
    assert again.count_params() == model.count_params()


def test_every_variant_can_be_loaded(tmp_path):
    for name in alexnet_tf.list_models():
        shape = {} if name.startswith(("lenet", "cifar")) else {"input_shape": (79, 79, 3)}
        model = alexnet_tf.build_model(name, include_top=False, **shape)
        model.save(tmp_path / "a.keras")
        assert alexnet_tf.load_model(tmp_path / "a.keras").count_params() == model.count_params()


def test_layers_of_ones_own_load_when_they_are_registered(tmp_path):
    @keras.saving.register_keras_serializable(package="mine")
    class Twice(keras.layers.Layer):
        def call(self, x):
            return 2 * x

    inputs = keras.Input((4,))
    keras.Model(inputs, Twice()(inputs)).save(tmp_path / "a.keras")
    assert alexnet_tf.load_model(tmp_path / "a.keras")(np.ones((1, 4)))[0, 0] == 2
    keras.saving.get_custom_objects().pop("mine>Twice")
    refused(tmp_path / "a.keras", r"a Twice of .*\(mine>Twice\).*import the module")


def with_layer(entry):
    """Puts an object into the configuration, where Keras would make it."""

    def change(config):
        layers = config["config"]["layers"]
        next(layer for layer in layers if layer["class_name"] == "Flatten").update(entry)

    return change


HOSTILE = {
    "lambda": {"module": "keras.layers", "class_name": "Lambda", "config": {"name": "flatten"}},
    "torch": {"module": "keras.layers", "class_name": "TorchModuleWrapper"},
    "saved model": {"module": "keras.layers", "class_name": "TFSMLayer"},
    "vocabulary": {"module": "keras.layers", "class_name": "StringLookup"},
    "operating system": {"module": "os", "class_name": "system"},
    "download": {"module": "keras.utils", "class_name": "get_file"},
    "switch": {"module": "keras.config", "class_name": "enable_unsafe_deserialization"},
    "other module of ours": {"module": "alexnet_tf.train", "class_name": "main"},
    "number": {"module": "keras.layers", "class_name": 7},
    "list": {"module": ["keras.layers"], "class_name": "Flatten"},
    "function": {"module": "builtins", "class_name": "function", "config": "exec"},
    # Names that Keras understands before it looks for what is registered.
    "disguised function": {
        **{"module": "os", "class_name": "function", "config": "getcwd"},
        "registered_name": "alexnet_tf>GroupedConv2D",
    },
    "disguised lambda": {
        **{"module": "builtins", "class_name": "__lambda__"},
        "registered_name": "alexnet_tf>GroupedConv2D",
    },
    "layer without a module": {"module": None, "class_name": "Lambda"},
    "function of a module": {"module": "os", "class_name": "function", "config": "getcwd"},
}


@pytest.mark.parametrize("how", HOSTILE)
def test_objects_that_no_image_network_has_are_refused(whole, tmp_path, how):
    path = rebuilt(whole, tmp_path / "a.keras", with_layer(HOSTILE[how]))
    refused(path, "which is neither one of Keras' layers of image networks nor registered")


def test_code_in_a_lambda_is_not_run(whole, tmp_path, capsys):
    code = base64.b64encode(b"print('run!')").decode()
    config = {"function": {"class_name": "__lambda__", "config": {"code": code}}}
    path = rebuilt(whole, tmp_path / "a.keras", with_layer({**HOSTILE["lambda"], "config": config}))
    refused(path, "Lambda")
    assert "run!" not in capsys.readouterr().out


def test_objects_inside_others_are_looked_at(whole, tmp_path):
    def nested(config):
        layers = config["config"]["layers"]
        layers[1]["config"]["kernel_regularizer"] = HOSTILE["operating system"]

    refused(rebuilt(whole, tmp_path / "a.keras", nested), "a system of os")

    def compiled(config):
        config["compile_config"]["loss"] = HOSTILE["operating system"]

    path = rebuilt(whole, tmp_path / "b.keras", compiled)
    alexnet_tf.load_model(path)  # what is compiled is not looked at, and not made
    with pytest.raises(ValueError, match="a system of os"):
        alexnet_tf.load_model(path, compile=True)


def test_a_network_of_more_numbers_than_the_file_is_not_made(whole, tmp_path):
    def wide(config):
        config["config"]["layers"][-1]["config"]["units"] = 10**9

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(rebuilt(whole, tmp_path / "a.keras", wide), "describes a network of more numbers")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kB


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"[]", "is no object"),
        (b"7", "is no object"),
        (b"{", "Expecting"),
        (b"\xff", "decode"),
        (b"[" * 100_000, "recursion|nested"),
        (b'{"a":' + b"[" * 200 + b"]" * 200 + b"}", "nested deeper than 100"),
        (b"{}", "."),
        (b'{"class_name": "Functional"}', "."),
        (b'{"class_name": "Functional", "module": "keras", "config": 5}', "."),
        (b'{"class_name": "Functional", "module": "keras", "config": {"layers": 5}}', "."),
    ],
)
def test_a_damaged_configuration_is_one_sentence(whole, tmp_path, text, words):
    path = tmp_path / "a.keras"
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            new.writestr(name, text if name == "config.json" else old.read(name))
    refused(path, words)


def test_archives_hold_what_keras_writes_and_no_more(whole, tmp_path):
    for name in ("../outside", "/etc/x", "assets/vocabulary.txt", "model.weights.npz"):
        refused(rebuilt(whole, tmp_path / "a.keras", extra=[(name, b"x")]), "has a member")
    with pytest.warns(UserWarning, match="Duplicate"):
        path = rebuilt(whole, tmp_path / "a.keras", extra=[("config.json", b"{}")])
    refused(path, "member 'twice'")
    packed = rebuilt(whole, tmp_path / "a.keras", compression=zipfile.ZIP_DEFLATED)
    refused(packed, "is compressed")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", b"{}")
    refused(path, r"no model\.weights\.h5")


def external_link(file):
    file["layers/dense/stolen"] = h5py.ExternalLink("/etc/passwd", "/")


def soft_link(file):
    file["layers/dense/again"] = h5py.SoftLink("/layers")


def external_data(file):
    del file["layers/dense/vars/1"]
    file.create_dataset(
        "layers/dense/vars/1", (3,), "f4", external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)]
    )


def virtual_data(file):
    del file["layers/dense/vars/1"]
    layout = h5py.VirtualLayout((3,), "f4")
    layout[:] = h5py.VirtualSource("/tmp/other.h5", "x", (3,))
    file.create_virtual_dataset("layers/dense/vars/1", layout)


def huge(file):
    del file["layers/dense/vars/1"]
    file.create_dataset("layers/dense/vars/1", (10**12,), "f4", chunks=(1000,))


def bomb(file):
    zeros = np.zeros((1000, 10_000), "f4")
    file.create_dataset("layers/dense/vars/2", data=zeros, compression="gzip")


def text(file):
    file["layers/dense/vars/2"] = "text"


def objects(file):
    file["layers/dense/vars/2"] = np.zeros(2, [("a", "f4"), ("b", "i4")])


def nothing(file):
    file["layers/dense/vars/2"] = h5py.Empty("f4")


def a_type(file):
    file["layers/dense/vars/2"] = np.dtype("f4")


WEIGHTS = [
    (external_link, "a link stolen"),
    (soft_link, "a link again"),
    (external_data, "in another file"),
    (virtual_data, "in another file"),
    (huge, "more numbers than the file holds"),
    (bomb, "more numbers than the file holds"),
    (text, "no numbers"),
    (objects, "no numbers"),
    (nothing, "a Dataset 2"),
    (a_type, "a Datatype 2"),
]


@pytest.mark.parametrize(("change", "words"), WEIGHTS)
def test_weights_are_plain_numbers_of_the_file(whole, tmp_path, change, words):
    path = rebuilt(whole, tmp_path / "a.keras", weights=change)
    refused(path, words)
    # The same in a file of weights alone.
    os.rename(tmp_path / "w.h5", tmp_path / "a.weights.h5")
    with pytest.raises(ValueError, match=words):
        alexnet_tf.LeNet5(weights=tmp_path / "a.weights.h5")


def test_a_circle_of_groups_ends(whole, tmp_path):
    def circle(file):
        file["layers/dense/again"] = file["layers"]

    path = rebuilt(whole, tmp_path / "a.keras", weights=circle)
    assert keras_files.require_harmless(path) > 0


def test_bfloat16_weights_are_numbers(tmp_path):
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(3, dtype="bfloat16")(inputs))
    model.save(tmp_path / "a.keras")
    again = alexnet_tf.load_model(tmp_path / "a.keras")
    np.testing.assert_array_equal(again.get_weights()[0], model.get_weights()[0])


def test_whatever_is_flipped_or_cut_is_read_or_refused(whole, tmp_path):
    content = pathlib.Path(whole).read_bytes()
    rng = np.random.default_rng(0)
    path, refusals = tmp_path / "a.keras", 0
    for number in range(60):
        changed = bytearray(content)
        for place in rng.integers(len(content), size=1 + number % 8):
            changed[place] = rng.integers(256)
        path.write_bytes(changed[: rng.integers(len(content))] if number % 4 == 0 else changed)
        with contextlib.suppress(ValueError):
            alexnet_tf.load_model(path)
            refusals -= 1
        refusals += 1
    assert refusals > 20
