"""The pages of an atlas as a person meets them: in Chromium, from disk.

Debian's package `chromium`, or a Chrome of another name on the path. Where ALEXNET_TF_BROWSER names
one, as in `.ci/run`, nothing is skipped.
"""

import importlib.util
import itertools
import os
import pathlib
import shutil

import pytest

from alexnet_tf.analysis.atlas import site
from alexnet_tf.analysis.atlas.settings import Settings

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FOUND = [path for path in map(shutil.which, BROWSERS) if path]
BROWSER = os.environ.get("ALEXNET_TF_BROWSER") or (FOUND[0] if FOUND else None)
pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome is installed"),
    pytest.mark.skipif(
        importlib.util.find_spec("playwright") is None and "ALEXNET_TF_BROWSER" not in os.environ,
        reason="playwright is not installed",
    ),
]
NARROW, WIDE = 420, 1280


def _planted():
    path = pathlib.Path(__file__).with_name("planted.py")
    spec = importlib.util.spec_from_file_location("planted", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def atlas(tmp_path_factory):
    """The directory of a small atlas of two halves, with a class called <b>noise</b>."""
    planted, root = _planted(), tmp_path_factory.mktemp("atlas")
    planted.network().save(root / "model.keras")
    data = planted.write_dataset(root / "data", planted.images())
    settings = Settings(units=4, images=5, sample=40, steps=2, places=3)
    site.build(str(root / "model.keras"), data, str(root / "site"), settings)
    return root / "site"


@pytest.fixture(scope="module")
def chromium():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # As root, which CI is, Chromium has no sandbox.
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium):
    """A function that opens a window of a width and a colour scheme, and what went wrong there."""
    contexts, troubles = [], []

    def open_window(width=WIDE, scheme="light"):
        context = chromium.new_context(
            viewport={"width": width, "height": 800}, color_scheme=scheme
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: troubles.append(message.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("requestfailed", lambda request: troubles.append(request.url))
        page.on("dialog", lambda dialog: troubles.append(dialog.message))
        page.on(
            "request",
            lambda request: (
                request.url.startswith(("file:", "data:")) or troubles.append(request.url)
            ),
        )
        return page

    yield open_window
    for context in contexts:
        context.close()
    assert not troubles


def _kinds(atlas) -> dict[str, str]:
    """A page of each kind."""
    first = {
        name: next(iter(sorted(atlas.glob(f"{name}*.html"))))
        for name in ("layers/conv1", "units/conv1", "units/conv2", "units/fc8", "images/")
    }
    kinds = {name: str(path.relative_to(atlas)) for name, path in first.items()}
    names = ("index.html", "images.html", "architectures.html", "methods.html")
    return kinds | {name: name for name in names}


def test_every_link_of_every_page_leads_somewhere(atlas, open_page):
    page = open_page()
    start = (atlas / "index.html").as_uri()
    todo, seen, anchors = [start], set(), {}
    while todo:
        url = todo.pop()
        if url in seen:
            continue
        seen.add(url)
        page.goto(url)
        anchors[url] = set(page.eval_on_selector_all("[id]", "all => all.map(e => e.id)"))
        links = page.eval_on_selector_all(
            "a", "all => all.map(e => typeof e.href === 'string' ? e.href : e.href.baseVal)"
        )
        links = [page.evaluate("([a, b]) => new URL(a, b).href", [link, url]) for link in links]
        broken = page.eval_on_selector_all(
            "img", "all => all.filter(e => !e.complete || !e.naturalWidth).map(e => e.src)"
        )
        assert not broken, url
        for link in links:
            target, _, anchor = link.partition("#")
            path = pathlib.Path(target.removeprefix("file://"))
            assert path.is_file(), f"{url} links to {link}"
            if anchor and target in anchors:
                assert anchor in anchors[target], f"{url} links to {link}"
            if target.endswith(".html"):
                todo.append(target)
    assert {pathlib.Path(url.removeprefix("file://")) for url in seen} == set(atlas.rglob("*.html"))


@pytest.mark.parametrize("width", [NARROW, WIDE])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_fit_the_screen_in_both_schemes(atlas, open_page, width, scheme):
    page = open_page(width, scheme)
    for name in _kinds(atlas).values():
        page.goto((atlas / name).as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
        red, green, blue = page.evaluate(
            "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)"
        )
        assert (red + green + blue < 150) == (scheme == "dark"), name
        shown = page.eval_on_selector_all(
            "svg.network", "all => all.filter(e => e.checkVisibility()).map(e => e.classList[1])"
        )
        assert set(shown) <= {"tall" if width == NARROW else "wide"}
        if name == "index.html":
            assert len(shown) == 2  # this network, and LeNet-5


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(atlas, open_page, scheme):
    """4.5 to 1, as WCAG's level AA asks, for links, text, quiet text and what is current."""
    page = open_page(WIDE, scheme)
    page.goto((atlas / "images.html").as_uri())
    ratio = """e => {
      const parts = c => c.match(/[\\d.]+/g).map(Number);
      const light = c => parts(c).slice(0, 3).map(v => v / 255)
        .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
      const behind = e => getComputedStyle(e).backgroundColor;
      let under = e;
      while (parts(behind(under))[3] === 0) under = under.parentElement;
      const [a, b] = [light(getComputedStyle(e).color), light(behind(under))];
      return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    }"""
    for selector in ("h1", "main p", "main a", ".quiet", "footer p", "header a[aria-current]"):
        assert page.locator(selector).first.evaluate(ratio) >= 4.5, selector


def test_the_keyboard_reaches_everything(atlas, open_page):
    page = open_page()
    page.goto((atlas / "index.html").as_uri())
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    top = page.evaluate("document.activeElement.getBoundingClientRect().top")
    assert top >= 0  # it comes into view
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.keyboard.press("Tab")  # the first layer of the drawing
    label = page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert label == "conv1: 8 maps of 13 by 13, kernels of 7 by 7, in two halves"
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.keyboard.press("Enter")
    page.wait_for_url("**/layers/conv1.html")
    assert page.locator("h1").inner_text() == "conv1"


def test_a_screen_reader_finds_its_way(atlas, open_page):
    page = open_page()
    for name in _kinds(atlas).values():
        page.goto((atlas / name).as_uri())
        for selector in ("main", "header", "footer", "h1", "a.skip"):
            assert page.locator(selector).count() == 1, (name, selector)
        assert page.locator("header nav[aria-label]").count() == 1
        assert page.evaluate("document.documentElement.lang") == "en"
        levels = page.eval_on_selector_all("h1,h2,h3", "all => all.map(e => Number(e.tagName[1]))")
        assert all(b <= a + 1 for a, b in itertools.pairwise(levels)), name
        assert page.locator("img:not([alt])").count() == 0
        assert page.locator("svg:not([aria-label])").count() == 0
        # Every link has a name: text, or the label of what is in it.
        nameless = page.eval_on_selector_all(
            "a", "all => all.filter(e => !(e.textContent.trim() || e.ariaLabel)).length"
        )
        assert nameless == 0, name
        ids = page.eval_on_selector_all("[id]", "all => all.map(e => e.id)")
        assert len(ids) == len(set(ids)), name
        labelled = page.eval_on_selector_all(
            "[aria-labelledby]", "all => all.map(e => e.getAttribute('aria-labelledby'))"
        )
        assert set(labelled) <= set(ids), name


def test_a_class_name_is_text_and_no_markup(atlas, open_page):
    page = open_page()
    page.goto((atlas / "images.html").as_uri())
    assert page.locator("h2", has_text="<b>noise</b>").count() == 1
    assert page.locator("main b").count() == 0


def test_a_layer_of_another_network_leads_to_its_row(atlas, open_page):
    page = open_page()
    page.goto((atlas / "architectures.html").as_uri())
    page.locator("#alexnet svg.wide a[aria-label^='conv3']").click()
    assert page.url.endswith("#alexnet-conv3")
    assert "reads both halves" in page.locator("tr:target").inner_text()
