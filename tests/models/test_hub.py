"""hf://OWNER/NAME, through huggingface_hub's own cache: nothing is fetched."""

import json
import pathlib

import numpy as np
import pytest

import alexnet_tf
from alexnet_tf import identify
from alexnet_tf.models import hub, saved_run

pytest.importorskip("huggingface_hub")


@pytest.fixture
def repository(small_owt, tmp_path, monkeypatch):
    """A model in the cache as if it had been fetched; the folder, and its weights."""
    import huggingface_hub
    from keras.src.saving import saving_lib

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    fetch = huggingface_hub.snapshot_download
    monkeypatch.setattr(
        huggingface_hub,
        "snapshot_download",
        lambda **keywords: fetch(
            **keywords, cache_dir=str(tmp_path / "hub"), local_files_only=True
        ),
    )
    commit = "0123456789abcdef0123456789abcdef01234567"
    root = tmp_path / "hub" / "models--owner--name"
    folder = root / "snapshots" / commit
    folder.mkdir(parents=True)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(commit)
    model = alexnet_tf.build_model(small_owt)
    # What model.save("hf://owner/name") sends: the parts of a .keras file.
    saving_lib.save_model(model, folder, zipped=False)
    return folder, model.get_weights()


def test_a_network_of_the_hub_is_loaded_wherever_a_path_is(repository, capsys):
    _, weights = repository
    for model in (
        alexnet_tf.load_model("hf://owner/name"),
        saved_run.open_model("hf://owner/name").model,
    ):
        for one, other in zip(model.get_weights(), weights, strict=True):
            np.testing.assert_array_equal(one, other)
    assert identify.main(["hf://owner/name", "--noanswer"]) == 0
    assert "a network of this package" in capsys.readouterr().out


def test_a_hostile_network_of_the_hub_is_refused(repository):
    folder, _ = repository
    config = json.loads((folder / "config.json").read_text())
    layer = config["config"]["layers"][1]
    layer |= {"module": "os", "class_name": "system", "registered_name": None}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="cannot be read as a Keras model"):
        alexnet_tf.load_model("hf://owner/name")


def test_what_is_not_there_is_one_sentence(repository):
    folder, _ = repository
    pathlib.Path(folder / "metadata.json").unlink()
    for path, words in [
        ("hf://owner/name", "holds no metadata.json: expected what Keras' model.save"),
        ("hf://owner/other", r"could not be fetched \("),
        ("hf://owner", "names no network of the Hub: expected hf://OWNER/NAME"),
    ]:
        with pytest.raises(ValueError, match=words) as error:
            hub.local_file(path)
        assert "\n" not in str(error.value)
