"""The oldest versions that setup.py takes are those without the holes that are known, and CI looks
for new ones."""

import itertools
import pathlib
import re
import runpy

import pytest
import setuptools
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = pathlib.Path(__file__).parents[1]

# package -> (the version that mends it, what is mended). Each is a hole that a file or an image
# from a stranger could reach through this package.
MENDED = {
    "jinja2": ("3.1.6", "CVE-2025-27516"),
    "onnx": ("1.21.0", "CVE-2026-27489, CVE-2026-34446, CVE-2026-34447: other files are read"),
    "opencv-python-headless": ("4.12.0", "CVE-2025-53644: JPEGs write outside of memory"),
    "pillow": ("12.3.0", "CVE-2026-59199, CVE-2026-59204: writes outside of memory"),
    "pyarrow": ("14.0.1", "CVE-2023-47248: Parquet files run code"),
    "scikit-learn": ("1.5.0", "CVE-2024-5206"),
    "tensorflow-datasets": ("4.9.10", "training beside protobuf 7"),
    "torch": ("2.10.0", "CVE-2025-32434, CVE-2026-24747: weights run code"),
    "tqdm": ("4.66.3", "CVE-2024-34062"),
}


@pytest.fixture
def required(monkeypatch):
    """Name -> the oldest version that any part of setup.py takes."""
    given = {}
    monkeypatch.setattr(setuptools, "setup", lambda **keywords: given.update(keywords))
    runpy.run_path(str(ROOT / "setup.py"))
    extras = given["extras_require"].values()
    found = {}
    for line in [*given["install_requires"], *itertools.chain.from_iterable(extras)]:
        requirement = Requirement(line)
        floors = [Version(part.version) for part in requirement.specifier if part.operator == ">="]
        assert len(floors) == 1, f"{line} has no oldest version"
        found.setdefault(requirement.name, set()).update(floors)
    return found


@pytest.mark.parametrize("name", MENDED)
def test_no_version_with_a_known_hole_is_taken(required, name):
    version, reason = MENDED[name]
    assert all(floor >= Version(version) for floor in required[name]), reason


def test_each_floor_that_a_hole_raised_says_so():
    text = (ROOT / "setup.py").read_text(encoding="utf-8")
    for name, (_, reason) in MENDED.items():
        for hole in re.findall(r"CVE-\d+-\d+", reason):
            year, number = hole.removeprefix("CVE-").split("-")
            assert hole in text or (f"CVE-{year}" in text and f"-{number}" in text), (name, hole)


def test_the_lock_file_has_no_version_below_the_floors(required):
    lines = (ROOT / "requirements_lock.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    for name, floors in required.items():
        if name in pinned:
            assert Version(pinned[name]) >= max(floors), name


def test_what_is_installed_is_not_below_the_floors(required):
    from importlib import metadata

    seen = 0
    for name, floors in required.items():
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        seen += 1
        assert Version(found) >= max(floors), name
    assert seen > 10


def test_the_forge_audits_the_lock_file():
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    commands = [step.get("run", "") for step in workflow["jobs"]["audit"]["steps"]]
    assert any("pip_audit" in c and "requirements_lock.txt" in c for c in commands)
