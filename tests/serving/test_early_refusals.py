"""What cannot end well is refused before the work: outputs, and data that is not prepared."""

import os

import numpy as np
import pytest
from PIL import Image

from alexnet_tf import export, predict, train
from alexnet_tf.data import unprepared


def _error(capsys):
    out, err = capsys.readouterr()
    assert not out
    (line,) = err.strip().splitlines()
    return line


@pytest.mark.parametrize("name", ["x.gif", "x", "missing/../x.jpg"])
def test_a_plot_of_another_kind_is_refused_before_the_model_is_read(name, tmp_path, capsys):
    given = [f"--model={tmp_path}/none.keras", f"--plot={tmp_path}/{name}", "photo.jpg"]
    assert predict.main(given) == 1
    assert "expected one that ends in .png" in _error(capsys)


def test_a_plot_that_cannot_be_written_is_refused_before_the_model_is_read(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    given = [f"--model={tmp_path}/none.keras", f"--plot={tmp_path}/file/x.pdf", "photo.jpg"]
    assert predict.main(given) == 1
    assert "file/x.pdf cannot be written" in _error(capsys)


def test_an_export_under_a_wrong_name_is_refused_before_the_model_is_read(tmp_path, capsys):
    given = [f"--model={tmp_path}/none.keras", "--format=onnx", f"--output={tmp_path}/alexnet"]
    assert export.main(given) == 1
    said = _error(capsys)
    assert "should end in .onnx" in said and f"such as {tmp_path}/alexnet.onnx" in said
    (tmp_path / "file").write_text("")
    assert export.main([f"--model={tmp_path}/none.keras", f"--output={tmp_path}/file/a"]) == 1
    assert "cannot be written" in _error(capsys)


@pytest.fixture(params=[("cats", "dogs"), ("train/cats", "val/cats")], ids=["classes", "splits"])
def photographs(request, tmp_path):
    folder = tmp_path / "my photos"
    for number, name in enumerate(request.param):
        (folder / name).mkdir(parents=True)
        Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(folder / name / "1.JPG", "JPEG")
    return str(folder), "train" in request.param[0]


def test_a_folder_of_images_is_answered_with_the_command_that_prepares_it(
    photographs, tmp_path, capsys
):
    folder, has_splits = photographs
    share = "" if has_splits else " --validation_share=0.1"
    assert unprepared.advice(folder) == (
        f"{folder} is a folder of images and no prepared data set. Prepare one, once: "
        f"`python -m data_prep.convert --source='{folder}' --output='{folder}_records'{share}`; "
        f"then name it: --data_dir='{folder}_records'."
    )
    given = [f"--workdir={tmp_path}/run", f"--data_dir={folder}", "--nodeterministic"]
    assert train.main(given) == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said == f"error: {unprepared.advice(folder)}"
    assert not os.path.exists(tmp_path / "run" / "config.json")


def test_other_folders_get_no_such_advice(tmp_path):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("")
    assert unprepared.advice(str(tmp_path)) is None
