"""An atlas is whole, continues where it was stopped, and says what was measured."""

import dataclasses
import importlib.util
import itertools
import json
import pathlib
import re
import sys

import pytest

from alexnet_tf import atlas as command
from alexnet_tf import list_models, models
from alexnet_tf.analysis import architecture
from alexnet_tf.analysis.atlas import diagram, site, storage
from alexnet_tf.analysis.atlas.settings import Settings


def _beside(name):
    spec = importlib.util.spec_from_file_location(
        name, pathlib.Path(__file__).with_name(name + ".py")
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


planted = _beside("planted")
SMALL = Settings(units=6, images=5, sample=40, steps=4, places=4)


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """(model file, data set)."""
    root = tmp_path_factory.mktemp("sources")
    planted.network().save(root / "model.keras")
    return str(root / "model.keras"), planted.write_dataset(root / "data", planted.images())


@pytest.fixture(scope="module")
def atlas(sources, tmp_path_factory):
    """The directory of a finished atlas."""
    path = tmp_path_factory.mktemp("atlas") / "site"
    built = site.build(*sources, str(path), SMALL)
    assert (built.layers, built.units, built.images, built.already) == (5, 29, 5, False)
    assert built.index == f"{path}/index.html"
    return path


def _files(directory):
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def test_all_numbers_are_in_one_file(atlas):
    numbers = json.loads((atlas / "atlas.json").read_text(encoding="utf-8"))
    assert [layer["name"] for layer in numbers["layers"]] == ["conv1", "conv2", "fc6", "fc7", "fc8"]
    assert [layer["units"] for layer in numbers["layers"]] == [8, 8, 300, 16, 5]
    unit = numbers["units"][f"conv1-{planted.RED_EDGE}"]
    assert unit["labels"][0]["class"] == unit["classes"][0]["class"] == "red vertical"
    assert unit["colour"]["share"] > 0.9
    assert max(unit["colour"]["hues"], key=unit["colour"]["hues"].get) == "red"
    assert unit["neighbours"][0]["unit"] == planted.STRONGER
    # A unit for each class: the best one for red edges is shown, the silent one is not.
    assert planted.SILENT not in numbers["layers"][0]["shown"]
    assert [unit["class"] for key, unit in numbers["units"].items() if key.startswith("fc8")] == [
        *planted.CLASSES
    ]
    # An image of each class has a page, and its neighbours are others.
    assert [image["truth"] for image in numbers["images"]] == list(planted.CLASSES)
    for image in numbers["images"]:
        assert image["number"] not in [other["image"] for other in image["neighbours"]]
        assert sum(one["probability"] for one in image["predictions"]) == pytest.approx(1, abs=1e-4)


def test_every_page_and_file_is_there_and_nothing_else(atlas):
    numbers = json.loads((atlas / "atlas.json").read_text(encoding="utf-8"))
    pages = {f"units/{key}.html" for key in numbers["units"]}
    pages |= {f"layers/{layer['slug']}.html" for layer in numbers["layers"]}
    pages |= {f"images/{image['number']:05d}.html" for image in numbers["images"]}
    pages |= {"index.html", "images.html", "architectures.html", "methods.html"}
    files = set(_files(atlas))
    assert {name for name in files if name.endswith(".html")} == pages
    assert files - pages - {name for name in files if name.startswith("assets/")} == {
        "atlas.json",
        "style.css",
    }
    text = b"".join((atlas / page).read_bytes() for page in pages).decode()
    named = set(re.findall(r'(?:src|href)="(?:\.\./)?(assets/[^"]+)"', text))
    assert named == {name for name in files if name.startswith("assets/")}
    assert "http://" not in text and "https://" not in text and "<script" not in text


def test_a_grey_network_has_an_atlas_without_colours(tmp_path):
    """LeNet-5, whose layers are of other kinds, and data whose names are not its own."""
    models.build_model("lenet5").save(tmp_path / "lenet.keras")
    grey = dataclasses.replace(planted.images(10), images=planted.images(10).images[..., :1])
    data = planted.write_dataset(tmp_path / "data", grey)
    settings = dataclasses.replace(SMALL, units=16, steps=1)
    built = site.build(str(tmp_path / "lenet.keras"), data, str(tmp_path / "site"), settings)
    assert (built.layers, built.units) == (5, 6 + 16 + 16 + 16 + 10)
    numbers = json.loads((tmp_path / "site" / "atlas.json").read_text(encoding="utf-8"))
    assert [layer["name"] for layer in numbers["layers"]] == ["c1", "c3", "c5", "f6", "output"]
    assert all(unit["colour"] is None for unit in numbers["units"].values())
    assert numbers["data"]["top1_accuracy"] is None
    assert numbers["images"][0]["predictions"][0]["class"].startswith("class ")
    # c3's table of connections: its map 0 reads the maps 0, 1 and 2 of s2.
    assert {one["unit"] for one in numbers["units"]["c3-0"]["inputs"]} == {0, 1, 2}


def test_names_are_escaped(atlas):
    text = (atlas / "index.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;noise&lt;/b&gt;" in text and "<b>noise" not in text


def test_an_interrupted_atlas_goes_on_and_becomes_the_same(atlas, sources, tmp_path, monkeypatch):
    path = tmp_path / "site"
    (path / "unfinished").mkdir(parents=True)  # killed before its first file was whole
    write, left = storage.Storage.write_image, [0]

    def stop(self, name, image):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        write(self, name, image)

    stops = 0
    monkeypatch.setattr(storage.Storage, "write_image", stop)
    for files in (3, 40, 40, 1000):  # in the middle of layers and of images, then to the end
        left[0] = files
        try:
            site.build(*sources, str(path), SMALL)
        except KeyboardInterrupt:
            stops += 1
            assert not (path / "index.html").exists() and not (path / "atlas.json").exists()
    assert stops == 3
    assert _files(path) == _files(atlas)
    assert site.build(*sources, str(path), SMALL).already


def test_another_directorys_files_stay(atlas, sources, tmp_path):
    other = dataclasses.replace(SMALL, units=7)
    before = _files(atlas)
    with pytest.raises(ValueError, match="holds an atlas of other settings: name another"):
        site.build(*sources, str(atlas), other)
    assert _files(atlas) == before
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds other files"):
        site.build(*sources, str(tmp_path), SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_the_command_says_where(sources, tmp_path, capsys):
    model, data = sources
    flags = [f"--model={model}", f"--data_dir={data}", f"--output={tmp_path}/new/site"]
    small = ["--units=1", "--images=0", "--sample=2", "--steps=1", "--places=2"]
    assert command.main([*flags, *small]) == 0
    said = capsys.readouterr().out
    assert "5 layers, 5 units, 0 images" in said
    assert f"Open {tmp_path}/new/site/index.html in a browser." in said
    assert command.main([*flags, *small]) == 0
    assert "already complete" in capsys.readouterr().out
    for wrong, code, sentence in [
        (flags[:2], 2, "--output is missing"),
        ([*flags, "--units=0"], 2, "units"),
        ([*flags, "--split=test"], 1, "no split 'test'"),
        ([*flags[:2], "--output=gs://bucket/a"], 2, "expected a path of this machine"),
        ([*flags, "more"], 2, "expected flags only"),
        ([f"--model={tmp_path}/none", *flags[1:]], 1, "There is no model"),
    ]:
        assert command.main(wrong) == code
        (error,) = capsys.readouterr().err.strip().splitlines()
        assert sentence in error


def test_a_missing_template_library_is_named(sources, tmp_path, monkeypatch, capsys):
    for name in [name for name in sys.modules if name.startswith("alexnet_tf.analysis.atlas")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "jinja2", None)  # as where it is not installed
    model, data = sources
    assert command.main([f"--model={model}", f"--data_dir={data}", f"--output={tmp_path}/a"]) == 1
    (said,) = capsys.readouterr().err.strip().splitlines()
    assert said.endswith("needs the package jinja2: pip install 'alexnet-tf[plots]'.")
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("name", list_models())
def test_every_variant_is_drawn(name):
    blocks = architecture.published_blocks(name)
    for drawn in (diagram.wide(blocks), diagram.tall(blocks)):
        assert [layer.block for layer in drawn.layers] == blocks
        for layer in drawn.layers:
            assert len(layer.boxes) == layer.block.columns
            for box in layer.boxes:
                assert box.x >= 0 and box.x + box.width + box.depth <= drawn.width
                assert box.y - box.depth >= 0 and box.y + box.height <= drawn.height
        crossing = sum(arrow.crosses for arrow in drawn.arrows)
        between = itertools.pairwise(blocks)
        both = [two for one, two in between if one.columns == two.columns == 2]
        assert crossing == 2 * sum(block.crosses for block in both)


def test_transfers_between_halves_are_named():
    def note(name):
        return diagram.crossing_note(architecture.published_blocks(name))

    assert "into conv3, fc6, fc7 (response normalisation reads both" in note("alexnet")
    assert note("alexnet_145").endswith("into conv3, fc6, fc7.")
    assert note("alexnet_145_no_cross") == (
        "Nothing is transferred between the two halves before the last layer."
    )
    assert note("lenet5") == note("alexnet_owt") == ""
