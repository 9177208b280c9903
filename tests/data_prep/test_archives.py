"""Tars to the last member: damage is named with its place, links are resolved, others listed."""

import io
import os
import random
import tarfile

import numpy as np
import pytest
import scipy.io

from alexnet_tf.data import records
from data_prep import convert, preparation
from data_prep.layouts import archives, devkit, meta_mat

SYNSETS = ("n01440764", "n02100735")


def file_entry(name, content):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    return info, content


def link_entry(name, target, kind=tarfile.LNKTYPE):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info, b""


def tar_of(entries, mode="w", form=tarfile.GNU_FORMAT):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode, format=form) as archive:
        for info, content in entries:
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


@pytest.fixture(scope="module")
def jpeg(real):
    return {
        (synset, number): real.jpeg(real.photograph(name, 60, 70 + number))
        for synset, name in zip(SYNSETS, ("chelsea", "coffee"), strict=True)
        for number in range(1, 6)
    }


def val_name(number):
    return f"ILSVRC2012_val_{number:08d}.JPEG"


def train_entries(jpeg, synset):
    return [
        file_entry(f"{synset}_{number}.JPEG", content)
        for (s, number), content in jpeg.items()
        if s == synset
    ]


def write_source(folder, inner, validation, outer=tar_of):
    """The tars of 2012 and their devkit; `inner` is {synset: tar}, `validation` a tar."""
    folder.mkdir()
    files = {
        "ILSVRC2012_img_train.tar": outer(
            [file_entry(f"{synset}.tar", content) for synset, content in inner.items()]
        ),
        "ILSVRC2012_img_val.tar": validation,
    }
    dtype = [("ILSVRC2012_ID", "O"), ("WNID", "O")]
    meta = io.BytesIO()
    scipy.io.savemat(meta, {"synsets": np.array(list(enumerate(SYNSETS, 1)), dtype)})
    truth = "".join(f"{number % 2 + 1}\n" for number in range(20)).encode()
    kit = {"meta.mat": meta.getvalue(), "ILSVRC2012_validation_ground_truth.txt": truth}
    files["ILSVRC2012_devkit_t12.tar.gz"] = tar_of(
        [file_entry(f"ILSVRC2012_devkit_t12/data/{name}", c) for name, c in kit.items()], "w:gz"
    )
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def whole(jpeg):
    """({synset: tar}, validation tar)."""
    inner = {synset: tar_of(train_entries(jpeg, synset)) for synset in SYNSETS}
    validation = [file_entry(val_name(n), c) for n, c in enumerate(list(jpeg.values())[:5], 1)]
    return inner, tar_of(validation)


def prepared(source, output, **settings):
    settings = preparation.Settings(image_size=32, **settings)
    return preparation.prepare(str(source), str(output), settings, workers=1)


def refused(source, output, capsys, *flags):
    assert convert.main([f"--source={source}", f"--output={output}", "--workers=1", *flags]) == 1
    assert not os.path.exists(output)
    return capsys.readouterr().err.strip().splitlines()[-1]


def header_of(content, number):
    """Where the header of a member is, by its number."""
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        return archive.getmembers()[number].offset


def flipped(content, byte):
    damaged = bytearray(content)
    damaged[byte] ^= 1
    return bytes(damaged)


def test_whole_archives(whole, tmp_path):
    manifest = prepared(write_source(tmp_path / "source", *whole), tmp_path / "out")
    assert manifest["counts"] == {"train": 10, "validation": 5} and manifest["rejects"] == []


@pytest.mark.parametrize("member", [0, 3])
@pytest.mark.parametrize("byte", [0, 124, 148, 156, 400])
def test_a_flipped_byte_in_a_header_of_an_inner_tar(whole, tmp_path, capsys, member, byte):
    inner, validation = whole
    at = header_of(inner[SYNSETS[1]], member)
    inner = {**inner, SYNSETS[1]: flipped(inner[SYNSETS[1]], at + byte)}
    error = refused(write_source(tmp_path / "source", inner, validation), tmp_path / "out", capsys)
    assert f"ILSVRC2012_img_train.tar:{SYNSETS[1]}.tar is no whole, uncompressed tar" in error
    outer = (tmp_path / "source" / "ILSVRC2012_img_train.tar").read_bytes()
    assert f"byte {outer.index(inner[SYNSETS[1]]) + at} " in error
    assert "class names" not in error  # as said of a class that is missing in a split


def test_a_flipped_byte_in_a_header_of_the_validation_tar(whole, tmp_path, capsys):
    inner, validation = whole
    at = header_of(validation, 2)
    source = write_source(tmp_path / "source", inner, flipped(validation, at + 10))
    assert f"byte {at} should begin a member" in refused(source, tmp_path / "out", capsys)


@pytest.mark.parametrize("where", ["border", "inside", "header"])
def test_a_validation_tar_that_was_cut(whole, tmp_path, capsys, where):
    inner, validation = whole
    end = header_of(validation, 3) + {"border": 0, "inside": 700, "header": 100}[where]
    source = write_source(tmp_path / "source", inner, validation[:end])
    error = refused(source, tmp_path / "out", capsys)
    assert "ILSVRC2012_img_val.tar is no whole, uncompressed tar" in error and "byte" in error


def test_a_training_tar_that_was_cut_between_two_classes(whole, tmp_path, capsys):
    source = write_source(tmp_path / "source", *whole)
    path = source / "ILSVRC2012_img_train.tar"
    content = path.read_bytes()
    path.write_bytes(content[: header_of(content, 1)])
    assert "without an end mark" in refused(source, tmp_path / "out", capsys)


def test_a_class_whose_images_are_lost_is_named(whole, tmp_path, capsys):
    inner, validation = whole
    source = write_source(tmp_path / "source", {**inner, SYNSETS[0]: tar_of([])}, validation)
    error = refused(source, tmp_path / "out", capsys)
    assert f"{SYNSETS[0]}.tar holds no image" in error and "classes that training" not in error


def test_what_follows_the_end_is_not_lost(whole, tmp_path, capsys):
    """Two archives in one file: unpacking stops between them."""
    inner, validation = whole
    source = write_source(tmp_path / "source", inner, validation + validation)
    assert f"at byte {len(validation)}" in refused(source, tmp_path / "out", capsys)


def test_links_are_resolved_and_the_rest_is_listed(whole, jpeg, tmp_path, capsys):
    inner, _ = whole
    first, second = list(jpeg.values())[:2]
    fifo = tarfile.TarInfo("pipe.jpg")
    fifo.type = tarfile.FIFOTYPE
    folder = tarfile.TarInfo("val")
    folder.type = tarfile.DIRTYPE
    entries = [
        (folder, b""),
        file_entry(f"val/{val_name(1)}", first),
        link_entry(f"val/{val_name(2)}", f"val/{val_name(1)}"),
        link_entry(f"val/{val_name(3)}", f"../val/{val_name(4)}", tarfile.SYMTYPE),
        file_entry(f"val/{val_name(4)}", second),
        link_entry(f"val/{val_name(5)}", val_name(5), tarfile.SYMTYPE),  # to itself
        link_entry(f"val/{val_name(6)}", "/etc/passwd", tarfile.SYMTYPE),
        file_entry("readme.txt", b"no image"),
        file_entry(f"val/._{val_name(1)}", b"hidden"),
        (fifo, b""),
        file_entry(f"val/{val_name(7)}", second),
        file_entry(f"val/{val_name(7)}", first),
        file_entry("no_number.jpg", first),
    ]
    source = write_source(tmp_path / "source", inner, tar_of(entries))
    error = refused(source, tmp_path / "out", capsys)
    assert "ILSVRC2012_img_val.tar:" in error and "--max_bad" in error
    manifest = prepared(source, tmp_path / "out", max_bad=5)
    assert manifest["counts"]["validation"] == 5
    archive = "ILSVRC2012_img_val.tar"
    rejects = {path.removeprefix(f"{archive}:"): reason for path, reason in manifest["rejects"]}
    assert rejects.pop(f"val/{val_name(5)}") == "a link to what is not in the archive"
    assert rejects.pop(f"val/{val_name(6)}") == "a link to what is not in the archive"
    assert rejects.pop("pipe.jpg") == "a FIFO"
    assert "number" in rejects.pop("no_number.jpg")
    [(name, reason)] = rejects.items()
    assert name.startswith(f"val/{val_name(7)} (byte ") and "same name" in reason
    unused = {entry["path"]: entry["reason"] for entry in manifest["source"]["unused"]}
    assert unused[f"{archive}:readme.txt"] == "no image"
    assert unused[f"{archive}:val/._{val_name(1)}"] == "hidden"
    import tensorflow_datasets as tfds

    stored = {
        row["file_name"].decode(): row["image"].tobytes()
        for row in tfds.as_numpy(
            tfds.builder_from_directory(str(tmp_path / "out")).as_dataset(split="validation")
        )
    }
    assert stored[val_name(1)] == stored[val_name(2)] == stored[val_name(7)]
    assert stored[val_name(3)] == stored[val_name(4)] != stored[val_name(1)]
    assert records.read_manifest(str(tmp_path / "out"))["source"]["rejected_members"] == 5


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_names_of_every_form(form):
    names = ["short.jpg", "folder/" + 80 * "x" + "/" + 90 * "y" + ".jpg", "no_utf8_\udcff.jpg"]
    if form != tarfile.USTAR_FORMAT:
        names += [300 * "z" + ".jpg", "é" * 120 + ".jpg"]
    generator = random.Random(0)
    entries = [file_entry(name, generator.randbytes(generator.randrange(2000))) for name in names]
    content = tar_of(entries, form=form)
    around = b"\1" * 700 + content + b"\2" * 700
    found = archives.members(io.BytesIO(around), 700, len(content), "archive")
    assert [m.name for m in found] == names
    for member, (_, expected) in zip(found, entries, strict=True):
        assert around[member.offset : member.offset + member.size] == expected


def test_a_negative_size_leads_nowhere():
    """The standard library's reader goes round for ever on such a header, or reads all at once."""
    header = bytearray(tarfile.TarInfo("a.jpg").tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" * 10 + b"\xfe\x00"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    content = bytes(header) + bytes(10240)
    with pytest.raises(ValueError, match="byte 0 should begin a member"):
        archives.members(io.BytesIO(content), 0, len(content), "archive")


@pytest.mark.parametrize("damage", ["flipped", "cut", "no_gzip", "meta"])
def test_a_damaged_development_kit(whole, tmp_path, capsys, damage):
    source = write_source(tmp_path / "source", *whole)
    path = source / "ILSVRC2012_devkit_t12.tar.gz"
    content = path.read_bytes()
    if damage == "meta":
        names = ("meta.mat", "ILSVRC2012_validation_ground_truth.txt")
        content = tar_of([file_entry(name, b"1\n" * 400) for name in names], "w:gz")
    else:
        half = len(content) // 2
        content = {
            "flipped": flipped(content, half),
            "cut": content[:half],
            "no_gzip": bytes(1000),
        }[damage]
    path.write_bytes(content)
    error = refused(source, tmp_path / "out", capsys)
    assert ("meta.mat" if damage == "meta" else f"{path} is no whole development kit") in error


def test_a_development_kit_that_unpacks_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(devkit, "_LARGEST_DEVKIT", 1000)
    path = tmp_path / "kit.tar.gz"
    path.write_bytes(tar_of([file_entry("meta.mat", bytes(5000))], "w:gz"))
    with pytest.raises(ValueError, match="unpacks to more than 1000 bytes"):
        devkit._from_archive(str(path), "truth.txt")


def test_a_damaged_table_of_classes_does_not_end_the_converter():
    """SciPy's reader may end its own process, at other times it raises."""
    meta = io.BytesIO()
    dtype = [("ILSVRC2012_ID", "O"), ("WNID", "O")]
    scipy.io.savemat(meta, {"synsets": np.array(list(enumerate(SYNSETS, 1)), dtype)})
    whole = meta.getvalue()
    assert meta_mat.synsets(whole) == dict(enumerate(SYNSETS, 1))
    for damaged in (whole[:200], whole[:128] + whole[160:], b""):
        with pytest.raises(ValueError) as caught:
            meta_mat.synsets(damaged)
        assert len(str(caught.value).splitlines()) == 1
