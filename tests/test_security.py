"""What SECURITY.md says of the source: no call that lets a file run code, and its bounds."""

import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
SOURCES = [
    path for package in ("alexnet_tf", "data_prep") for path in (ROOT / package).rglob("*.py")
]

LOADER = "alexnet_tf/models/catalog.py"
FORBIDDEN = {"eval", "exec", "pickle.load", "pickle.loads", "extractall", "os.system", "yaml.load"}


def _name(function: ast.expr) -> str:
    return ast.unparse(function)


def _complaints(source: str, module: str = "") -> list[str]:
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = _name(node.func)
        keywords = {word.arg: ast.unparse(word.value) for word in node.keywords}
        if name in FORBIDDEN or name.split(".")[-1] in ("extractall", "unsafe_load"):
            found.append(name)
        # Even with weights_only it ran code before PyTorch 2.10.
        if name in ("torch.load", "joblib.load", "pickle.Unpickler"):
            found.append(name)
        if name == "keras.models.load_model" and module != LOADER:
            found.append(f"{name} outside of {LOADER}, which looks at the file first")
        for word, value in (("allow_pickle", "True"), ("shell", "True"), ("safe_mode", "False")):
            if keywords.get(word) == value:
                found.append(f"{name}({word}={value})")
    return found


@pytest.mark.parametrize(
    "source",
    [
        "pickle.loads(data)",
        "torch.load(path)",
        "torch.load(path, weights_only=True)",
        "pickle.Unpickler(file)",
        "keras.models.load_model(path)",
        "np.load(path, allow_pickle=True)",
        "archive.extractall(folder)",
        "keras.models.load_model(path, safe_mode=False)",
        "subprocess.run(text, shell=True)",
        "eval(text)",
    ],
)
def test_the_search_finds_what_it_looks_for(source):
    assert _complaints(source)


def test_no_file_of_a_stranger_can_run_code():
    found = {
        str(path): _complaints(path.read_text("utf-8"), path.relative_to(ROOT).as_posix())
        for path in SOURCES
    }
    assert len(found) > 50
    assert not {path: names for path, names in found.items() if names}


def test_the_bounds_are_those_of_the_note():
    from alexnet_tf import memory
    from alexnet_tf.data import untrusted
    from alexnet_tf.models import saved_run

    note = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    assert f"more than {memory.MAX_PIXELS:,} pixels" in note
    assert f"`--max_pixels` ({memory.MAX_PIXELS:,})" in note
    assert f"more than {untrusted.MAX_ASPECT_RATIO} times as long as wide" in note
    assert f"an image size beyond 1 to {saved_run._MAX_SIDE:,}" in note
    assert f"JSON, {saved_run._MAX_CONFIG // 2**20} MiB at most" in note


def test_the_modules_that_the_note_names_are_there():
    note = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:alexnet_tf|data_prep|tests)/[\w/.]+)`", note)
    assert len(named) > 5
    assert not [name for name in named if not (ROOT / name).is_file()]


def test_a_model_file_with_code_inside_is_refused(tmp_path):
    import keras

    import alexnet_tf

    path = tmp_path / "stranger.keras"
    keras.Sequential([keras.Input((2,)), keras.layers.Lambda(lambda x: x + 1)]).save(path)
    with pytest.raises(ValueError, match=r"stranger\.keras.*Lambda"):
        alexnet_tf.load_model(path)
