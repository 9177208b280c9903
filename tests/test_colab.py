"""Installing into Google Colab keeps what it ships: TensorFlow, NumPy, protobuf and the others."""

import importlib.util
import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
SHIPPED = ROOT / "tests" / "testdata" / "colab.txt"
# What is raised, because setup.py's floors ask for it. Anything else would make Colab's other
# packages fail, or ask for a restart.
RAISED = {"absl-py", "pillow"}


def _versions(text: str) -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)==(\S+)", text.lower(), re.MULTILINE))


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("uv"), reason="needs uv, which .[dev] has")
def test_colab_keeps_its_versions(tmp_path):
    """As pip does, uv keeps a version that is there as long as it fits."""
    there = tmp_path / "colab.txt"
    there.write_text(SHIPPED.read_text())
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--extra=plots"]
    command += ["--python-version=3.12", "--python-platform=linux", f"--output-file={there}"]
    done = subprocess.run([*command, str(ROOT / "setup.py")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    before, after = _versions(SHIPPED.read_text()), _versions(there.read_text())
    assert {"tensorflow", "numpy", "protobuf", "keras"} <= after.keys() & before.keys()
    changed = {name for name in before.keys() & after.keys() if before[name] != after[name]}
    assert changed <= RAISED, {name: (before[name], after[name]) for name in changed}


@pytest.fixture
def install_cell(monkeypatch):
    """A function that runs the notebook's cell and gives pip's requirements and what it printed."""
    notebook = json.loads((ROOT / "notebooks" / "alexnet_colab.ipynb").read_text("utf-8"))
    sources = ["".join(cell["source"]) for cell in notebook["cells"]]
    (source,) = [source for source in sources if "def install(" in source]

    def run(present: bool, succeeds, capsys):
        asked = []

        def pip(command):
            asked.append(command[-1])
            return subprocess.CompletedProcess(command, 0 if succeeds(command[-1]) else 1)

        monkeypatch.setattr(subprocess, "run", pip)
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: present or None)
        exec(source, {"sys": sys, "os": os, "REPOSITORY": "https://example.org/a"})
        return asked, capsys.readouterr().out

    return run


def test_the_notebook_installs_from_the_index_else_from_the_repository_and_says_which(
    install_cell, capsys
):
    index, repository = "alexnet-tf[plots]", "alexnet-tf[plots] @ git+https://example.org/a"
    asked, said = install_cell(True, lambda one: False, capsys)
    assert asked == [] and "what is installed" in said
    asked, said = install_cell(False, lambda one: True, capsys)
    assert asked == [index] and "the package index" in said
    asked, said = install_cell(False, lambda one: "git+" in one, capsys)
    assert asked == [index, repository] and "https://example.org/a" in said
    with pytest.raises(RuntimeError, match=r"neither on the index nor at https://example\.org/a"):
        install_cell(False, lambda one: False, capsys)
