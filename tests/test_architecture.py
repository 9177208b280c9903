"""Which package may import which; commands share a process; public names resolve."""

import ast
import graphlib
import importlib
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]

# Which rooms of ours each room may import. A room may always import its own files.
FLOW = {
    "alexnet_tf.models": set(),
    "alexnet_tf.data": set(),
    "alexnet_tf.evaluation": {"alexnet_tf.models", "alexnet_tf.data"},
    # Validation inside training is the evaluation's own: it must not be written twice.
    "alexnet_tf.training": {
        "alexnet_tf.models",
        "alexnet_tf.data",
        "alexnet_tf.evaluation",
        "alexnet_tf.analysis",
    },
    "alexnet_tf.analysis": {"alexnet_tf.models", "alexnet_tf.data"},
    "alexnet_tf.serving": {"alexnet_tf.models", "alexnet_tf.data"},
    "alexnet_tf.experiments": {
        "alexnet_tf.training",
        "alexnet_tf.evaluation",
        "alexnet_tf.analysis",
        "alexnet_tf.models",
        "alexnet_tf.data",
    },
    # Measures whatever the others do, so it may call all of them; none of them knows it.
    "alexnet_tf.perf": {
        "alexnet_tf.training",
        "alexnet_tf.evaluation",
        "alexnet_tf.analysis",
        "alexnet_tf.serving",
        "alexnet_tf.models",
        "alexnet_tf.data",
    },
    "data_prep": {"alexnet_tf.data"},
}
ROOMS = set(FLOW)
COMMANDS = {
    "alexnet_tf.__main__",
    "alexnet_tf.train",
    "alexnet_tf.evaluate",
    "alexnet_tf.predict",
    "alexnet_tf.export",
    "alexnet_tf.analyze",
    "alexnet_tf.atlas",
    "alexnet_tf.features",
    "alexnet_tf.identify",
    "alexnet_tf.benchmark",
    "alexnet_tf.import_weights",
    "alexnet_tf.reproduce",
    "data_prep.convert",
    "data_prep.photos",
    "data_prep.verify",
}
# Doors may use these besides the rooms; so may the rooms: the version, files, memory.
SHARED = {
    "alexnet_tf",
    "alexnet_tf.cli",
    "alexnet_tf.files",
    "alexnet_tf.inputs",
    "alexnet_tf.memory",
    "alexnet_tf.machine",
    "alexnet_tf.pickles",
    "alexnet_tf.progress",
    "alexnet_tf.quiet",
    "alexnet_tf.usage",
}


def _modules():
    for package in ("alexnet_tf", "data_prep"):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def _imports(path: pathlib.Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return {name for name in found if name.split(".")[0] in ("alexnet_tf", "data_prep")}


def _room(module: str) -> str | None:
    inside = [room for room in ROOMS if module == room or module.startswith(room + ".")]
    return max(inside, key=len) if inside else None


def _imported_modules(path: pathlib.Path, modules: set[str]) -> set[str]:
    """Modules of ours that a file imports, anywhere in it: of `from a import b` a.b or else a."""
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    beginnings = [[name, name.rpartition(".")[0]] for name in names]
    return {next(m for m in pair if m in modules) for pair in beginnings if modules & set(pair)}


def _circle(graph: dict[str, set[str]]) -> list[str]:
    """The modules of one circle in order, the first again at the end; empty if there is none."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


def test_the_search_finds_a_circle():
    assert _circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})[0] in "abc"
    assert not _circle({"a": {"b", "c"}, "b": {"c"}})


def test_no_modules_import_each_other_in_a_circle():
    """Inside a package too, and in functions, where Python would not mind."""
    modules = dict(_modules())
    circle = _circle(
        {
            module: _imported_modules(path, set(modules)) - {module}
            for module, path in modules.items()
        }
    )
    assert not circle, " imports ".join(reversed(circle))


@pytest.mark.parametrize(
    "module,path", list(_modules()), ids=lambda value: str(value).split("/")[-1]
)
def test_imports_follow_the_flow(module, path):
    for name in sorted(_imports(path)):
        target = _room(name)
        if module in COMMANDS or module in SHARED:
            command = next((d for d in COMMANDS if name == d or name.startswith(d + ".")), None)
            # photos is a command and a library: train prepares the photographs through it.
            assert command in (None, module, "data_prep.photos"), f"{module} imports {command}"
            continue
        room = _room(module)
        assert room, f"{module} is in no room of the design"
        if target is None:
            top_level = {"alexnet_tf.__version__", *SHARED}
            assert name in top_level or name.rsplit(".", 1)[0] in SHARED, f"{module} -> {name}"
        else:
            assert target == room or target in FLOW[room], f"{module} imports {name}"


def test_all_doors_can_be_imported_in_one_process():
    """absl refuses to define a flag twice in one table: each command has a table of its own."""
    commands = [importlib.import_module(name) for name in sorted(COMMANDS)]
    for command in commands:
        assert command.main(["--help"]) == 0


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_a_wrong_flag_is_one_sentence_and_code_2(name, capsys):
    assert importlib.import_module(name).main(["--no_such_flag=1"]) == 2
    error = capsys.readouterr().err
    assert "no_such_flag" in error and "Traceback" not in error
    assert len(error.strip().splitlines()) == 1


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_help_does_not_wait_for_tensorflow(name):
    code = (
        f"import sys; from {name} import main; code = main(['--help']); "
        "heavy = {'tensorflow', 'keras', 'matplotlib', 'tensorflow_datasets'} & set(sys.modules); "
        "print(heavy, file=sys.stderr); sys.exit(code or bool(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "--help" in done.stdout


def test_importing_the_package_is_light():
    """No framework, no plots, no data sets, and no flags that a notebook's own could meet."""
    code = (
        "import alexnet_tf, sys; "
        "heavy = {'tensorflow', 'keras', 'matplotlib', 'tensorflow_datasets', 'numpy', 'absl'}; "
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_every_public_name_resolves():
    import alexnet_tf

    for name in alexnet_tf.__all__:
        assert callable(getattr(alexnet_tf, name)), name
    with pytest.raises(AttributeError, match="no_such_name"):
        alexnet_tf.no_such_name  # noqa: B018
