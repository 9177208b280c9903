"""What the documents tell people to type works: commands, flags, names, files.

Each command is executed here as it stands, on few data and for few steps, or stands in
testdata/commands_not_run.txt with the reason why it is not. Those of our own programs are parsed by
the program's own flags even then.
"""

import ast
import dataclasses
import importlib
import importlib.util
import io
import pathlib
import re
import runpy
import shlex
import shutil
import struct
import sys
import types
import warnings

import numpy as np
import pytest
import setuptools
import skimage.data
from absl import flags as absl_flags
from PIL import Image

from alexnet_tf.experiments import networks
from alexnet_tf.models import catalog

ROOT = pathlib.Path(__file__).parents[1]
EXCEPTIONS = ROOT / "tests" / "testdata" / "commands_not_run.txt"
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted(ROOT.glob("docs/*.md")),
    ROOT / "saved_models" / "README.md",
    ROOT / "benchmarks" / "README.md",
]
# Added to the commands that a pattern matches: of a flag that is given twice the last one counts.
# runs/small is the paper's network for CIFAR-10: 60 million weights would convert no differently.
SMALLER = {
    "alexnet_tf.train": "--epochs=1 --batch_size=14 --nodeterministic",
    "alexnet_tf.train --strategy=(mirrored|towers)$": "--recipe=quickstart --data_dir=DATA",
    "alexnet_tf.reproduce": "--scale=smoke --plan_seconds=2",
    "alexnet_tf.atlas": "--units=2 --images=2 --steps=2 --places=3",
    "alexnet_tf.benchmark": "--batch_size=4",
    "alexnet_tf.benchmark step": "--model=cifarnet --runs=1",
    "alexnet_tf.benchmark input": "--data_dir=DATA --batches=2 --runs=1",
    "alexnet_tf.benchmark train": "--model=cifarnet --data_dir=cifar --runs=1",
    "alexnet_tf.benchmark serve": "--saved_model=saved_models/alexnet/1 --requests=2",
    # The file that stands for torchvision's is random.
    "alexnet_tf.import_weights": "--allow_random",
    "alexnet_tf.export --model=(RUN|runs/quickstart)": "--model=runs/small",
    "alexnet_tf.export .* --data_dir": "--data_dir=cifar",
    # Networks that were trained for seconds hardly tell their classes apart.
    "alexnet_tf.export .*--format=(onnx|litert)": "--min_agreement=0",
}
# Places that are a user's own: what is there when a command is executed.
PLACES = {"/data/ILSVRC2012": "DIR", "/data/imagenet": "imagenet"}
# The same for Python, which may begin with what another document made.
SNIPPET_PLACES = {"/data/imagenet": "DATA", "HOST:": "localhost:"}
# A block of which no line begins with one of these is a listing, a drawing or a file.
PROGRAMS = re.compile(
    r"(python|pip|make|docker|curl|cat|echo|export|tensorboard|tensorflow_model_server|bazel|npm"
    r"|npx|git|pre-commit|pytest|jupyter|alexnet-tf-[a-z-]+|[A-Za-z_./]*/bin/[a-z]+)( |$)"
)
# What every program of ours that a document calls begins with; these are executed.
OURS = ("python -m alexnet_tf.", "python -m data_prep.")
FOREIGN = "a program of others: name it in testdata/commands_not_run.txt, with the reason"
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
    kinds = (ast.Import, ast.ImportFrom, ast.Assign)
    calls = [node for node in tree.body if isinstance(getattr(node, "value", None), ast.Call)]
    return bool(calls) or any(isinstance(node, kinds) for node in tree.body)


def _name(path: pathlib.Path) -> str:
    return str(path.relative_to(ROOT))


def _snippets(path: pathlib.Path) -> list[str]:
    return [block for block in _blocks(path) if _is_python(block)]


def _commands() -> list[tuple[str, str]]:
    """(document, command), continued lines joined, pipes taken apart."""
    found = []
    for path in DOCUMENTS:
        name = _name(path)
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


def _problem_of_command(module: str, words: list[str], capsys) -> str | None:
    """None when the command's own flags take the words, else what is wrong with them."""
    command = importlib.import_module(module)
    for reading in _alternatives(words):
        flags = absl_flags.FlagValues()
        absl_flags.DEFINE_bool("help", False, "As alexnet_tf.cli does.", flag_values=flags)
        command._define(flags)
        try:
            positional = flags(["program", *reading])[1:]
        except absl_flags.Error as error:
            return str(error)
        if module in SUBCOMMANDS and not flags.help:
            capsys.readouterr()
            # The sentence that refuses this names all that there are.
            assert command.main(["no such thing"]) == 2
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
        return _problem_of_command(scripts[words[0]].removesuffix(":main"), words[1:], capsys)
    if words[:2] == ["python", "-m"] and words[2].split(".")[0] in ("alexnet_tf", "data_prep"):
        return _problem_of_command(words[2], words[3:], capsys)
    if words[:2] == ["python", "-m"]:
        return None if importlib.util.find_spec(words[2]) else f"there is no module {words[2]}"
    if words[0] == "python":
        return _problem_of_script(words[1], words[2:])
    if words[0] == "make":
        makefile = (ROOT / "Makefile").read_text("utf-8")
        known = re.findall(r"^([\w./-]+):", makefile, re.MULTILINE)
        variables = re.findall(r"\$\((?:if \$\()?([A-Z]+)\)", makefile)
        given = {word.split("=")[0] for word in words[1:] if "=" in word}
        targets = {word for word in words[1:] if "=" not in word}
        fits = targets <= set(known) and given <= set(variables)
        return None if fits else f"the Makefile has {known} and {variables}"
    if words[:2] == ["pip", "install"] and words[2].startswith("alexnet-tf["):
        extra = words[2].split("[")[1].rstrip("]")
        known = given["extras_require"]
        return FOREIGN if extra in known else f"setup.py has no extra {extra}"
    return FOREIGN


def _excepted(command: str) -> bool:
    return any(command.startswith(beginning) for beginning in _exceptions())


def test_every_command_is_understood(monkeypatch, capsys):
    """Also those that are not executed, as far as their programs are here."""
    commands = _commands()
    assert len(commands) > 40
    problems = []
    for document, command in commands:
        problem = _problem(command, monkeypatch, capsys)
        if problem and not (problem == FOREIGN and _excepted(command)):
            problems.append(f"{document}: {command}\n  {problem}")
    assert not problems, "\n".join(problems)


def test_every_command_is_executed_or_excepted():
    left = [command for _, command in _commands() if not _excepted(command)]
    assert len(left) > 40
    assert not [command for command in left if not command.startswith(OURS)]


def test_no_exception_is_left_over():
    commands = [command for _, command in _commands()]
    for beginning, reason in _exceptions().items():
        assert len(reason.split()) > 3
        assert any(command.startswith(beginning) for command in commands), beginning


def test_names_in_python_blocks_exist():
    """Modules of ours that are imported there, and the names taken from them."""
    checked = 0
    for path in DOCUMENTS:
        for block in _snippets(path):
            for node in ast.walk(ast.parse(block)):
                names = []
                if isinstance(node, ast.ImportFrom):
                    names = [(node.module, alias.name) for alias in node.names]
                elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                    names = [(node.value.id, node.attr)]
                for module, name in names:
                    if module.split(".")[0] in ("alexnet_tf", "data_prep"):
                        found = hasattr(importlib.import_module(module), name)
                        found = found or importlib.util.find_spec(f"{module}.{name}")
                        assert found, (path, module, name)
                        checked += 1
    assert checked > 8


def test_links_lead_to_files():
    for path in DOCUMENTS:
        text = re.sub(r"(?s)```.*?```", "", path.read_text(encoding="utf-8"))
        for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
            if not re.match(r"[a-z]+:", link):
                assert (path.parent / link).exists(), f"{path.relative_to(ROOT)}: {link}"


def _narrow_networks(patch) -> None:
    """AlexNets an eighth as wide, but for the one into which published weights are imported.

    The commands would do the same with 60 million weights, in many times the time and memory.
    """
    for name in catalog.list_models():
        if name.startswith("alexnet") and name != "alexnet_owt":
            narrow = networks.narrowed(catalog.find_variant(name), 8)
            patch.setitem(catalog._ADDED, name, dataclasses.replace(narrow, name=name))


@pytest.fixture(scope="module")
def user(tmp_path_factory):
    """What the documents' users have: photographs, prepared ones, networks, an export, digits."""
    root = tmp_path_factory.mktemp("user")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        _narrow_networks(patch)
        _write_digits(root / "MNIST_FILES")
        _write_windows(root / "CIFAR10_BATCHES")
        if importlib.util.find_spec("torch"):
            _write_torchvision(root / "alexnet.pth")
        for command in (
            "python -m data_prep.photos --output=DIR --train=28 --validation=14",
            "python -m data_prep.convert --source=DIR --output=DATA",
            "python -m data_prep.convert --source=CIFAR10_BATCHES --output=cifar",
            "python -m alexnet_tf.train --recipe=quickstart --data_dir=DATA --workdir=RUN",
            "python -m alexnet_tf.train --recipe=cifarnet --data_dir=cifar --workdir=runs/small",
            "python -m alexnet_tf.export --model=runs/small --output=saved_models/alexnet",
            "python -m alexnet_tf.export --model=RUN --format=onnx --output=alexnet.onnx",
            "python -m alexnet_tf.export --model=RUN --format=litert --output=alexnet.tflite",
        ):
            _execute(shlex.split(_smaller(command)), patch)
    for run in ("quickstart", "imagenet", "a", "b", "c"):
        (root / "runs" / run).symlink_to(root / "RUN")
    for data in ("flowers", "records"):
        (root / data).symlink_to(root / "DATA")
    (root / "photographs").symlink_to(root / "DIR")
    images = sorted((root / "DIR" / "val").glob("*/*.jpg"))
    (root / "photos").symlink_to(images[0].parent)
    for name, image in zip(("cat.jpg", "photo.jpg"), images, strict=False):
        (root / name).symlink_to(image)
    (root / "more").mkdir()
    Image.fromarray(skimage.data.chelsea()).save(root / "more" / "chelsea.png")
    return root


def _write_digits(directory: pathlib.Path) -> None:
    """scikit-learn's digits in MNIST's files, 40 to train and 14 to test."""
    digits = importlib.import_module("sklearn.datasets").load_digits()
    pixels = np.zeros((54, 28, 28), np.uint8)
    pixels[:, 2:26, 2:26] = np.kron(digits.images[:54] * 15, np.ones((3, 3)))
    directory.mkdir()
    for prefix, part in {"train": slice(0, 40), "t10k": slice(40, 54)}.items():
        for what, magic, values in (
            ("images-idx3", 2051, pixels[part]),
            ("labels-idx1", 2049, digits.target[:54][part].astype(np.uint8)),
        ):
            head = struct.pack(f">{1 + values.ndim}I", magic, *values.shape)
            (directory / f"{prefix}-{what}-ubyte").write_bytes(head + values.tobytes())


def _write_windows(directory: pathlib.Path) -> None:
    """Windows of 32 pixels of a photograph in the files of CIFAR-10's binary version."""
    directory.mkdir()
    photograph = skimage.data.astronaut()
    for number, name in enumerate([*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]):
        rows = [
            bytes([label])
            + photograph[number * 64 :, label * 48 :][:32, :32].transpose(2, 0, 1).tobytes()
            for label in range(10)
        ]
        (directory / f"{name}.bin").write_bytes(b"".join(rows))


_LPIPS = (64, 192, 384, 256, 256)


def _write_torchvision(path: pathlib.Path) -> None:
    """Random weights as torchvision's AlexNet saves its own."""
    import torch

    features = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3)}
    shapes = {f"features.{n}": (o, i, k, k) for n, (o, i, k) in features.items()}
    shapes |= {"features.10": (256, 256, 3, 3), "classifier.1": (4096, 9216)}
    shapes |= {"classifier.4": (4096, 4096), "classifier.6": (1000, 4096)}
    weights = {f"{name}.weight": torch.randn(shape) / 100 for name, shape in shapes.items()}
    biases = {f"{name}.bias": torch.zeros(shape[0]) for name, shape in shapes.items()}
    torch.save(weights | biases, path)
    # Heads as the lpips package has them, beside it.
    heads = {f"lin{n}.model.1.weight": torch.rand(1, w, 1, 1) for n, w in enumerate(_LPIPS)}
    torch.save(heads, path.with_name("alex.pth"))


def _smaller(command: str) -> str:
    for theirs, here in PLACES.items():
        command = command.replace(theirs, here)
    added = [flags for form, flags in SMALLER.items() if re.match(f"python -m {form}", command)]
    return " ".join([command, *added])


def _execute(words: list[str], patch) -> None:
    """In this process: `python -m MODULE ...` is MODULE.main([...]), which returns the code."""
    assert words[:2] == ["python", "-m"]
    if words[-1] == "-":
        image = io.BytesIO(pathlib.Path("cat.jpg").read_bytes())
        patch.setattr(sys, "stdin", types.SimpleNamespace(buffer=image))
    assert importlib.import_module(words[2]).main(words[3:]) == 0
    for word in words:
        if word.startswith("--output="):
            assert pathlib.Path(word.split("=", 1)[1]).exists(), word
        if word.startswith("--workdir=") and words[2] == "alexnet_tf.train":
            assert pathlib.Path(word.split("=", 1)[1], "model.keras").is_file(), word


def _bring(user: pathlib.Path, words: list[str]) -> None:
    """Links what a command reads, as far as no command before it has made it here."""
    paths = [path for word in words for path in word.split("=", 1)[-1].split(",")]
    made = {word.split("=", 1)[1] for word in words if word.startswith("--output=")}
    for path in {str(pathlib.Path(path).parent if "*" in path else path) for path in paths}:
        here = pathlib.Path(path)
        if path not in made and not here.exists() and (user / path).exists():
            here.parent.mkdir(parents=True, exist_ok=True)
            here.symlink_to(user / path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "document", sorted({name for name, own in _commands() if not _excepted(own)})
)
def test_the_commands_of(document, user, release_memory, tmp_path, monkeypatch):
    """One after the other, in one empty directory to which what they read is brought."""
    monkeypatch.chdir(tmp_path)
    _narrow_networks(monkeypatch)
    for command in [own for name, own in _commands() if name == document and not _excepted(own)]:
        for reading in _alternatives(shlex.split(command, comments=True)):
            words = shlex.split(_smaller(shlex.join(reading)))
            if any(word.endswith("alexnet.pth") for word in words) and not importlib.util.find_spec(
                "torch"
            ):
                warnings.warn(f"not executed without PyTorch: {command}", stacklevel=1)
                continue
            _bring(user, [*words, "cat.jpg"])
            print("$", shlex.join(words), flush=True)  # shown where it fails
            _execute(words, monkeypatch)
            release_memory()


@pytest.mark.slow
@pytest.mark.parametrize("document", [path for path in DOCUMENTS if _snippets(path)], ids=_name)
def test_the_python_of(document, user, tmp_path, monkeypatch, capsys):
    """All snippets of a document, in one session and one directory that has what they read.

    What a snippet's comment says it prints, up to a semicolon, is printed.
    """
    monkeypatch.chdir(tmp_path)
    for path in user.iterdir():
        (tmp_path / path.name).symlink_to(path)
    session = {}
    for snippet in _snippets(document):
        for theirs, here in SNIPPET_PLACES.items():
            snippet = snippet.replace(theirs, here)
        capsys.readouterr()
        exec(compile(snippet, _name(document), "exec"), session)
        printed = capsys.readouterr().out
        for said in re.findall(r"^print\(.*\)  # ([^;\n]+)", snippet, re.MULTILINE):
            assert said in printed, snippet
    session.clear()
    shutil.rmtree(tmp_path)  # networks and checkpoints
