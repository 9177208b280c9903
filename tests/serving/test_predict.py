"""`python -m alexnet_tf.predict`: the same answers from every kind of model, one bad file alone."""

import io
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from alexnet_tf import predict as predict_command


@pytest.fixture
def folder(images, tmp_path):
    """A directory with two photographs, one of them deeper."""
    (tmp_path / "in" / "deeper").mkdir(parents=True)
    shutil.copy(images["astronaut.jpg"], tmp_path / "in" / "b.jpg")
    shutil.copy(images["grey.png"], tmp_path / "in" / "deeper" / "a.PNG")
    (tmp_path / "in" / "notes.txt").write_text("no image")
    return tmp_path / "in"


def predict(capsys, *arguments):
    code = predict_command.main([*arguments, "--json"])
    captured = capsys.readouterr()
    return code, [json.loads(line) for line in captured.out.splitlines()], captured.err


def assert_same(ours, theirs):
    """Classes equal; scores to 1e-5: a batch of another size is summed in another order, which
    moves a probability by up to 3e-6 on some processors."""
    ours, theirs = ours["predictions"], theirs["predictions"]
    assert [p["class"] for p in ours] == [p["class"] for p in theirs]
    scores = [[p["score"] for p in one] for one in (ours, theirs)]
    np.testing.assert_allclose(*scores, rtol=0, atol=1e-5)


def test_model_file_and_saved_model_say_the_same(workdir, exported, images, bad_images, capsys):
    mixed = [*list(images.values())[:3], bad_images["cut.jpg"], *list(images.values())[3:]]
    mixed.insert(0, bad_images["bomb.png"])
    answers = []
    for model in (str(workdir), str(workdir / "model.keras"), exported, os.path.dirname(exported)):
        code, lines, err = predict(capsys, f"--model={model}", *mixed)
        assert code == 1 and err.count("error: ") == 2
        assert [line["file"] for line in lines] == mixed
        answers.append(lines)
    good = [[line for line in lines if "predictions" in line] for lines in answers]
    assert [len(lines) for lines in good] == [len(images)] * 4
    for one in good[1:]:
        for ours, theirs in zip(good[0], one, strict=True):
            assert_same(ours, theirs)
    errors = [line["error"] for line in answers[0] if "error" in line]
    assert "100000 100000" in errors[0] and "Invalid JPEG data" in errors[1]
    assert errors == [line["error"] for line in answers[2] if "error" in line]


def test_files_directories_globs_and_standard_input(exported, folder, images, capsys, monkeypatch):
    model = f"--model={exported}"
    code, lines, _ = predict(capsys, model, str(folder))
    assert code == 0
    assert [os.path.relpath(line["file"], folder) for line in lines] == ["b.jpg", "deeper/a.PNG"]
    code, globbed, _ = predict(capsys, model, str(folder / "**" / "*.PNG"))
    assert code == 0 and len(globbed) == 1
    assert_same(globbed[0], lines[1])
    with open(images["astronaut.jpg"], "rb") as file:
        stdin = io.TextIOWrapper(io.BytesIO(file.read()))
    monkeypatch.setattr(sys, "stdin", stdin)
    code, piped, _ = predict(capsys, model, "-")
    assert (code, piped[0]["file"]) == (0, "-")
    assert_same(piped[0], lines[0])


def test_the_table_shows_five_classes_and_their_probabilities(exported, images, capsys):
    assert predict_command.main([f"--model={exported}", images["astronaut.jpg"]]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == images["astronaut.jpg"] and len(lines) == 6
    shares = [float(line.split("%")[0]) for line in lines[1:]]
    assert shares == sorted(shares, reverse=True) and 0 < sum(shares) <= 100.1
    assert all(line.split("%")[1].strip().startswith("thing ") for line in lines[1:])


def test_the_panel_shows_the_images_that_could_be_read(
    exported, images, bad_images, tmp_path, capsys
):
    from PIL import Image

    files = [images["astronaut.jpg"], bad_images["cut.jpg"], images["grey.png"]]
    panel = str(tmp_path / "panel.png")
    code, lines, err = predict(capsys, f"--model={exported}", f"--plot={panel}", *files)
    assert (code, len(lines)) == (1, 3) and "Drawn: 2 of 3 images" in err
    pixels = np.asarray(Image.open(panel).convert("RGB")).reshape(-1, 3).astype(int)
    # The orange of the astronaut's suit is there, which no bar or text has.
    assert (np.abs(pixels - [226, 100, 60]).max(1) < 25).sum() > 500


def test_more_images_than_a_batch_with_a_bad_one_in_the_middle():
    from alexnet_tf.serving import predictor
    from alexnet_tf.serving.classifier import ImageError

    sizes = []

    def classifier(files):
        sizes.append(len(files))
        if b"bad" in files:
            raise ImageError("it is bad")
        ones = np.ones((len(files), 1), np.float32)
        return {
            "classes": np.array([[file] for file in files]),
            "scores": ones,
            "probabilities": ones,
        }

    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        paths = []
        for number in range(70):
            paths.append(os.path.join(directory, f"{number:03d}"))
            with open(paths[-1], "wb") as file:
                file.write(b"bad" if number == 40 else b"%d" % number)
        paths.insert(5, os.path.join(directory, "missing"))
        found = list(predictor.predict(classifier, paths))
    assert [p.source for p in found] == paths
    assert [p.error for p in found if p.error] == ["No such file or directory", "it is bad"]
    named = [p.classes[0] for p in found if not p.error]
    assert named == [str(n) for n in range(70) if n != 40]
    assert max(sizes) == 32


def test_bad_input_ends_with_one_sentence(workdir, exported, images, tmp_path, capsys):
    empty = tmp_path / "empty"
    empty.mkdir()
    labels = tmp_path / "labels.txt"
    labels.write_text("a\nb\n")
    image = images["grey.jpg"]
    cases = [
        ([image], 2, "--model is missing"),
        ([f"--model={workdir}"], 2, "No image is named"),
        ([f"--model={workdir}", str(empty)], 1, "holds no image"),
        ([f"--model={workdir}", str(tmp_path / "*.jpg")], 1, "There is no image"),
        ([f"--model={tmp_path}/none", image], 1, "There is no model"),
        ([f"--model={empty}", image], 1, "holds no model.keras"),
        ([f"--model={exported}", f"--labels={labels}", image], 1, "holds its class names"),
        ([f"--model={workdir}", f"--labels={labels}", image], 1, "has 2 names"),
    ]
    for flags, wanted, sentence in cases:
        code = predict_command.main(flags)
        err = capsys.readouterr().err.strip().splitlines()
        assert (code, sentence in err[-1]) == (wanted, True), (flags, code, err)
        assert not any("Traceback" in line for line in err), flags


def test_a_saved_model_is_used_without_keras(exported, images, without):
    program = without("keras") + (
        "from alexnet_tf import predict\n"
        "code = predict.main(sys.argv[1:])\n"
        "assert not [m for m in sys.modules if m.split('.')[0] == 'keras']\n"
        "sys.exit(code)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, f"--model={exported}", images["astronaut.jpg"]],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-1500:]
    assert run.stdout.count("thing ") == 5


def test_what_is_no_regular_file_fails_alone_and_is_not_waited_for(exported, folder, capsys):
    os.mkfifo(folder / "z.jpg")
    (folder / "gone.jpg").symlink_to("nothing.jpg")
    for arguments in ([str(folder)], [f"{folder}/*.jpg", f"{folder}/deeper"]):
        code, lines, err = predict(capsys, f"--model={exported}", *arguments)
        assert code == 1 and err.count("error: ") == 2
        answers = {os.path.basename(line["file"]): line for line in lines}
        assert sorted(answers) == ["a.PNG", "b.jpg", "gone.jpg", "z.jpg"]
        assert answers["z.jpg"]["error"] == "This is no regular file"
        assert answers["gone.jpg"]["error"] == "No such file or directory"
        assert "predictions" in answers["a.PNG"] and "predictions" in answers["b.jpg"]
    code, [line], _ = predict(capsys, f"--model={exported}", str(folder / "z.jpg"))
    assert code == 1 and line["error"] == "This is no regular file"


def test_a_name_that_is_no_text_is_printed_with_escapes(exported, folder, capsys):
    os.rename(folder / "b.jpg", os.path.join(os.fsencode(folder), b"b_\xff.jpg"))
    assert predict_command.main([f"--model={exported}", str(folder)]) == 0
    assert f"{folder}/b_\\udcff.jpg" in capsys.readouterr().out
