"""What the documents say was measured of the networks is what the files of results say."""

import importlib
import json
import pathlib
import re
import subprocess
import sys

import pytest

from alexnet_tf.experiments import published, results

ROOT = pathlib.Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"


@pytest.fixture
def measured(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("measured")


@pytest.fixture
def runs(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("runs")


def test_the_documents_say_what_the_results_say(measured):
    for document, columns in measured.DOCUMENTS.items():
        text = document.read_text(encoding="utf-8")
        made = measured.render(text, measured.RESULTS, columns)
        assert made == text and "0.72 %" in text, "run python benchmarks/measured.py"
    text = measured.DOCUMENT.read_text(encoding="utf-8")
    for file in measured.RESULTS.glob("lenet5_*.json"):
        assert file.name in text


def test_results_name_their_circumstances_and_no_place_of_this_machine(measured):
    for file in measured.RESULTS.glob("*.json"):
        text = file.read_text(encoding="utf-8")
        assert not re.search(r'"([^"]*[ =,])?/\w', text), file.name
        assert "machine" in json.loads(text), file.name
    for file in [*measured.RESULTS.glob("lenet5_*"), *measured.RESULTS.glob("quickstart.json")]:
        if file.suffix == ".json":
            result = json.loads(file.read_text(encoding="utf-8"))
            assert {"machine", "versions", "git_commit", "recipe"} <= set(result), file.name


def test_a_table_follows_its_files(measured, tmp_path):
    one = json.loads((measured.RESULTS / "lenet5_mnist.json").read_text(encoding="utf-8"))
    one["test_error"] = 0.1234
    (tmp_path / "lenet5_mnist.json").write_text(json.dumps(one))
    one["data"] = "fashion_mnist"
    (tmp_path / "lenet5_fashion_mnist.json").write_text(json.dumps(one))
    made = measured.render("a\n<!-- measured -->\nold\n<!-- end -->\nb", tmp_path)
    rows = [line for line in made.splitlines() if line.startswith("| LeNet")]
    assert made.startswith("a\n") and made.endswith("\nb") and "old" not in made
    assert len(rows) == 2 and all("12.34 %" in row for row in rows)
    # A published number stands only beside one that was measured on the same data.
    assert "0.95 %" in rows[0] and "none that is comparable" in rows[1]
    measured.draw(tmp_path)
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["lenet5.png"]


def _row(text, value, measured):
    claim = published.Claim(text, value, published.CIFAR10, "[P]")
    return results.ClaimRow(claim, measured, published.CIFAR10, (0,), "a spread", "a note")


def test_what_reproduce_found_is_kept_and_comes_first(measured, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = {"recipe": {"epochs": 8}, "training_seconds": [120.0]}
    found = {
        "fig1": results.Result((_row("ReLU", "6 times", "2.00 times"),), {}, (("a", "a.png"),)),
        "fig1_conditions": results.Result((_row("the same: He's", "6 times", "1.00 times"),)),
        "cifar10": results.Result(
            (_row("without", "13 %", "21.0 % with one view"), _row("with", "11 %", "19.0 %")),
            {"cifarnet_no_norm": model, "cifarnet": model},
            (("b", "a.png"),),
        ),
        "ablations": results.Result((_row("columns", "+1.7", "top-1 +0.3"),)),
    }
    content = {"data": "CIFAR-10", "scale": "small", "machine": {"processor": "x"}, "skipped": {}}
    content |= {
        name: {"seeds": [0], "command": "c", "finding": one.to_json()}
        for name, one in found.items()
    }
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "results.json").write_text(json.dumps(content))
    (tmp_path / "work" / "a.png").write_bytes(b"png")
    keep = importlib.import_module("keep")
    kept = {"fig1": "fig1_cifar10", "fig1_conditions": "fig1_conditions", "cifar10": "cifar10_8"}
    kept["ablations"] = "ablations_cifar10"
    (tmp_path / "results").mkdir()
    for experiment, name in kept.items():
        flags = ["--workdir=work", f"--experiment={experiment}", f"--name={name}"]
        assert keep.main([*flags, "--results=results", "--note=shared"]) == 0
    assert keep.main([*flags[:1], "--experiment=fig3", "--name=a", "--results=results"]) == 1
    one = json.loads((tmp_path / "results" / "cifar10_8.json").read_text(encoding="utf-8"))
    assert set(one) == {"data", "scale", "machine", "cifar10", "note"}
    assert (tmp_path / "results" / "fig1_cifar10.png").read_bytes() == b"png"
    made = measured.render("<!-- measured -->\n<!-- end -->", tmp_path / "results")
    rows = made.splitlines()[4:9]
    assert "2.00 times" in rows[0] and "Figure 1, the same: He's" in rows[1]
    assert "`cifarnet_no_norm`: without | 13 % | 21.0 % with one view (8 epochs of" in rows[2]
    assert "`cifarnet`: with | 11 %" in rows[3] and "8 epochs, 2.0 minutes" in rows[3]
    assert "columns | +1.7, on CIFAR-10 | top-1 +0.3, on CIFAR-10" in rows[4]


def test_commands_keep_no_place(runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["--recipe=lenet5", f"--data_dir={tmp_path}/mnist", "--workdir=/elsewhere/runs/a"]
    wanted = "python -m alexnet_tf.train --recipe=lenet5 --data_dir=mnist --workdir=a"
    assert runs.command("alexnet_tf.train", *words) == wanted


def test_the_spread_over_seeds_is_the_sample_standard_deviation(runs):
    found = runs.mean_and_spread([0.1, 0.2, 0.6])
    assert found["mean"] == pytest.approx(0.3)
    assert found["standard_deviation"] == pytest.approx((0.14 / 2) ** 0.5)
    assert (found["least"], found["greatest"]) == (0.1, 0.6)
    assert runs.mean_and_spread([0.1])["standard_deviation"] is None


@pytest.mark.slow
def test_three_seeds_are_trained_once_and_scored(measured, photo_records, tmp_path):
    script = [sys.executable, str(BENCHMARKS / "quickstart.py"), f"--data_dir={photo_records}"]
    script += ["--workdir=seeds", "--seeds=0,1", "--results=results"]
    # One step of a quarter of the recipe's crop.
    script += ["--", "--epochs=1", "--batch_size=96", "--crop_size=96"]
    done = subprocess.run(script, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    path = tmp_path / "results" / "quickstart.json"
    result = json.loads(path.read_text(encoding="utf-8"))
    assert result["seeds"] == [0, 1] and result["pictures"] == {"train": 96, "validation": 42}
    errors = [run["top1_error_1_crop"] for run in result["runs"]]
    assert result["top1_error_1_crop"]["mean"] == pytest.approx(sum(errors) / 2)
    assert str(tmp_path) not in path.read_text(encoding="utf-8")
    assert "--workdir=seeds/seed1 --seed=1" in result["runs"][1]["command"]
    assert (tmp_path / "results" / "quickstart.png").stat().st_size > 1000
    network = tmp_path / "seeds" / "seed0" / "model.keras"
    before = network.stat().st_mtime_ns
    again = subprocess.run(script, capture_output=True, text=True, cwd=tmp_path)
    assert again.returncode == 0, again.stderr[-3000:]
    assert network.stat().st_mtime_ns == before
    assert json.loads(path.read_text(encoding="utf-8"))["runs"] == result["runs"]
    made = measured.render("<!-- measured -->\n<!-- end -->", tmp_path / "results")
    assert "seeds 0, 1: " in made and "standard deviation" in made
