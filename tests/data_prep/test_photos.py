"""The embedded data set: real photographs, no pixel shared between training and validation."""

import collections
import json
import os

import cv2
import numpy as np
import pytest

from data_prep import photos


@pytest.fixture(scope="module")
def crops(photo_folders):
    with open(os.path.join(photo_folders, photos.CROPS_FILE), encoding="utf-8") as file:
        return [photos.Crop(**crop) for crop in json.load(file)["crops"]]


def test_every_class_has_its_share(photo_folders, crops):
    counts = collections.Counter(crop.file.rsplit("/", 1)[0] for crop in crops)
    assert set(counts) == {
        f"{split}/{name}" for split in ("train", "val") for name in photos.PHOTOGRAPHS.values()
    }
    assert set(counts.values()) == {6, 3}
    assert all(os.path.isfile(os.path.join(photo_folders, crop.file)) for crop in crops)


def test_recorded_boxes_share_no_pixel():
    # The full size, in boxes only: drawn exactly as the images are.
    for index, (name, pixels) in enumerate(photos.read_photographs().items()):
        height, width = pixels.shape[:2]
        painted = {}
        for split, draw in (("train", photos._draw_training), ("val", photos._draw_validation)):
            painted[split] = np.zeros((height, width), bool)
            random = photos._generator(0, split, index)
            for _ in range(120):
                top, left, bottom, right = draw(name, height, width, random)
                assert 0 <= top < bottom <= height and 0 <= left < right <= width
                painted[split][top:bottom, left:right] = True
        assert not (painted["train"] & painted["val"]).any(), name
        # Both splits see a good part of the photograph.
        assert painted["train"].mean() > 0.4 and painted["val"].mean() > 0.12, name


def test_recorded_boxes_of_written_images_share_no_pixel(crops):
    painted = collections.defaultdict(lambda: np.zeros((1500, 1500), bool))
    for crop in crops:
        split = crop.file.split("/")[0]
        painted[crop.photograph, split][crop.top : crop.bottom, crop.left : crop.right] = True
    for name in photos.PHOTOGRAPHS:
        assert not (painted[name, "train"] & painted[name, "val"]).any()


def test_pixels_come_from_the_recorded_box(photo_folders, crops):
    """Looks each image up in its photograph by its content, not by what was recorded."""
    photographs = photos.read_photographs()
    checked = 0
    for crop in crops[::5]:
        grey = photographs[crop.photograph]
        if grey.ndim == 3:
            grey = cv2.cvtColor(grey, cv2.COLOR_RGB2GRAY)
        image = cv2.imread(os.path.join(photo_folders, crop.file), cv2.IMREAD_GRAYSCALE)
        size = (crop.right - crop.left, crop.bottom - crop.top)
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        found = cv2.matchTemplate(grey, small, cv2.TM_CCOEFF_NORMED)
        _, score, _, (left, top) = cv2.minMaxLoc(found)
        assert score > 0.8, crop
        assert abs(left - crop.left) <= 1 and abs(top - crop.top) <= 1, crop
        checked += 1
    assert checked >= 20


def test_images_vary_as_files_of_a_photo_folder_do(photo_folders, crops):
    shapes, grey = [], 0
    for crop in crops:
        pixels = cv2.imread(os.path.join(photo_folders, crop.file), cv2.IMREAD_UNCHANGED)
        shapes.append(pixels.shape[:2])
        grey += pixels.ndim == 2
    shorter = [min(shape) for shape in shapes]
    assert min(shorter) < 256 < max(shorter)
    assert any(h > w for h, w in shapes) and any(h < w for h, w in shapes)
    assert 0 < grey < len(crops) / 4


def test_the_same_arguments_give_the_same_bytes(tmp_path):
    def content(folder, seed):
        photos.write_photos(str(folder), 28, 14, seed)
        return {
            path.relative_to(folder): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }

    first = content(tmp_path / "a", 1)
    assert first == content(tmp_path / "b", 1)
    assert first != content(tmp_path / "c", 2)


def test_written_photos_are_kept_and_nothing_else_is_overwritten(tmp_path):
    folder = str(tmp_path / "photos")
    photos.write_photos(folder, 14, 14)
    before = os.stat(os.path.join(folder, photos.CROPS_FILE)).st_mtime_ns
    photos.write_photos(folder, 14, 14)
    assert os.stat(os.path.join(folder, photos.CROPS_FILE)).st_mtime_ns == before
    with pytest.raises(FileExistsError, match="already holds photographs"):
        photos.write_photos(folder, 15, 14)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("mine")
    with pytest.raises(FileExistsError, match="something else"):
        photos.write_photos(str(tmp_path / "other"), 14, 14)


def test_the_photographs_of_the_commands_lie_in_the_users_cache(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(photos, "prepare_photos", lambda place: asked.append(place) or place)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert photos.cached_photos() == str(tmp_path / "cache" / "alexnet_tf" / "photographs")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert photos.cached_photos() == str(
        tmp_path / "home" / ".cache" / "alexnet_tf" / "photographs"
    )
    assert len(asked) == 2


def test_prepare_photos_makes_a_data_set_once(tmp_path):
    from alexnet_tf.data import records

    output = str(tmp_path / "data")
    photos.prepare_photos(output, 28, 14)
    dataset = records.open_dataset(output)
    assert dataset.counts == {"train": 28, "validation": 14}
    assert dataset.synsets == tuple(sorted(photos.PHOTOGRAPHS.values()))
    assert sorted(os.listdir(tmp_path)) == ["data"]
    before = os.stat(os.path.join(output, records.MANIFEST_FILE)).st_mtime_ns
    photos.prepare_photos(output, 28, 14)
    assert os.stat(os.path.join(output, records.MANIFEST_FILE)).st_mtime_ns == before
    with pytest.raises(FileExistsError, match="source_name"):
        photos.prepare_photos(output, 42, 14)
