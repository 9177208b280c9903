"""The commands from end to end: photographs in, predictions out.

The network is the full one; the data are few and the training is one step.
"""

import json
import pathlib
import subprocess
import sys

import pytest

from alexnet_tf import analyze, evaluate, export, predict, train
from data_prep import convert, photos

ROOT = pathlib.Path(__file__).parents[1]


def run(*command):
    """Runs `python ...` and returns its standard output; an exit code or a traceback fails."""
    done = subprocess.run(
        [sys.executable, *map(str, command)], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done.stdout


def error_of(main, *arguments, code, capsys):
    """The one sentence on standard error of a command that must fail.

    In this process: `main` returns the exit code, and anything that it raises fails the test.
    """
    assert main([str(argument) for argument in arguments]) == code
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("error: "), said
    return said


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A directory in which photographs were prepared and trained on for one step."""
    root = tmp_path_factory.mktemp("root")
    assert photos.main([f"--output={root}/photos", "--train=28", "--validation=14"]) == 0
    assert convert.main([f"--source={root}/photos", f"--output={root}/records"]) == 0
    # In a process of its own: determinism is a switch of the whole process.
    run(
        "-m",
        "alexnet_tf.train",
        "--strategy=mirrored",
        "--recipe=quickstart",
        "--epochs=1",
        "--batch_size=28",
        f"--data_dir={root}/records",
        f"--workdir={root}/run",
    )
    return root


def test_training_leaves_a_network_and_its_numbers(root):
    for name in ("config.json", "metrics.csv", "model.keras", "results.json"):
        assert (root / "run" / name).stat().st_size
    assert json.loads((root / "run" / "config.json").read_text())["replicas"] == 2
    assert json.loads((root / "run" / "results.json").read_text())["steps"] == 1


def test_tfds_alone_reads_the_records(root):
    """In a process that cannot import this package."""
    code = (
        "import sys, tensorflow_datasets as tfds; "
        f"data = tfds.builder_from_directory({str(root / 'records')!r}).as_dataset(split='train'); "
        "rows = list(data); assert len(rows) == 28; "
        "assert rows[0]['image'].shape == (256, 256, 3), rows[0]; "
        "assert not {'alexnet_tf', 'data_prep'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, cwd=root
    )
    assert done.returncode == 0, done.stderr


def test_evaluation_counts_every_image(root):
    output = root / "evaluation.json"
    flags = [f"--data_dir={root}/records", "--crops=10", f"--output={output}"]
    assert evaluate.main([f"--model={root}/run", *flags]) == 0
    results = json.loads(output.read_text())
    assert results["count"] == 14 and results["crops"] == 10
    assert 0 <= results["top5_error"] <= results["top1_error"] <= 1


def test_the_exported_network_predicts_without_us(root, capsys):
    assert export.main([f"--model={root}/run", f"--output={root}/served"]) == 0
    image = next((root / "photos" / "val").glob("*/*.jpg"))
    said = run(ROOT / "saved_models" / "predict_example.py", root / "served" / "1", image)
    assert "neither alexnet_tf nor Keras" in said
    capsys.readouterr()
    assert predict.main([f"--model={root}/run", "--json", str(image)]) == 0
    best = json.loads(capsys.readouterr().out)["predictions"][0]["class"]
    assert f" {best} " in said


def test_the_page_is_drawn(root):
    flags = [
        f"--workdir={root}/run",
        f"--data_dir={root}/records",
        f"--output={root}/page.png",
    ]
    assert analyze.main(["run", *flags]) == 0
    assert (root / "page.png").read_bytes().startswith(b"\x89PNG")


def test_a_source_without_images(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text" / "train" / "cat").mkdir(parents=True)
    (tmp_path / "text" / "train" / "cat" / "readme.txt").write_text("no image")
    for source in ("missing", "empty", "text"):
        output = tmp_path / f"out-{source}"
        flags = (f"--source={tmp_path}/{source}", f"--output={output}")
        said = error_of(convert.main, *flags, code=1, capsys=capsys)
        assert str(tmp_path / source) in said
        assert not output.exists()


def test_an_image_that_cannot_be_decoded(root, tmp_path, capsys):
    for split in ("train", "val"):
        (tmp_path / "in" / split / "cat").mkdir(parents=True)
        good = next((root / "photos" / "val").glob("*/*.jpg")).read_bytes()
        (tmp_path / "in" / split / "cat" / "good.jpg").write_bytes(good)
    (tmp_path / "in" / "train" / "cat" / "bad.jpg").write_bytes(good[: len(good) // 3][:200])
    output = tmp_path / "out"
    flags = (f"--source={tmp_path}/in", f"--output={output}")
    said = error_of(convert.main, *flags, code=1, capsys=capsys)
    assert "bad.jpg" in said and "--max_bad" in said
    assert not (output / "dataset_info.json").exists()


@pytest.mark.parametrize(
    "flags,code,words",
    [
        (["--strategy=nonsense"], 2, ["nonsense", "mirrored"]),
        (["--recipe=nonsense"], 2, ["nonsense", "quickstart"]),
        (["--precision=float8"], 2, ["float8", "mixed_bfloat16"]),
        (["--epochs=many"], 2, ["epochs", "many"]),
        (["--checkpoint_every=soon"], 2, ["soon", "10m"]),
        (["--strategy=mirrored", "--batch_size=7"], 2, ["7", "2 replicas"]),
        (["--data_dir=/no/such/directory"], 1, ["/no/such/directory", "data_prep.convert"]),
        (["--batch_size=64"], 1, ["28", "64", "--batch_size"]),
        (["--model=nonsense"], 1, ["nonsense", "alexnet"]),
        (["--recipe=quickstart", "--epochs=3"], 1, ["epochs was 1 and is 3", "--workdir"]),
        (["--recipe=quickstart", "--model=caffenet"], 1, ["caffenet", "--workdir"]),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else None,
)
def test_training_refuses_in_one_sentence(root, flags, code, words, capsys):
    given = {flag.split("=")[0] for flag in flags}
    defaults = [f"--data_dir={root}/records", f"--workdir={root}/run", "--batch_size=28"]
    rest = [flag for flag in defaults if flag.split("=")[0] not in given]
    before = sorted(path.name for path in (root / "run").rglob("*"))
    # Determinism is a switch of the whole process, which the other tests are not to find thrown.
    said = error_of(train.main, *flags, *rest, "--nodeterministic", code=code, capsys=capsys)
    for word in words:
        assert word in said, said
    assert sorted(path.name for path in (root / "run").rglob("*")) == before
