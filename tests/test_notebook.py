"""The Colab notebook runs from top to bottom; what is stored in it is small and whole."""

import importlib.util
import json
import pathlib
import shutil

import pytest

ROOT = pathlib.Path(__file__).parents[1]
NOTEBOOK = ROOT / "notebooks" / "alexnet_colab.ipynb"
SMALLEST_NETWORK = 200_000_000  # bytes: 60 million float32 are 240


def _code(notebook: dict) -> list[dict]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def _text(cell: dict) -> str:
    return "".join("".join(out.get("text", "")) for out in cell["outputs"])


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """(the notebook with outputs, the directory it ran in)."""
    spec = importlib.util.spec_from_file_location("execute", ROOT / "notebooks" / "execute.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    where = tmp_path_factory.mktemp("notebook")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(where)
        module.execute(str(NOTEBOOK), "out.ipynb")
    yield json.loads((where / "out.ipynb").read_text(encoding="utf-8")), where / "alexnet_run"
    shutil.rmtree(where)  # checkpoints and networks, 2.5 GB that pytest would keep for three runs


@pytest.mark.slow
def test_it_runs_from_top_to_bottom_and_leaves_what_it_says(executed):
    """nbclient raises where a cell raises; the files show that the cells did their work."""
    notebook, run = executed
    numbers = [cell["execution_count"] for cell in _code(notebook)]
    assert numbers == list(range(1, len(numbers) + 1))
    for network in (run / "run" / "model.keras", run / "finetuned" / "model.keras"):
        assert network.stat().st_size > SMALLEST_NETWORK
    assert (run / "saved_models" / "alexnet" / "1" / "saved_model.pb").is_file()
    assert (run / "mine.keras").is_file()
    assert list((run / "run" / "tensorboard").glob("events*"))
    rows = (run / "run" / "metrics.csv").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 3, "a header and one row per epoch, of both halves of the run"


@pytest.mark.slow
def test_the_second_half_of_its_run_goes_on_where_the_first_ended(executed):
    said = "".join(_text(cell) for cell in _code(executed[0]))
    assert "0 steps were done before." in said
    # 28 images in batches of 14, one epoch.
    assert "2 steps were done before." in said
    assert "'count': 14" in said
    images = [
        out
        for cell in _code(executed[0])
        for out in cell["outputs"]
        if {"image/png", "image/jpeg"} & set(out.get("data", {}))
    ]
    assert len(images) == 4, "crops, curves, filters, predictions"


def test_the_stored_notebook_has_its_outputs_and_is_small():
    """`python notebooks/execute.py notebooks/alexnet_colab.ipynb` stores them again."""
    assert NOTEBOOK.stat().st_size < 300_000
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    cells = _code(notebook)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert not [out for cell in cells for out in cell["outputs"] if out["output_type"] == "error"]
    assert "colab-badge.svg" in "".join(notebook["cells"][0]["source"])


def test_whoever_publishes_it_names_the_account_in_one_file():
    """As docs/notebook.md says; what is left of `OWNER` afterwards is that page."""
    said = "sed -i s/OWNER/ACCOUNT/ notebooks/alexnet_colab.ipynb"
    assert said in (ROOT / "docs" / "notebook.md").read_text(encoding="utf-8")
    lines = NOTEBOOK.read_text(encoding="utf-8").splitlines()
    assert len([line for line in lines if "OWNER" in line]) == 2, "the badge and REPOSITORY"
    assert not [line for line in lines if line.count("OWNER") > 1], "sed mends one of a line"
    for document in (ROOT / "README.md", ROOT / "setup.py", ROOT / "CONTRIBUTING.md"):
        assert "OWNER" not in document.read_text(encoding="utf-8")
