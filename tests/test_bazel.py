"""BUILD beside the tree: each source in a target, each import among the dependencies.

BUILD is Starlark, whose syntax is Python's: it is run here with rules that write down what they are
called with, and with a `glob` of the same rules. Bazel itself is not needed.
"""

import ast
import fnmatch
import pathlib
import re
import runpy
import shutil
import subprocess
import sys

import pytest
import setuptools
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = pathlib.Path(__file__).parents[1]
PACKAGES = ("alexnet_tf", "data_prep")
# Where the module's name is not the package's.
PIP = {"absl": "absl_py", "cv2": "opencv_python_headless", "google": "protobuf", "grpc": "grpcio"}
PIP |= {"PIL": "pillow", "skimage": "scikit_image", "sklearn": "scikit_learn"}
# Imported only where a user asks for it, and left out of the lock: an older protobuf, a runtime of
# which TensorFlow's own copy does as well.
OPTIONAL = {"apache_beam", "ai_edge_litert"}


class Targets:
    """What BUILD declares: rule calls by name."""

    def __init__(self):
        self.rules = {}
        names = {rule: self._rule(rule) for rule in ("py_library", "py_binary", "py_test")}
        source = (ROOT / "BUILD").read_text(encoding="utf-8")
        nothing = dict.fromkeys(
            ("load", "package", "licenses", "exports_files"), lambda *_, **__: None
        )
        exec(compile(source, "BUILD", "exec"), {**nothing, **names, "glob": _glob})

    def _rule(self, kind):
        def declare(name, **attributes):
            assert name not in self.rules, f"two targets are called {name}"
            self.rules[name] = {"kind": kind, **attributes}

        return declare

    def of_kind(self, kind):
        return {name: rule for name, rule in self.rules.items() if rule["kind"] == kind}

    def closure(self, name) -> set[str]:
        """Names of the libraries and pip packages that a target is given."""
        found, todo = set(), [name]
        while todo:
            for label in self.rules[todo.pop()].get("deps", []):
                if label not in found:
                    found.add(label)
                    if label.startswith(":"):
                        todo.append(label[1:])
        return found


def _glob(patterns, exclude=()):
    """Files under the root; ** crosses directories, * does not."""
    found = set()
    for pattern in patterns:
        assert "*" in pattern, f"{pattern}: name a single file outside of glob"
        found |= {str(p.relative_to(ROOT)) for p in ROOT.glob(_with_files(pattern)) if p.is_file()}
    found = {name for name in found if "__pycache__" not in name}
    assert found, f"{patterns} match nothing, which Bazel refuses"
    return sorted(name for name in found if not any(fnmatch.fnmatch(name, e) for e in exclude))


def _with_files(pattern):
    # Bazel's a/** are all files below a; pathlib's are its directories.
    return pattern + "/*" if pattern.endswith("**") else pattern


def _imports(path: str) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.fixture(scope="module")
def targets():
    return Targets()


@pytest.fixture
def packaging(monkeypatch):
    """What setup.py hands to setuptools."""
    given = {}
    monkeypatch.setattr(setuptools, "setup", lambda **keywords: given.update(keywords))
    runpy.run_path(str(ROOT / "setup.py"))
    return given


def test_every_source_is_in_a_target(targets):
    listed = {source for rule in targets.rules.values() for source in rule.get("srcs", [])}
    tree = {
        str(path.relative_to(ROOT))
        for package in (*PACKAGES, "tests")
        for path in (ROOT / package).rglob("*.py")
    }
    assert listed == tree
    # The class names and the mark of a typed package travel as data.
    data = {name for rule in targets.rules.values() for name in rule.get("data", [])}
    assert {"alexnet_tf/data/imagenet_classes.txt", "alexnet_tf/py.typed"} <= data
    assert all((ROOT / name).is_file() for name in data | listed)


def test_a_binary_per_command_and_a_test_per_room(targets, packaging):
    commands = {
        line.split(" = ")[1].removesuffix(":main").replace(".", "/") + ".py"
        for line in packaging["entry_points"]["console_scripts"]
    }
    binaries = targets.of_kind("py_binary")
    assert {rule["main"] for rule in binaries.values()} == commands
    assert all(rule["srcs"] == [rule["main"]] for rule in binaries.values())
    rooms = {path.parent.name for path in (ROOT / "tests").glob("*/test_*.py")}
    assert {f"{room}_test" for room in rooms} | {"whole_test"} == set(targets.of_kind("py_test"))
    for rule in targets.of_kind("py_test").values():
        assert rule["main"] in rule["srcs"]
        assert all((ROOT / argument).exists() for argument in rule["args"])


def test_dependencies_cover_the_imports(targets):
    """Through all that a target is given, directly or not; nothing is named that does not exist."""
    homes = {}
    for name, rule in targets.of_kind("py_library").items():
        for source in rule["srcs"]:
            homes.setdefault(source, set()).add(":" + name)
    for name, rule in targets.rules.items():
        given = targets.closure(name) | {":" + name}
        for source in rule["srcs"]:
            for imported in sorted(_imports(source)):
                top = imported.split(".")[0]
                if top in PACKAGES:
                    wanted = homes[_file_of(imported)]
                    assert wanted & given, f":{name}: {source} imports {imported}"
                elif top not in sys.stdlib_module_names | OPTIONAL and "tests" not in source:
                    label = f"@pypi//{PIP.get(top, top)}"
                    assert label in given, f":{name}: {source} imports {top}"


def _file_of(imported: str) -> str:
    """The file of ours that a dotted name is in: module, package, or a name inside of one."""
    parts = imported.split(".")
    for length in range(len(parts), 0, -1):
        path = "/".join(parts[:length])
        for candidate in (f"{path}.py", f"{path}/__init__.py"):
            if (ROOT / candidate).is_file():
                return candidate
    raise AssertionError(f"{imported} is no module of ours")


def test_libraries_form_no_circle(targets):
    for name in targets.rules:
        assert ":" + name not in targets.closure(name)


def test_the_lock_has_every_package_at_a_version_that_setup_py_allows(targets, packaging):
    lines = (ROOT / "requirements_lock.txt").read_text(encoding="utf-8").splitlines()
    locked = dict(line.split("==") for line in lines if not line.startswith("#"))
    labels = {
        label.removeprefix("@pypi//")
        for rule in targets.rules.values()
        for label in rule.get("deps", [])
        if label.startswith("@pypi//")
    }
    assert {canonicalize_name(label) for label in labels} <= set(locked)
    for line in packaging["install_requires"] + packaging["extras_require"]["dev"]:
        requirement = Requirement(line)
        version = locked[canonicalize_name(requirement.name)]
        assert version in requirement.specifier, f"{line}, locked at {version}"


def test_the_module_has_the_packages_version():
    module = (ROOT / "MODULE.bazel").read_text(encoding="utf-8")
    package = (ROOT / "alexnet_tf" / "__init__.py").read_text(encoding="utf-8")
    assert re.search(r'version = "([^"]+)"', module)[1] == re.search(r'_ = "([^"]+)"', package)[1]


def test_buildifier_finds_nothing_to_change():
    """`npm install @bazel/buildifier` brings it; `make buildifier` runs it that way."""
    buildifier = shutil.which("buildifier")
    if buildifier is None:
        pytest.skip("buildifier is not installed")
    done = subprocess.run(
        [buildifier, "--mode=check", "--lint=warn", "BUILD", "MODULE.bazel"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
