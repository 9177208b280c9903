"""What is in a source and what the manifest accounts for are the same set of files."""

import json
import os
import pathlib
import shutil

import pytest
import tensorflow as tf

from alexnet_tf import files
from alexnet_tf.data import records
from data_prep import checks, convert, preparation, verify

# What people's folders hold besides; each is planted into every layout.
PLANTED = {
    "README.txt": b"about this data set",
    ".DS_Store": b"hidden",
    "notes": b"no ending, no image",
    "__MACOSX/._p0.jpg": b"hidden, though it is called .jpg",
    "extra/deep/er/": b"",
}
LAYOUTS = (
    *("tars_2012", "tars_2012_with_devkit_folder", "tars_2010", "folders", "wrapped"),
    *("flat_with_devkit", "flat_2010", "flat_with_caffe_list", "flat_with_synset_list"),
    *("tiny_imagenet", "csv_beside_images", "kaggle", "parquet", "mnist", "cifar10"),
)


def files_of(source):
    return {
        os.path.relpath(os.path.join(folder, name), source)
        for folder, _, names in os.walk(source)
        for name in names
    }


def accounted(source, manifest, taken):
    """Every file that the manifest speaks of; `taken` are the images' own files."""
    of_source = manifest["source"]
    left_out = [entry["path"] for entry in of_source["unused"]]
    left_out += [path for path, _ in manifest["rejects"]]
    named = set(taken) | set(of_source["used"]) | {p for p in left_out if not p.endswith("/")}
    for folder in (path for path in left_out if path.endswith("/")):
        inside = {f"{folder}{path}" for path in files_of(os.path.join(source, folder))}
        assert not inside & named, "a folder that is left out as a whole has something taken"
        named |= inside
    return named


def plan_of(monkeypatch):
    """Collects the paths of all images that a conversion plans."""
    from data_prep import plan

    taken = []
    whole = plan.make_plan

    def noted(images, *rest):
        def passing():
            for image in images:
                if image.offset < 0:
                    taken.append(image.path)
                yield image

        return whole(passing(), *rest)

    monkeypatch.setattr(plan, "make_plan", noted)
    return taken


@pytest.fixture
def planted(request, sources, images, real, tmp_path):
    """A source of the layout that the test's parameter names, with extra files; its images."""
    source = tmp_path / "source"
    getattr(sources, request.param)(source, images, real)
    for name, content in PLANTED.items():
        if name.endswith("/"):
            (source / name).mkdir(parents=True)
        else:
            real.write(source / name, content)
    # A loose image, a link that leads nowhere, a FIFO, a cut-off image, a folder of images.
    real.write(source / "loose.jpg", images[0][0][2])
    os.symlink("nowhere", source / "gone.jpg")
    os.mkfifo(source / "pipe.jpg")
    real.write(source / "more" / "deep" / "1.jpg", images[0][1][2])
    real.write(source / "more" / "2.jpg", images[0][2][2])
    real.write(source / "more" / "note.txt", b"in the same folder")
    return source


@pytest.mark.parametrize("planted", LAYOUTS, indirect=True)
def test_every_file_is_accounted_for_and_a_hole_is_found(
    planted, request, sources, tmp_path, monkeypatch, capsys
):
    layout = sources.LAYOUTS[request.node.callspec.params["planted"]]
    flags = [f"--source={planted}", f"--output={tmp_path}/out", "--image_size=32", "--workers=1"]
    flags += [f"--layout={layout}"]
    # A folder of images stops the conversion, then single images do.
    assert convert.main([*flags, "--max_bad=9"]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "more/ (2 images)" in error and "--allow_unused" in error
    assert convert.main([*flags, "--allow_unused", "--max_bad=2"]) == 1
    assert "3 images cannot be used" in capsys.readouterr().err
    assert sorted(os.listdir(tmp_path)) == ["source"]  # no trace
    taken = plan_of(monkeypatch)
    assert convert.main([*flags, "--allow_unused", "--max_bad=3"]) == 0
    report = capsys.readouterr().out
    manifest = records.read_manifest(f"{tmp_path}/out")
    assert manifest["counts"]["train"] == 9 and manifest["counts"]["validation"] == 6
    assert accounted(planted, manifest, taken) == files_of(planted)
    rejects = dict(manifest["rejects"])
    assert set(rejects) == {"loose.jpg", "gone.jpg", "pipe.jpg"}
    assert "FIFO" in rejects["pipe.jpg"] and "leads nowhere" in rejects["gone.jpg"]
    unused = {entry["path"]: entry for entry in manifest["source"]["unused"]}
    assert (unused["more/"]["files"], unused["more/"]["images"]) == (3, 2)
    assert unused["__MACOSX/"]["images"] == 0
    # The report says what the manifest says.
    assert f"more/ (3 files, 2 images): {unused['more/']['reason']}" in report
    assert f"left out: pipe.jpg: {rejects['pipe.jpg']}" in report
    # Nothing is missing ...
    assert verify.main([f"--data_dir={tmp_path}/out", f"--source={planted}", "--workers=1"]) == 0
    # ... until a record is taken away, with every number that tells of it.
    hole = shutil.copytree(tmp_path / "out", tmp_path / "hole")
    lost = take_a_record_away(hole)
    found = checks.verify(str(hole), workers=1)["problems"]
    assert any("1 do not add up" in problem for problem in found), found
    manifest = json.loads((hole / "manifest.json").read_text())
    manifest["source"]["found"]["train"] -= 1
    if layout in ("folders", "flat", "kaggle"):
        manifest["source"]["image_files"] -= 1
        manifest["source"]["files"] -= 1
    (hole / "manifest.json").write_text(json.dumps(manifest))
    assert checks.verify(str(hole), workers=1)["problems"] == []  # now only the source can tell
    found = checks.verify(str(hole), workers=1, source=str(planted))["problems"]
    assert [p for p in found if lost in p and "neither stored nor listed" in p], found
    # A manifest that keeps quiet about something that was left out.
    manifest = records.read_manifest(f"{tmp_path}/out")
    manifest["source"]["unused"] = [
        entry for entry in manifest["source"]["unused"] if entry["path"] != "more/"
    ]
    (tmp_path / "out" / "manifest.json").write_text(json.dumps(manifest))
    found = checks.verify(f"{tmp_path}/out", workers=1, source=str(planted))["problems"]
    assert any("more/ is in the source but not listed" in problem for problem in found)
    assert any("do not add up" in problem for problem in found)


def take_a_record_away(data):
    """Drops a training record and makes everything but the manifest's account agree."""
    import numpy as np

    path = sorted(pathlib.Path(data).glob("imagenet-train*"))[0]
    kept = [record.numpy() for record in tf.data.TFRecordDataset(str(path))]
    lost = tf.train.Example.FromString(kept.pop()).features.feature["file_name"]
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in kept:
            writer.write(record)
    manifest = json.loads((data / "manifest.json").read_text())
    size, sha256 = files.fingerprint(str(path))
    for shard in manifest["shards"]:
        if shard["file"] == path.name:
            shard.update(count=len(kept), bytes=size, sha256=sha256)
    manifest["counts"]["train"] -= 1
    (data / "manifest.json").write_text(json.dumps(manifest))
    info = json.loads((data / "dataset_info.json").read_text())
    split = next(split for split in info["splits"] if split["name"] == "train")
    split["shardLengths"][0] = str(len(kept))
    (data / "dataset_info.json").write_text(json.dumps(info))
    with np.load(data / "statistics.npz") as arrays:
        content = {**arrays, "count": manifest["counts"]["train"]}
    np.savez(data / "statistics.npz", **content)
    return lost.bytes_list.value[0].decode()


def test_an_image_added_after_the_conversion(photo_folders, tmp_path, real):
    source = shutil.copytree(photo_folders, tmp_path / "source")
    preparation.prepare(str(source), str(tmp_path / "out"), preparation.Settings(image_size=32), 1)
    assert checks.verify(str(tmp_path / "out"), 1, source=str(source))["problems"] == []
    real.write(source / "train" / "coins" / "new.jpg", real.jpeg(real.photograph()))
    found = checks.verify(str(tmp_path / "out"), 1, source=str(source))["problems"]
    assert any(problem.startswith("train/coins/new.jpg (train, coins) is in") for problem in found)
    assert any("is not as it was converted" in problem for problem in found)


def test_tfds_is_recounted_too(photo_folders, tmp_path):
    settings = preparation.Settings(image_size=32)
    preparation.prepare(photo_folders, str(tmp_path / "first"), settings, 1)
    source = f"tfds:{tmp_path}/first"
    preparation.prepare(source, str(tmp_path / "second"), settings, 1)
    assert checks.verify(str(tmp_path / "second"), 1, source=source)["problems"] == []
    lost = take_a_record_away(tmp_path / "second")
    found = checks.verify(str(tmp_path / "second"), 1, source=source)["problems"]
    assert any("1 do not add up" in problem for problem in found)
    assert any(lost in problem and "neither stored nor listed" in problem for problem in found)


def test_folders_that_are_refused_do_not_hide_another_layout(
    sources, images, real, tmp_path, capsys
):
    source = tmp_path / "source"
    sources.tars_2012(source, images, real)
    for path in ("samples/1.jpg", "samples/more/2.jpg"):  # no class folders, by themselves refused
        real.write(source / path, images[0][0][2])
    flags = [f"--source={source}", f"--output={tmp_path}/out", "--workers=1"]
    assert convert.main(flags) == 1
    assert "samples/ (2 images)" in capsys.readouterr().err
    assert convert.main([*flags, "--allow_unused"]) == 0


@pytest.mark.parametrize("layout", ["tars_2012", "parquet", "mnist", "kaggle", "csv_beside_images"])
def test_a_dry_run_counts_what_the_conversion_takes(
    layout, sources, images, real, tmp_path, capsys
):
    getattr(sources, layout)(tmp_path / "source", images, real)
    before = files_of(tmp_path)
    assert convert.main([f"--source={tmp_path}/source", "--dry_run"]) == 0
    text = capsys.readouterr().out
    assert "9 train, 6 validation images of" in text and "would stop" not in text
    assert files_of(tmp_path) == before
