"""The scripts in benchmarks/: README's tables are their results; peers take turns or are named."""

import importlib.util
import json
import pathlib
import subprocess
import sys

import pytest
import simplejpeg
import skimage.data

ROOT = pathlib.Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"


def _load(name):
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def tables():
    return _load("tables")


def test_readme_says_what_the_results_say(tables):
    text = tables.README.read_text(encoding="utf-8")
    assert tables.render(text, tables.RESULTS) == text, "run python benchmarks/tables.py"


def test_every_table_that_can_be_made_is_in_readme(tables):
    text = tables.README.read_text(encoding="utf-8")
    assert {f"<!-- table {name} -->" in text for name in tables.TABLES} == {True}


def test_make_bench_makes_every_table_and_writes_them_last(tables):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    recipe = makefile.split("\nbench: ")[1].split("\n\n")[0]
    commands = [line.split("/python ")[1] for line in recipe.splitlines()[1:]]
    for name in tables.TABLES:
        start = f"-m alexnet_tf.benchmark {name} "
        written = f"--output=benchmarks/results/{name}.json"
        assert f"benchmarks/{name}.py" in commands or [
            command for command in commands if command.startswith(start) and written in command
        ], name
    assert commands[-1] == "benchmarks/tables.py"
    assert all((ROOT / command).is_file() for command in commands if "-m " not in command)


def test_a_table_follows_its_file(tables, tmp_path):
    result = json.loads((tables.RESULTS / "data_prep.json").read_text())
    name = next(iter(result["pictures_per_second"]))
    result["median"][name] = 123456.0
    (tmp_path / "data_prep.json").write_text(json.dumps(result))
    text = "before\n<!-- table data_prep -->\nold\n<!-- end -->\nafter"
    made = tables.render(text, tmp_path)
    assert "123,456" in made and "old" not in made
    assert made.startswith("before\n") and made.endswith("\nafter")
    assert "Not measured yet." in tables.render(text, tmp_path / "nowhere")
    with pytest.raises(ValueError, match="no_such_table"):
        tables.render("<!-- table no_such_table -->\n<!-- end -->", tmp_path)


def test_contestants_take_turns_and_absent_ones_are_named(tmp_path):
    peers = _load("peers")
    (tmp_path / "files").mkdir()
    image = simplejpeg.encode_jpeg(skimage.data.astronaut()[:256, :256].copy(), 95)
    for number in range(3):
        (tmp_path / "files" / f"{number}.jpg").write_bytes(image)
    script = str(BENCHMARKS / "input_peers.py")
    lost = "import peers; peers.serve(lambda: __import__('no_such_peer'))"
    result = peers.compete(
        [
            peers.Entry("codec", [sys.executable, script, "libjpeg", str(tmp_path), "8"]),
            peers.Entry(
                "lost", [sys.executable, "-c", f"import sys; sys.path[:0] = ['benchmarks']; {lost}"]
            ),
        ],
        rounds=2,
    )
    assert list(result["absent"]) == ["lost"] and "no_such_peer" in result["absent"]["lost"]
    (row,) = result["rows"]
    assert row["form"] == "codec" and len(row["rate"]["runs"]) == 2
    # Fourteen batches of eight images.
    assert row["rate"]["runs"] == pytest.approx([14 * 8 / turn[0] for turn in row["seconds"]])


def test_a_contestant_that_cannot_run_here_says_why(tmp_path):
    peers = _load("peers")
    code = (
        "import sys; sys.path[:0] = ['benchmarks']; import peers\n"
        "def prepare(): raise peers.Absent('no compiler here')\n"
        "peers.serve(prepare)"
    )
    result = peers.compete([peers.Entry("lost", [sys.executable, "-c", code])], 1)
    assert result["absent"] == {"lost": "no compiler here"} and not result["rows"]


def test_rows_of_input_are_compared_by_what_they_deliver(tables):
    def row(form, rate):
        return {"form": form, "rate": {"median": rate, "least": rate, "greatest": rate, "runs": []}}

    rates = {
        "alexnet_tf, whole images": 8e3,
        "alexnet_tf, uint8 crops": 6e3,
        "FFCV, uint8 crops": 3e3,
        "alexnet_tf, float32": 4e3,
        "FFCV, float32": 2e3,
        "libjpeg-turbo alone": 16e3,
        "alexnet_tf, uint8 crops, raw records": 9e3,
        "FFCV, uint8 crops, raw records": 4.5e3,
    }
    result = {
        "rows": [row(*pair) for pair in rates.items()],
        "absent": {},
        "batch_size": 128,
        "pictures": {"count": 1, "bytes_per_picture": 30e3},
    }
    ratios = {line.split(" | ")[0]: line.split(" | ")[-1] for line in tables.input_pipeline(result)}
    assert ratios["| FFCV, uint8 crops"] == "2.00 |"
    assert ratios["| FFCV, float32"] == "2.00 |"
    assert ratios["| libjpeg-turbo alone"] == "0.50 |"
    assert ratios["| FFCV, uint8 crops, raw records"] == "2.00 |"


@pytest.mark.parametrize(
    "script", ["input_pipeline", "train_step", "small_networks", "serving", "emulated_cores"]
)
def test_scripts_explain_themselves_and_refuse_unknown_words(script):
    command = [sys.executable, str(BENCHMARKS / f"{script}.py")]
    asked = subprocess.run([*command, "--help"], capture_output=True, text=True)
    assert asked.returncode == 0 and "--output" in asked.stdout
    wrong = subprocess.run([*command, "surprise"], capture_output=True, text=True)
    assert wrong.returncode == 2 and "surprise" in wrong.stderr
    assert len(wrong.stderr.strip().splitlines()) == 1


def _measure(tables, tmp_path, script, *flags) -> tuple[dict, str]:
    """Runs a script; its result, and the table that is made of it."""
    output = tmp_path / f"{script}.json"
    command = [sys.executable, str(BENCHMARKS / f"{script}.py"), *flags, f"--output={output}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads(output.read_text())
    return result, tables.render(f"<!-- table {script} -->\n<!-- end -->", tmp_path)


@pytest.mark.slow
def test_the_input_pipeline_beside_the_bare_codec(tables, tmp_path):
    flags = ["--rounds=1", "--batch_size=8", "--nodct"]
    names = ["alexnet_tf, whole images", "alexnet_tf, uint8 crops", "libjpeg-turbo alone"]
    words = "--only=ours_whole,ours_uint8,libjpeg"
    result, table = _measure(tables, tmp_path, "input_pipeline", *flags, words)
    assert [row["form"] for row in result["rows"]] == names
    assert result["pictures"]["count"] == 160 and result["pictures"]["bytes_per_picture"] > 5e3
    assert all(f"| {name} |" in table for name in names)


@pytest.mark.slow
def test_decoding_scales_with_emulated_cores(tables, tmp_path):
    flags = ["--runs=1", "--threads=1,4", "--batch_size=16", "--milliseconds=4", "--seconds=0.2"]
    result, table = _measure(tables, tmp_path, "emulated_cores", *flags)
    one, four = (row["images_per_second"]["median"] for row in result["rows"])
    assert [row["ideal"] for row in result["rows"]] == [250, 1000]
    assert 0 < one < four  # sleeps overlap
    assert "| 16 | 4 |" in table


@pytest.mark.slow
def test_the_step_beside_stock_keras(tables, tmp_path):
    names = ["alexnet_tf", "stock Keras layers", "stock Keras layers, compiled by XLA"]
    names.append("matrix products")
    flags = ["--rounds=1", "--batch_size=2", "--only=ours,keras,keras_compiled,matrices"]
    result, table = _measure(tables, tmp_path, "train_step", *flags)
    (part,) = result["precisions"]
    assert [row["form"] for row in part["rows"]] == names
    assert 0 < part["share_of_ceiling"] < 1 and "GFLOP/s" in table


@pytest.mark.slow
def test_small_networks_beside_stock_keras(tables, tmp_path):
    """LeNet-5 alone: each peer checks that it has the published network's number of weights."""
    flags = ["--rounds=1", "--images=640", "--model=lenet5_softmax"]
    result, table = _measure(tables, tmp_path, "small_networks", *flags)
    (part,) = result["models"]
    forms = {row["form"] for row in part["rows"]}
    assert {"alexnet_tf", "stock Keras, fit", "stock Keras, fit, steps_per_execution=32"} <= forms
    assert "PyTorch" in forms | set(part["absent"])
    assert "| alexnet_tf | " in table


@pytest.mark.slow
def test_serving_beside_the_bare_model(tables, tmp_path):
    flags = ["--runs=2", "--batch_size=1", "--precision=float32"]
    result, table = _measure(tables, tmp_path, "serving", *flags)
    forms = {row["form"] for row in result["rows"]}
    assert {"bare Keras model", "SavedModel float32, crops", "decode and crop"} <= forms
    assert "PyTorch, same layers" in forms | set(result["absent"])
    assert "| bare Keras model | 1 |" in table


@pytest.mark.slow
@pytest.mark.parametrize(
    "build, parameters",
    [("torch_same_network", 60_965_224), ("torch_torchvision_network", 61_100_840)],
)
def test_pytorch_has_the_published_networks(build, parameters):
    """The peers compute as much as this package: the same number of weights, no layer forgotten."""
    torch = pytest.importorskip("torch")
    with torch.device("meta"):
        network = getattr(_load("networks"), build)(torch)
        assert network(torch.zeros(2, 3, 224, 224)).shape == (2, 1000)
    assert sum(p.numel() for p in network.parameters()) == parameters
