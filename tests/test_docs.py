"""What the documents tell people to type is there: commands, flags, names, files.

Each command of a code block is either parsed by the very flags of the program that it calls (no
work is done; the other tests do the work), or stands in testdata/commands_not_run.txt with the
reason why nobody tries it here.
"""

import ast
import importlib
import importlib.util
import pathlib
import re
import runpy
import shlex
import subprocess
import sys

import pytest
import setuptools
from absl import flags as absl_flags

ROOT = pathlib.Path(__file__).parents[1]
EXCEPTIONS = ROOT / "tests" / "testdata" / "commands_not_run.txt"
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted(ROOT.glob("docs/*.md")),
    ROOT / "saved_models" / "README.md",
    ROOT / "benchmarks" / "README.md",
]
# A block of which no line begins with one of these is a listing, a drawing or a file.
PROGRAMS = re.compile(
    r"(python|pip|make|docker|curl|cat|echo|export|tensorboard|tensorflow_model_server|bazel|npm"
    r"|npx|git|pre-commit|pytest|jupyter|alexnet-tf-[a-z-]+|[A-Za-z_./]*/bin/[a-z]+)( |$)"
)
SUBCOMMANDS = ("alexnet_tf.analyze", "alexnet_tf.benchmark", "alexnet_tf.reproduce")


def _blocks(path: pathlib.Path) -> list[str]:
    """Fenced and indented code blocks, without their indentation."""
    blocks, block, fence = [], [], False
    for line in [*path.read_text(encoding="utf-8").splitlines(), ""]:
        if line.lstrip().startswith("```"):
            fence = not fence
            blocks, block = [*blocks, "\n".join(block)], []
        elif fence or line.startswith("    "):
            block.append(line if fence else line[4:])
        elif not line.strip() and block and not fence:
            block.append("")
        else:
            blocks, block = [*blocks, "\n".join(block)], []
    return [block.strip("\n") for block in [*blocks, "\n".join(block)] if block.strip()]


def _is_python(block: str) -> bool:
    try:
        tree = ast.parse(block)
    except SyntaxError:
        return False
    return any(isinstance(node, (ast.Import, ast.ImportFrom, ast.Assign)) for node in tree.body)


def _commands() -> list[tuple[str, str]]:
    """(document, command), continued lines joined, pipes taken apart."""
    found = []
    for path in DOCUMENTS:
        name = str(path.relative_to(ROOT))
        for block in _blocks(path):
            lines = re.sub(r"\\\n\s*", "", block).splitlines()
            if _is_python(block) or not any(PROGRAMS.match(line) for line in lines):
                continue
            lines = [line.rstrip(" |") if line.endswith("|") else line for line in lines]
            parts = [part for line in lines for part in line.split(" | ")]
            found += [(name, part.strip()) for part in parts if part.strip().lstrip("#")]
        # In the running text too; `python -m alexnet_tf.X` stands for any of them.
        inline = re.findall(r"`(python -m [a-z_.]+ ?[^`]*)`", path.read_text(encoding="utf-8"))
        found += [(name, " ".join(command.split())) for command in inline if ".X" not in command]
    return [(name, command) for name, command in found if not command.startswith("#")]


def _exceptions() -> dict[str, str]:
    """Beginning of a command -> why it is not tried."""
    lines = EXCEPTIONS.read_text(encoding="utf-8").splitlines()
    rows = [line.split(" # ", 1) for line in lines if line and not line.startswith("#")]
    return {command.strip(): reason.strip() for command, reason in rows}


def _setup(monkeypatch) -> dict:
    given = {}
    monkeypatch.setattr(setuptools, "setup", lambda **keywords: given.update(keywords))
    runpy.run_path(str(ROOT / "setup.py"))
    return given


def _alternatives(words: list[str]) -> list[list[str]]:
    """The readings of `a|b` and `[--flag=x|y]`, as manuals write choices; one change at a time."""
    words = [re.sub(r"^\[|\]$", "", word) for word in words]
    readings = [[word.split("|")[0] for word in words]]
    for position, word in enumerate(words):
        head, _, values = word.rpartition("=")
        for value in values.split("|")[1:]:
            reading = list(readings[0])
            reading[position] = f"{head}={value}" if head else value
            readings.append(reading)
    return readings


def _problem_of_door(module: str, words: list[str], capsys) -> str | None:
    """None when the front door's own flags take the words, else what is wrong with them."""
    door = importlib.import_module(module)
    for reading in _alternatives(words):
        flags = absl_flags.FlagValues()
        absl_flags.DEFINE_bool("help", False, "As alexnet_tf.door does.", flag_values=flags)
        door._define(flags)
        try:
            positional = flags(["program", *reading])[1:]
        except absl_flags.Error as error:
            return str(error)
        if module in SUBCOMMANDS and not flags.help:
            capsys.readouterr()
            # The sentence that refuses this names all that there are.
            assert door.main(["no such thing"]) == 2
            known = re.findall(r"[a-z0-9_]+", capsys.readouterr().err.rsplit(": ", 1)[1])
            wrong = [word for word in positional if word not in known and not word.isupper()]
            if wrong or not positional:
                return f"{wrong or 'no subcommand'}: there are {known}"
    return None


def _problem_of_script(path: str, words: list[str]) -> str | None:
    """A script's flags by their names in its source: its imports may not be installed."""
    if not (ROOT / path).is_file():
        return "there is no such file"
    source = (ROOT / path).read_text(encoding="utf-8")
    for word in words:
        name = word.split("=")[0].removeprefix("--")
        if word.startswith("--") and not re.search(rf'"(--)?{name}"', source):
            return f"its source has no {word}"
    return None


def _problem(command: str, monkeypatch, capsys) -> str | None:
    words = shlex.split(command, comments=True)
    while words and re.match(r"[A-Z_]+=", words[0]):
        words = words[1:]
    given = _setup(monkeypatch)
    scripts = dict(line.split(" = ") for line in given["entry_points"]["console_scripts"])
    if words[0] in scripts:
        return _problem_of_door(scripts[words[0]].removesuffix(":main"), words[1:], capsys)
    if words[:2] == ["python", "-m"] and words[2].split(".")[0] in ("alexnet_tf", "data_prep"):
        return _problem_of_door(words[2], words[3:], capsys)
    if words[:2] == ["python", "-m"]:
        return None if importlib.util.find_spec(words[2]) else f"there is no module {words[2]}"
    if words[0] == "python":
        return _problem_of_script(words[1], words[2:])
    if words[0] == "make":
        targets = re.findall(r"^([\w./-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
        return None if set(words[1:]) <= set(targets) else f"the Makefile has {targets}"
    if words[:2] == ["pip", "install"] and words[2].startswith("alexnet-tf["):
        extra = words[2].split("[")[1].rstrip("]")
        return None if extra in given["extras_require"] else f"setup.py has no extra {extra}"
    return "nothing here tries it: name it in testdata/commands_not_run.txt, with the reason"


def test_every_command_is_understood_or_excepted(monkeypatch, capsys):
    commands, exceptions = _commands(), _exceptions()
    assert len(commands) > 40
    problems = []
    for document, command in commands:
        if not any(command.startswith(beginning) for beginning in exceptions):
            problem = _problem(command, monkeypatch, capsys)
            problems += [f"{document}: {command}\n  {problem}"] if problem else []
    assert not problems, "\n".join(problems)


def test_no_exception_is_left_over():
    commands = [command for _, command in _commands()]
    for beginning, reason in _exceptions().items():
        assert len(reason.split()) > 3
        assert any(command.startswith(beginning) for command in commands), beginning


def test_names_in_python_blocks_exist():
    """Modules of ours that are imported there, and the names taken from them."""
    checked = 0
    for path in DOCUMENTS:
        for block in filter(_is_python, _blocks(path)):
            for node in ast.walk(ast.parse(block)):
                names = []
                if isinstance(node, ast.ImportFrom):
                    names = [(node.module, alias.name) for alias in node.names]
                elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                    names = [(node.value.id, node.attr)]
                for module, name in names:
                    if module.split(".")[0] in ("alexnet_tf", "data_prep"):
                        assert hasattr(importlib.import_module(module), name), (path, module, name)
                        checked += 1
    assert checked > 8


def test_links_lead_to_files():
    for path in DOCUMENTS:
        text = re.sub(r"(?s)```.*?```", "", path.read_text(encoding="utf-8"))
        for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
            if not re.match(r"[a-z]+:", link):
                assert (path.parent / link).exists(), f"{path.relative_to(ROOT)}: {link}"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The pages as `make docs` builds them; a warning fails."""
    output = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-5000:]
    return output


@pytest.mark.slow
def test_the_reference_has_every_public_name_of_its_modules(site):
    """A name without a docstring is not in the reference, and so fails here."""
    html = "".join(page.read_text(encoding="utf-8") for page in site.glob("reference/*/*.html"))
    listed = set(re.findall(r' id="((?:alexnet_tf|data_prep)\.[\w.]+)"', html))
    wanted = set()
    for page in (ROOT / "docs" / "reference").glob("*.md"):
        for name in re.findall(r"^::: (\S+)$", page.read_text(encoding="utf-8"), re.MULTILINE):
            wanted.add(name)
            path = ROOT / (name.replace(".", "/") + ".py")
            if path.is_file():
                tree = ast.parse(path.read_text(encoding="utf-8"))
                kinds = (ast.FunctionDef, ast.ClassDef)
                public = [n.name for n in tree.body if isinstance(n, kinds) and n.name[0] != "_"]
                wanted |= {f"{name}.{own}" for own in public}
    assert len(wanted) > 150
    assert not sorted(wanted - listed)


def test_the_public_names_are_in_the_reference():
    import alexnet_tf

    pages = (ROOT / "docs" / "reference" / "networks.md").read_text(encoding="utf-8")
    pages += (ROOT / "docs" / "reference" / "data.md").read_text(encoding="utf-8")
    shown = re.findall(r"^::: (\S+)$", pages, re.MULTILINE)
    for name in alexnet_tf.__all__:
        home = getattr(alexnet_tf, name).__module__
        assert home in shown or f"{home}.{name}" in shown, name
