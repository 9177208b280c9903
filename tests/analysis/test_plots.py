"""The numbers behind the images, and that images come out whole."""

import os

import numpy as np
import pytest
from PIL import Image

from alexnet_tf.analysis import plots

HEADER = (
    "epoch,step,learning_rate,loss,top1_error,top5_error,validation_loss,validation_top1_error,"
    "validation_top5_error,images_per_second,seconds\n"
)


@pytest.fixture
def workdir(tmp_path):
    rows = ["1,10,0.01,2.6,0.9,0.5,,,,50,3\n", "2,20,0.01,2.1,0.7,0.3,2.3,0.8,0.4,50,3\n"]
    (tmp_path / "metrics.csv").write_text(HEADER + "".join(rows))
    return tmp_path


def test_metrics_are_read_with_their_gaps(workdir):
    metrics = plots.read_curves(str(workdir))
    np.testing.assert_array_equal(metrics["step"], [10, 20])
    np.testing.assert_array_equal(metrics["validation_top1_error"], [np.nan, 0.8])


def test_missing_empty_and_broken_metrics_are_said_in_one_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no .*metrics\.csv"):
        plots.read_curves(str(tmp_path))
    (tmp_path / "metrics.csv").write_text(HEADER)
    with pytest.raises(ValueError, match="has no row"):
        plots.read_curves(str(tmp_path))
    (tmp_path / "metrics.csv").write_text(HEADER + "1,ten" + "," * 9 + "\n")
    with pytest.raises(ValueError, match="no table of numbers"):
        plots.read_curves(str(tmp_path))


def test_each_kernel_stands_at_its_place_and_the_groups_apart():
    kernels = np.zeros((11, 11, 3, 96), np.float32)
    kernels[..., 0, 1] = 2.0  # second of the first row: all red
    kernels[..., 2, 48] = -0.5  # first of the second group: no blue
    mosaic = plots.kernel_mosaic(kernels, gap=1)
    assert mosaic.shape == (2 * (3 * 12 - 1) + 4, 16 * 12 - 1, 3)
    np.testing.assert_allclose(mosaic[0, 0], 0.5)  # a kernel of zeros is grey
    np.testing.assert_allclose(mosaic[0:11, 12:23], np.broadcast_to([1, 0.5, 0.5], (11, 11, 3)))
    np.testing.assert_allclose(mosaic[35:39], 1)  # white between the groups
    np.testing.assert_allclose(mosaic[39, 0], [0.5, 0.5, 0])
    np.testing.assert_allclose(mosaic[:, 11][:11], 1)  # white between neighbours


def test_few_kernels_in_two_groups_stand_apart_and_many_of_one_tower_together():
    # The narrowed network of a small experiment has two halves all the same; torchvision's 64
    # kernels are of one tower.
    few = np.zeros((11, 11, 3, 24), np.float32)
    assert plots.kernel_mosaic(few, groups=2).shape == (2 * 11 + 4, 12 * 12 - 1, 3)
    many = np.zeros((11, 11, 3, 64), np.float32)
    assert plots.kernel_mosaic(many, groups=1).shape == (4 * 12 - 1, 16 * 12 - 1, 3)
    halves = plots.split_groups(np.arange(24), 2)
    assert [half.tolist() for half in halves] == [list(range(12)), list(range(12, 24))]


def test_kernels_of_a_network_that_reads_bgr_are_shown_in_rgb():
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from alexnet_tf import models

    for variant, reversed_channels in {"alexnet": False, "caffenet": True}.items():
        model = models.build_model(variant, classes=3)
        stored = model.get_layer("conv1").get_weights()[0]
        shown = plots.first_kernels(model)
        assert shown.shape == (11, 11, 3, 96)
        assert plots.kernel_groups(model) == 2
        np.testing.assert_array_equal(shown, stored[:, :, ::-1] if reversed_channels else stored)


def test_a_page_says_its_error_beside_that_of_guessing(workdir):
    from alexnet_tf.analysis import overview
    from alexnet_tf.data import records

    dataset = records.PreparedDataset(
        "d", records.RecordFormat(), tuple("abcd"), {}, {"validation": 1500}
    )
    metrics = {"epoch": np.array([1.0, 2.0]), "validation_top1_error": np.array([0.5, 0.125])}
    assert overview._error_in_words(metrics, dataset) == (
        "After 2 epochs the network is wrong for 12.5% of 1,500 validation images; guessing among "
        "4 classes is wrong for 75.0%."
    )
    metrics["validation_top1_error"][-1] = np.nan
    assert overview._error_in_words(metrics, dataset) == "2 epochs, not validated."
    kernels = np.random.default_rng(0).normal(size=(11, 11, 3, 96))
    for name, caption in (("plain", ""), ("told", "A line\nand another")):
        page = str(workdir / f"{name}.png")
        plots.save_page(page, plots.read_curves(str(workdir)), kernels, [], caption=caption)
    plain, told = (np.asarray(Image.open(workdir / f"{name}.png")) for name in ("plain", "told"))
    assert plain.shape == told.shape and (plain != told).any()


def test_a_page_shows_images_and_leaves_nothing_else_behind(workdir):
    rng = np.random.default_rng(0)
    red = np.zeros((64, 64, 3), np.uint8)
    red[..., 0] = 250
    shown = [plots.Shown(red, "red", ("red", "blue"), (0.75, 0.25)) for _ in range(5)]
    page = workdir / "page.png"
    kernels = rng.normal(size=(11, 11, 3, 96))
    plots.save_page(str(page), plots.read_curves(str(workdir)), kernels, shown)
    assert sorted(os.listdir(workdir)) == ["metrics.csv", "page.png"]
    pixels = np.asarray(Image.open(page).convert("RGB")).astype(int)
    assert pixels.shape[1] > 1000
    # Five squares of the image's own red: a sixth of the page's width each, or about so.
    reds = (np.abs(pixels - [250, 0, 0]).max(-1) <= 2).sum()
    assert 5 * 100**2 < reds < 5 * 300**2
    with pytest.raises(ValueError, match=r"ends in \.png, \.svg or \.pdf"):
        plots.save_panel(str(workdir / "page.bmp"), shown)
    plots.save_panel(str(workdir / "panel.svg"), shown)
    assert (workdir / "panel.svg").read_text().startswith("<?xml")


def test_runs_are_named_by_the_end_of_their_paths(tmp_path):
    paths = [str(tmp_path / one) for one in ("a/run", "b/run", "c")]
    assert plots.run_names(paths[:1]) == ["run"]
    assert plots.run_names(paths[1:]) == ["run", "c"]
    assert plots.run_names(paths[:2]) == ["a/run", "b/run"]
    with pytest.raises(ValueError, match="named twice"):
        plots.run_names([paths[0], f"{paths[0]}/"])


def test_curves_show_loss_and_both_errors_under_the_runs_names(workdir):
    metrics = plots.read_curves(str(workdir))
    for runs in ({"one": metrics}, {"one": metrics, "other": metrics}):
        plots.save_curves(str(workdir / "c.svg"), runs)
        drawn = (workdir / "c.svg").read_text()
        # matplotlib writes each text as a comment above its outlines.
        for text in ("<!-- loss -->", "<!-- top-1 error -->", "<!-- top-5 error -->"):
            assert text in drawn
        assert str(workdir) not in drawn
    assert "<!-- one, 80.0% at the end -->" in drawn and "<!-- other, 2.3 at the end -->" in drawn


def test_figures_are_pdf_too_and_the_same_file_each_time(workdir):
    runs = {"one": plots.read_curves(str(workdir))}
    for name in ("a.pdf", "b.pdf"):
        plots.save_curves(str(workdir / name), runs)
    assert (workdir / "a.pdf").read_bytes().startswith(b"%PDF")
    assert (workdir / "a.pdf").read_bytes() == (workdir / "b.pdf").read_bytes()


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_names_with_a_dollar_are_text(tmp_path, ending):
    """As it was found: a class `a$b_{` ended in ParseSyntaxException."""
    names = ["$", "a$b_{$", "$\\frac$", "cost $5, $6"]
    image = np.zeros((8, 8, 3), np.uint8)
    shown = plots.Shown(image, "a$b_{$", names, [0.4, 0.3, 0.2, 0.1])
    output = tmp_path / f"panel.{ending}"
    plots.save_panel(str(output), [shown])
    assert output.stat().st_size > 1000
