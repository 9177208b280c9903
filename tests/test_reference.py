"""The reference that `make docs` builds from the docstrings has every public name."""

import ast
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]


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
    # Modules have a title in words, with their name below it.
    listed |= set(re.findall(r"<p><code>((?:alexnet_tf|data_prep)\.[\w.]+)</code></p>", html))
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


@pytest.mark.slow
def test_every_image_of_a_page_is_on_the_site(site):
    shown = {
        (page.parent / source).resolve()
        for page in site.rglob("index.html")
        for source in re.findall(r'<img[^>]* src="([^":]+)"', page.read_text(encoding="utf-8"))
    }
    assert site / "images" / "fig1_cifar10.png" in shown  # from outside docs/
    assert not [str(path) for path in shown if not path.is_file()]


def test_the_public_names_are_in_the_reference():
    import alexnet_tf

    pages = (ROOT / "docs" / "reference" / "networks.md").read_text(encoding="utf-8")
    pages += (ROOT / "docs" / "reference" / "data.md").read_text(encoding="utf-8")
    shown = re.findall(r"^::: (\S+)$", pages, re.MULTILINE)
    for name in alexnet_tf.__all__:
        home = getattr(alexnet_tf, name).__module__
        assert home in shown or f"{home}.{name}" in shown, name
