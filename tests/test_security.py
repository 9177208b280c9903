"""What SECURITY.md says of the source: no call that lets a file run code, and its bounds."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
SOURCES = [
    path for package in ("alexnet_tf", "data_prep") for path in (ROOT / package).rglob("*.py")
]

FORBIDDEN = {"eval", "exec", "pickle.load", "pickle.loads", "extractall", "os.system", "yaml.load"}


def _name(function: ast.expr) -> str:
    return ast.unparse(function)


def _complaints(source: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = _name(node.func)
        keywords = {word.arg: ast.unparse(word.value) for word in node.keywords}
        if name in FORBIDDEN or name.split(".")[-1] in ("extractall", "unsafe_load"):
            found.append(name)
        if name == "torch.load" and keywords.get("weights_only") != "True":
            found.append("torch.load without weights_only")
        for word, value in (("allow_pickle", "True"), ("shell", "True"), ("safe_mode", "False")):
            if keywords.get(word) == value:
                found.append(f"{name}({word}={value})")
    return found


@pytest.mark.parametrize(
    "source",
    [
        "pickle.loads(data)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
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
    found = {str(path): _complaints(path.read_text(encoding="utf-8")) for path in SOURCES}
    assert len(found) > 50
    assert not {path: names for path, names in found.items() if names}


def test_the_bounds_are_those_of_the_note():
    from alexnet_tf.data import preprocessing, untrusted
    from data_prep import images

    note = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    assert f"more than {preprocessing.MAX_PIXELS:,} pixels" in note
    assert f"`--max_pixels` ({images.MAX_PIXELS:,})" in note
    assert f"more than {untrusted.MAX_ASPECT_RATIO} times as long as wide" in note


def test_a_model_file_with_code_inside_is_refused(tmp_path):
    import keras

    import alexnet_tf

    path = tmp_path / "stranger.keras"
    keras.Sequential([keras.Input((2,)), keras.layers.Lambda(lambda x: x + 1)]).save(path)
    with pytest.raises(ValueError, match=r"stranger\.keras.*Lambda"):
        alexnet_tf.load_model(path)
