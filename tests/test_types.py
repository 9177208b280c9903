"""The annotations hold: mypy over both packages, and types of the names that users import."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]

# What `import alexnet_tf` gives, as a checker must see it: a wrong one of these lines is an error.
USER = """
import keras
import numpy as np
import alexnet_tf

model: keras.Model = alexnet_tf.AlexNet(classes=10)
names: list[str] = alexnet_tf.list_models()
crops: np.ndarray = alexnet_tf.preprocess_input(np.zeros((300, 400, 3), np.uint8))
best: list[list[tuple[str, str, float]]] = alexnet_tf.decode_predictions(np.zeros((1, 1000)))
"""
MISTAKES = (
    "number: int = alexnet_tf.list_models()",
    "alexnet_tf.AlexNet(classes='ten')",
    "alexnet_tf.AlexNet(pooling=3)",
    "alexnet_tf.load_model(7)",
    "alexnet_tf.no_such_name",
)


def _mypy(*arguments, cwd=ROOT):
    command = [sys.executable, "-m", "mypy", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd)


@pytest.mark.slow
def test_mypy_finds_nothing():
    done = _mypy()
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]


@pytest.mark.slow
def test_a_users_program_is_checked_against_the_public_names(tmp_path):
    """The stub tells a checker what __init__.py resolves on use; each mistake is found."""
    lines = [*USER.strip().splitlines(), *MISTAKES]
    (tmp_path / "program.py").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (tmp_path / "mypy.ini").write_text(
        f"[mypy]\nmypy_path = {ROOT}\nignore_missing_imports = True\nfollow_imports = silent\n"
    )
    done = _mypy("--config-file=mypy.ini", "program.py", cwd=tmp_path)
    wrong = {int(line.split(":")[1]) for line in done.stdout.splitlines() if ": error:" in line}
    first = len(USER.strip().splitlines()) + 1
    assert wrong == set(range(first, first + len(MISTAKES))), done.stdout


def test_the_stub_has_the_public_names():
    import alexnet_tf

    stub = ast.parse((ROOT / "alexnet_tf" / "__init__.pyi").read_text(encoding="utf-8"))
    homes = {
        alias.asname: node.module
        for node in stub.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert homes == alexnet_tf._HOMES
