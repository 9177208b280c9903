"""What `pip install` gives a user: the archives, the commands, and a run from the installed wheel.

Everything is built from a copy of the tree, from which git's ignored files are left out.
"""

import os
import pathlib
import runpy
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest
import setuptools

from alexnet_tf import analyze, cli

ROOT = pathlib.Path(__file__).parents[1]
PACKAGES = ("alexnet_tf", "data_prep")
# What beside the code a package needs at run time.
DATA = {
    "alexnet_tf/__init__.pyi",
    "alexnet_tf/data/imagenet_classes.txt",
    "alexnet_tf/py.typed",
    *(str(path.relative_to(ROOT)) for path in ROOT.glob("alexnet_tf/analysis/atlas/templates/*")),
    "data_prep/py.typed",
}


def _run(*command, cwd=None, **environment):
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def _tree() -> list[str]:
    """Files of the working tree that git does not ignore."""
    listed = _run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT)
    return [name for name in listed.splitlines() if (ROOT / name).is_file()]


def _code() -> set[str]:
    return {
        name for name in _tree() if name.split("/")[0] in PACKAGES and name.endswith(".py")
    } | DATA


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """(sdist, wheel), the wheel built from the sdist."""
    source = tmp_path_factory.mktemp("source")
    for name in _tree():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, source / name)
    output = tmp_path_factory.mktemp("archives")
    _run(sys.executable, "-m", "build", "--no-isolation", "--outdir", output, source)
    (sdist,) = output.glob("*.tar.gz")
    (wheel,) = output.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def installed(archives, tmp_path_factory):
    """bin/ of an empty environment into which `pip install` brought the wheel and what it asks for.

    Two minutes and two gigabytes, from the package index.
    """
    root = tmp_path_factory.mktemp("installed")
    _run(sys.executable, "-m", "venv", root)
    python = root / "bin" / "python"
    _run(python, "-m", "pip", "install", "--quiet", archives[1])
    where = _run(python, "-c", "import alexnet_tf; print(alexnet_tf.__file__)", cwd=root)
    assert pathlib.Path(where.strip()).is_relative_to(root)
    yield root / "bin"
    shutil.rmtree(root)


@pytest.mark.slow
def test_the_wheel_holds_the_code_and_its_data_and_nothing_else(archives):
    with zipfile.ZipFile(archives[1]) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
        classes = wheel.read("alexnet_tf/data/imagenet_classes.txt").decode().splitlines()
    assert names == _code()
    assert len([line for line in classes if line[0] == "n"]) == 1000


@pytest.mark.slow
def test_the_source_archive_holds_what_builds_the_wheel_and_nothing_else(archives):
    with tarfile.open(archives[0]) as sdist:
        files = {
            name.name.split("/", 1)[1]
            for name in sdist.getmembers()
            if name.isfile() and ".egg-info/" not in name.name
        }
    building = {"setup.py", "setup.cfg", "pyproject.toml", "MANIFEST.in", "PKG-INFO"}
    reading = {"README.md", "LICENSE", "CHANGELOG.md"}
    assert files == _code() | building | reading


@pytest.mark.slow
def test_the_installed_commands_work_from_end_to_end(installed, tmp_path):
    """As typed after `pip install alexnet-tf`, in a directory without a clone."""
    cache = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    _run(installed / "alexnet-tf-photos", "--output=photos", "--train=28", "--validation=14",
         cwd=tmp_path, **cache)  # fmt: skip
    # As in a user's shell, where nothing asks TensorFlow to be quiet: its log lines stay out.
    shell = {name: value for name, value in os.environ.items() if not name.startswith("TF_")}
    command = [installed / "python", "-m", "data_prep.convert", "--source=photos", "--output=data"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=shell)
    assert done.returncode == 0 and "28 train, 14 validation" in done.stdout
    said = [line for line in done.stderr.splitlines() if line.strip()]
    assert not [line for line in said if "image" not in line], done.stderr
    _run(
        installed / "python",
        *("-m", "alexnet_tf.train", "--strategy=mirrored", "--epochs=1"),
        *("--recipe=quickstart", "--data_dir=data", "--batch_size=14", "--workdir=run"),
        cwd=tmp_path,
        **cache,
    )
    image = next((tmp_path / "photos" / "val").glob("*/*.jpg"))
    command = [str(installed / "alexnet-tf-predict"), "--model=run", str(image)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=shell)
    assert done.returncode == 0 and image.name in done.stdout
    assert done.stderr == ""
    # What a bare installation lacks is named, and nothing is drawn.
    command = [installed / "alexnet-tf-analyze", "filters", "--workdir=run", "--output=a.png"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=shell)
    assert done.returncode == 1 and "alexnet-tf[plots]" in done.stderr
    assert len(done.stderr.splitlines()) == 1 and not (tmp_path / "a.png").exists()


def test_every_command_is_a_command(monkeypatch):
    """Under the name `alexnet-tf-` and the command's own."""
    given = {}
    monkeypatch.setattr(setuptools, "setup", lambda **keywords: given.update(keywords))
    runpy.run_path(str(ROOT / "setup.py"))
    homes = set()
    for script in given["entry_points"]["console_scripts"]:
        command, module = script.removesuffix(":main").split(" = ")
        name = module.split(".")[1].replace("_", "-")
        assert command == ("alexnet-tf" if name == "--main--" else f"alexnet-tf-{name}")
        homes.add(module)
    commands = {
        f"{package}.{path.stem}"
        for package in PACKAGES
        for path in (ROOT / package).glob("*.py")
        if "cli.run(" in path.read_text(encoding="utf-8")
    }
    assert homes == commands


def test_the_forges_ci_tries_the_oldest_versions_that_are_allowed(monkeypatch):
    given = {}
    monkeypatch.setattr(setuptools, "setup", lambda **keywords: given.update(keywords))
    runpy.run_path(str(ROOT / "setup.py"))
    ci = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    for package in ("tensorflow", "keras"):
        (oldest,) = [line for line in given["install_requires"] if line.startswith(f"{package}>=")]
        assert f'"{oldest.replace(">=", "==")}.*"' in ci


def test_a_missing_package_is_named_with_the_extra_that_brings_it(monkeypatch, tmp_path, capsys):
    given = {}
    monkeypatch.setattr(setuptools, "setup", lambda **keywords: given.update(keywords))
    runpy.run_path(str(ROOT / "setup.py"))
    for package, extra in cli._EXTRAS.items():
        assert [line for line in given["extras_require"][extra] if line.startswith(package)]
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # as where it is not installed
    assert analyze.main(["architecture", f"--output={tmp_path / 'halves.svg'}"]) == 1
    (said,) = capsys.readouterr().err.strip().splitlines()
    assert said.endswith("needs the package matplotlib: pip install 'alexnet-tf[plots]'.")
