"""Bad input ends with one sentence and the right code, and leaves nothing under its final name."""

import os
import uuid

import pytest

from alexnet_tf.data import records
from data_prep import convert, preparation, publishing, writer


def fails(capsys, *flags, code=1):
    """The sentence that a failing conversion ends with."""
    assert convert.main([*flags, "--workers=1"]) == code
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and "Traceback" not in error
    return error


@pytest.fixture
def two_classes(tmp_path, real):
    """A folder tree with room for one more image."""
    source = tmp_path / "source"
    for number in range(4):
        for split in ("train", "val"):
            for name in ("cat", "coffee"):
                pixels = real.photograph("chelsea" if name == "cat" else "coffee", 60, 70 + number)
                real.write(source / split / name / f"{number}.jpg", real.jpeg(pixels))
    return source


def test_no_such_directory(tmp_path, capsys):
    error = fails(capsys, f"--source={tmp_path}/nothing", f"--output={tmp_path}/out")
    assert "There is no directory" in error and "--source" in error
    assert os.listdir(tmp_path) == []


def test_an_empty_directory(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    error = fails(capsys, f"--source={tmp_path}/empty", f"--output={tmp_path}/out")
    assert "is empty" in error and "train/<class>" in error
    assert os.listdir(tmp_path) == ["empty"]


def test_a_directory_without_usable_images(tmp_path, capsys, real):
    real.write(tmp_path / "texts" / "train" / "cat" / "notes.txt", b"no image")
    error = fails(capsys, f"--source={tmp_path}/texts", f"--output={tmp_path}/out")
    assert "no images in a layout that is known (found train)" in error
    assert os.listdir(tmp_path) == ["texts"]


def test_as_a_user_runs_it(tmp_path, real):
    done = real.run("data_prep.convert", f"--source={tmp_path}/nothing", f"--output={tmp_path}/out")
    assert done.returncode == 1 and done.stdout == ""
    assert "There is no directory" in real.last_line(done.stderr)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "name", ["empty.jpg", "cut.jpg", "cut.png", "cut_cmyk.jpg", "text.jpg", "zeros.jpg"]
)
def test_an_image_that_cannot_be_decoded(two_classes, tmp_path, capsys, bad, real, name):
    real.write(two_classes / "train" / "cat" / name, bad[name])
    output = tmp_path / "out"
    error = fails(capsys, f"--source={two_classes}", f"--output={output}")
    assert f"train/cat/{name} cannot be used" in error and "--max_bad" in error
    assert not output.exists()
    # Allowed, it is left out and listed; the shards that were finished are kept.
    assert (
        convert.main(
            [f"--source={two_classes}", f"--output={output}", "--max_bad=1", "--workers=1"]
        )
        == 0
    )
    manifest = records.read_manifest(str(output))
    assert manifest["counts"] == {"train": 8, "validation": 8}
    [(file, reason)] = manifest["rejects"]
    assert file == f"train/cat/{name}" and reason


def test_one_bad_image_more_than_allowed(two_classes, tmp_path, capsys, bad, real):
    for name in ("cut.jpg", "text.jpg", "empty.jpg"):
        real.write(two_classes / "train" / "cat" / name, bad[name])
    error = fails(capsys, f"--source={two_classes}", f"--output={tmp_path}/out", "--max_bad=2")
    assert "3 images cannot be used" in error and "at most 2" in error


def test_bad_images_are_counted_over_all_shards(two_classes, tmp_path, capsys, bad, real):
    for split in ("train", "val"):
        real.write(two_classes / split / "cat" / "cut.jpg", bad["cut.jpg"])
    error = fails(capsys, f"--source={two_classes}", f"--output={tmp_path}/out", "--max_bad=1")
    assert "2 images cannot be used" in error


def test_odd_images_are_converted_and_listed(two_classes, tmp_path, nasty, real):
    for name, content in nasty.items():
        real.write(two_classes / "train" / "cat" / name, content)
    output = str(tmp_path / "out")
    preparation.prepare(str(two_classes), output, workers=1)
    manifest = records.read_manifest(output)
    assert manifest["counts"]["train"] == 8 + len(nasty)
    listed = {(os.path.basename(file), repair) for file, repair in manifest["repairs"]}
    assert ("cmyk.jpg", "CMYK converted to RGB") in listed
    assert ("png_as.jpg", "PNG named as JPEG") in listed
    assert ("plain.jpg", "") not in listed and "plain.jpg" not in {name for name, _ in listed}


def test_too_many_pixels(two_classes, tmp_path, capsys):
    error = fails(capsys, f"--source={two_classes}", f"--output={tmp_path}/o", "--max_pixels=4250")
    assert "72 x 60 pixels" in error or "71 x 60" in error or "73 x 60" in error
    assert "--max_pixels" in error


def test_a_class_that_training_never_sees(two_classes, tmp_path, capsys, real):
    real.write(two_classes / "val" / "dog" / "1.jpg", real.jpeg(real.photograph()))
    error = fails(capsys, f"--source={two_classes}", f"--output={tmp_path}/out")
    assert "1 classes that training has not" in error and "'dog'" in error
    assert sorted(os.listdir(tmp_path)) == ["source"]


def test_more_shards_than_images(two_classes, tmp_path, capsys):
    error = fails(capsys, f"--source={two_classes}", f"--output={tmp_path}/out", "--shards=9")
    assert "9 shards" in error and "8 images" in error


def test_output_that_holds_something_else(two_classes, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("precious")
    error = fails(capsys, f"--source={two_classes}", f"--output={tmp_path}/out")
    assert "no prepared data set" in error
    assert os.listdir(tmp_path / "out") == ["mine.txt"]
    error = fails(capsys, f"--source={two_classes}", f"--output={tmp_path}/out/mine.txt")
    assert "is a file" in error


def test_output_that_cannot_be_written(two_classes, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    error = fails(capsys, f"--source={two_classes}", f"--output={tmp_path}/file/out")
    assert str(tmp_path / "file" / "out") in error


@pytest.mark.parametrize(
    "name",
    [
        "found-validation.jsonl",
        "plan-train.jsonl",
        "imagenet-train.tfrecord-00000-of-00001.CALL.aside",
        "imagenet-train.tfrecord-00000-of-00001.sums.npz.CALL.aside",
        "imagenet-train.tfrecord-00000-of-00001.receipt.json.CALL.aside",
        "statistics.npz.CALL.aside",
        "manifest.json.CALL.aside",
    ],
)
def test_a_full_disk_ends_clearly_and_a_rerun_continues(
    two_classes, tmp_path, capsys, monkeypatch, name
):
    """/dev/full refuses every byte as a full disk does."""
    output, folder = tmp_path / "out", tmp_path / "out.partial"
    folder.mkdir()
    monkeypatch.setattr(uuid, "uuid4", lambda: uuid.UUID(int=0))  # names what is written aside
    (folder / name.replace("CALL", uuid.UUID(int=0).hex)).symlink_to("/dev/full")
    error = fails(capsys, f"--source={two_classes}", f"--output={output}")
    assert "There is no room to write" in error and f"{folder}" in error
    assert "No space left on device" in error and "start the same command again" in error
    assert not output.exists()
    for link in folder.glob("*.jsonl"):
        link.unlink()  # those of the plan have no other name
    assert not [entry for entry in os.listdir(folder) if entry.endswith("aside")]
    assert convert.main([f"--source={two_classes}", f"--output={output}", "--workers=1"]) == 0


def test_a_full_disk_while_a_source_is_unpacked(tmp_path, capsys, real):
    source, unpacked = tmp_path / "mnist", tmp_path / "out.partial" / "unpacked"
    for prefix in ("train", "t10k"):
        real.write(source / f"{prefix}-images-idx3-ubyte", idx(2051, 12, 28, 28) + bytes(12 * 784))
        real.write(source / f"{prefix}-labels-idx1-ubyte", idx(2049, 12) + bytes(12))
    unpacked.mkdir(parents=True)
    (unpacked / "train.bin.aside").symlink_to("/dev/full")
    error = fails(capsys, f"--source={source}", f"--output={tmp_path}/out")
    assert "There is no room to write" in error and f"{tmp_path}/out.partial" in error
    assert not (tmp_path / "out").exists()


def idx(*numbers):
    return b"".join(number.to_bytes(4, "big") for number in numbers)


def test_a_limit_on_the_size_of_files_is_a_full_disk_too(two_classes, tmp_path, capsys):
    import resource
    import signal

    flags = (f"--source={two_classes}", f"--output={tmp_path}/out", "--encoding=raw", "--shards=2")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, limits[1]))
        error = fails(capsys, *flags)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert "imagenet-train.tfrecord" in error and "start the same command again" in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("place", ["source", "output"])
def test_a_file_system_that_tensorflow_does_not_have(two_classes, tmp_path, capsys, place):
    places = {"source": str(two_classes), "output": f"{tmp_path}/out", place: "nofs://there/x"}
    error = fails(capsys, *(f"--{name}={path}" for name, path in places.items()))
    assert "'nofs' not implemented" in error and "gs://" in error


def test_an_image_that_vanishes_ends_clearly_and_a_rerun_continues(
    two_classes, tmp_path, capsys, monkeypatch
):
    victim = two_classes / "val" / "coffee" / "2.jpg"
    content = victim.read_bytes()
    whole = writer.write_shard

    def vanish(job, shard, progress=None):
        if shard.split == "validation":
            victim.unlink(missing_ok=True)
        return whole(job, shard, progress)

    monkeypatch.setattr(writer, "write_shard", vanish)
    flags = (f"--source={two_classes}", f"--output={tmp_path}/out")
    error = fails(capsys, *flags)
    assert str(victim) in error and "vanished" in error
    assert not (tmp_path / "out").exists()
    victim.write_bytes(content)
    made = []
    monkeypatch.setattr(
        writer, "write_shard", lambda *args: made.append(args[1].split) or whole(*args)
    )
    assert convert.main([*flags, "--workers=1"]) == 0
    assert made == ["validation"]


def test_two_converters_do_not_share_an_output(two_classes, tmp_path, capsys):
    with publishing.exclusive(str(tmp_path / "out.partial")):
        error = fails(capsys, f"--source={two_classes}", f"--output={tmp_path}/out")
    assert "Another conversion" in error


@pytest.mark.parametrize(
    "flags, says",
    [
        ([], "--source is missing"),
        (["--source=x"], "--output is missing"),
        (["--source=x", "--output=y", "--layout=nonsense"], "--layout=nonsense is not known"),
        (["--source=x", "--output=y", "--encoding=gif"], "encoding"),
        (["--source=x", "--output=y", "--workers=0"], "workers"),
        (["--source=x", "--output=y", "--image_size=0"], "image_size"),
        (["--source=x", "--output=y", "stray"], "stray"),
        (["--source=x", "--output=y", "--nonsense=1"], "nonsense"),
    ],
)
def test_wrong_usage_ends_with_two(flags, says, capsys):
    assert convert.main(flags) == 2
    assert says in capsys.readouterr().err


FLAGS = (
    *("source", "output", "layout", "image_size", "channels", "encoding", "runner", "workers"),
    *("seed", "shards", "max_bad", "max_pixels", "fast_dct", "apply_exif"),
    *("validation_share", "allow_unused", "image_column", "label_column", "dry_run"),
)


def test_the_flags_of_the_command(capsys):
    assert convert.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert [flag for flag in FLAGS if f"\n  --{flag} " not in text] == []
