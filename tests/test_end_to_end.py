"""The whole road through the front doors, as a user walks it: photographs in, predictions out.

The network is the full one; the data are few and the training is one step.
"""

import json
import pathlib
import subprocess
import sys

import pytest

from alexnet_tf import train
from data_prep import convert

ROOT = pathlib.Path(__file__).parents[1]


def run(*command, code=0):
    """Runs `python ...` and returns the process; another exit code or a traceback fails."""
    done = subprocess.run(
        [sys.executable, *map(str, command)], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == code, f"{command} ended with {done.returncode}:\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done


def error_of(main, *arguments, code, capsys):
    """The one sentence on standard error of a front door that must fail.

    In this process: `main` returns the exit code, and anything that it raises fails the test.
    """
    assert main([str(argument) for argument in arguments]) == code
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("error: "), said
    return said


@pytest.fixture(scope="module")
def road(tmp_path_factory):
    """A directory in which photographs were prepared and trained on for one step."""
    root = tmp_path_factory.mktemp("road")
    run("-m", "data_prep.photos", f"--output={root}/photos", "--train=28", "--validation=14")
    run("-m", "data_prep.convert", f"--source={root}/photos", f"--output={root}/records")
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


def test_training_leaves_a_network_and_its_numbers(road):
    for name in ("config.json", "metrics.csv", "model.keras", "results.json"):
        assert (road / "run" / name).stat().st_size
    assert json.loads((road / "run" / "config.json").read_text())["replicas"] == 2
    assert json.loads((road / "run" / "results.json").read_text())["steps"] == 1


def test_tfds_alone_reads_the_records(road):
    """In a process that cannot import this package."""
    code = (
        "import sys, tensorflow_datasets as tfds; "
        f"data = tfds.builder_from_directory({str(road / 'records')!r}).as_dataset(split='train'); "
        "rows = list(data); assert len(rows) == 28; "
        "assert rows[0]['image'].shape == (256, 256, 3), rows[0]; "
        "assert not {'alexnet_tf', 'data_prep'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, cwd=road
    )
    assert done.returncode == 0, done.stderr


def test_evaluation_counts_every_picture(road):
    output = road / "evaluation.json"
    run(
        "-m",
        "alexnet_tf.evaluate",
        f"--model={road}/run",
        f"--data_dir={road}/records",
        "--crops=10",
        f"--output={output}",
    )
    results = json.loads(output.read_text())
    assert results["count"] == 14 and results["crops"] == 10
    assert 0 <= results["top5_error"] <= results["top1_error"] <= 1


def test_the_exported_network_predicts_without_us(road):
    run("-m", "alexnet_tf.export", f"--model={road}/run", f"--output={road}/served")
    picture = next((road / "photos" / "val").glob("*/*.jpg"))
    said = run(ROOT / "saved_models" / "predict_example.py", road / "served" / "1", picture).stdout
    assert "neither alexnet_tf nor Keras" in said
    local = run("-m", "alexnet_tf.predict", f"--model={road}/run", "--json", str(picture)).stdout
    best = json.loads(local)["predictions"][0]["class"]
    assert f" {best} " in said


def test_the_page_is_drawn(road):
    run(
        "-m",
        "alexnet_tf.analyze",
        "run",
        f"--workdir={road}/run",
        f"--data_dir={road}/records",
        f"--output={road}/page.png",
    )
    assert (road / "page.png").read_bytes().startswith(b"\x89PNG")


def test_a_source_without_pictures(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text" / "train" / "cat").mkdir(parents=True)
    (tmp_path / "text" / "train" / "cat" / "readme.txt").write_text("no picture")
    for source in ("missing", "empty", "text"):
        output = tmp_path / f"out-{source}"
        flags = (f"--source={tmp_path}/{source}", f"--output={output}")
        said = error_of(convert.main, *flags, code=1, capsys=capsys)
        assert str(tmp_path / source) in said
        assert not output.exists()


def test_a_picture_that_cannot_be_decoded(road, tmp_path, capsys):
    for split in ("train", "val"):
        (tmp_path / "in" / split / "cat").mkdir(parents=True)
        good = next((road / "photos" / "val").glob("*/*.jpg")).read_bytes()
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
def test_training_refuses_in_one_sentence(road, flags, code, words, capsys):
    given = {flag.split("=")[0] for flag in flags}
    defaults = [f"--data_dir={road}/records", f"--workdir={road}/run", "--batch_size=28"]
    rest = [flag for flag in defaults if flag.split("=")[0] not in given]
    before = sorted(path.name for path in (road / "run").rglob("*"))
    # Determinism is a switch of the whole process, which the other tests are not to find thrown.
    said = error_of(train.main, *flags, *rest, "--nodeterministic", code=code, capsys=capsys)
    for word in words:
        assert word in said, said
    assert sorted(path.name for path in (road / "run").rglob("*")) == before
