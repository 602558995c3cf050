"""Pictures of a run: right colours in the right place, written whole."""

import numpy as np
import pytest
import torch
from conftest import square_scenes
from PIL import Image

from colorize import viz
from colorize.dataset import to_network
from colorize.run import sample_saver
from colorize.trainer import EpochReport
from colorize.viz import curves, grid, save

HISTORY = [
    {"stage": "pretrain", "epoch": 1, "l1": 0.1, "val_l1": 0.09, "val_psnr": 24.0},
    {"stage": "pretrain", "epoch": 2, "l1": 0.08, "val_l1": 0.08, "val_psnr": 25.0},
    {"stage": "gan", "epoch": 1, "l1": 0.09, "val_l1": 0.085, "val_psnr": 24.5, "d": 0.6, "gan": 1},
]


@pytest.fixture
def lab():
    return to_network(square_scenes(3, 32).__getitems__([0, 1, 2]))


def pictures(figure):
    """The arrays in the order of the grid, with their titles."""
    return [(a.get_title(), a.images[0].get_array()) for a in figure.axes if a.images]


def test_grid_shows_grey_prediction_and_truth_of_each_photo(lab):
    L, ab = lab
    shown = pictures(grid(L, torch.zeros_like(ab), ab, captions=["one", "two", "cost_$5_$x^"]))
    assert [title for title, _ in shown] == ["grey", "coloured", "truth"] * 3
    for i in range(3):
        (_, grey), (_, colored), (_, truth) = shown[3 * i : 3 * i + 3]
        assert np.ptp(grey, axis=-1).max() < 0.01
        np.testing.assert_allclose(colored, grey, atol=0.01)
        photo = square_scenes(3, 32)[i].permute(1, 2, 0).numpy() / 255
        np.testing.assert_allclose(truth, photo, atol=0.01)


def test_file_names_are_no_formulas(lab, tmp_path):
    L, ab = lab
    save(grid(L, ab, ab, captions=["cost_$5_$x^"] * 3), tmp_path / "grid.png")
    assert (tmp_path / "grid.png").stat().st_size > 5000


def test_curves_have_the_lines_that_the_history_has():
    panels = curves(HISTORY).axes
    labels = [line.get_label() for axes in panels for line in axes.get_lines()]
    assert labels.count("GAN starts") == len(panels)
    assert {"training", "held out", "discriminator", "generator", "PSNR"} <= set(labels)
    line = next(x for x in panels[0].get_lines() if x.get_label() == "held out")
    assert line.get_ydata().tolist() == [0.09, 0.08, 0.085]


def test_samples_of_an_epoch_are_written(lab, tmp_path):
    L, ab = lab
    sample_saver(tmp_path)(EpochReport("gan", 1, 2, HISTORY, L, ab, ab))
    with Image.open(tmp_path / "samples" / "gan-001.png") as picture:
        assert picture.width > 500
        assert np.ptp(np.asarray(picture.convert("RGB")).astype(int), axis=-1).max() > 60
    assert (tmp_path / "curves.png").exists()


def test_versions_stand_side_by_side(lab):
    L, ab = lab
    shown = pictures(viz.compare(L, {"L1": ab * 0, "GAN": ab * 0.5, "truth": ab}))
    assert [title for title, _ in shown] == ["grey", "L1", "GAN", "truth"] * 3
    np.testing.assert_allclose(shown[1][1], shown[0][1], atol=0.01)
    assert np.ptp(shown[2][1], axis=-1).mean() < np.ptp(shown[3][1], axis=-1).mean()


def test_channels_show_lightness_and_colour(lab):
    rgb = square_scenes(3, 32).__getitems__([0, 1, 2])
    shown = pictures(viz.lab_channels(rgb))
    assert len(shown) == 12
    L, ab = lab
    np.testing.assert_allclose(shown[5][1], (L[1, 0] + 1) * 50, atol=0.01)
    np.testing.assert_allclose(shown[6][1], ab[1, 0] * 110, atol=0.01)
    np.testing.assert_allclose(shown[7][1], ab[1, 1] * 110, atol=0.01)


def test_the_histogram_tells_grey_from_colour(lab):
    _, ab = lab
    grey, true = viz.ab_histogram({"grey": ab * 0, "truth": ab}).axes
    assert grey.get_title() == "grey\nmean distance from grey 0.0"
    assert "0.0" not in true.get_title()


def test_the_patch_map_shows_each_verdict_and_the_frame(lab):
    rgb = square_scenes(3, 32).__getitems__([0, 1])
    logits = torch.tensor([-9.0, 9.0]).view(2, 1, 1, 1).expand(2, 1, 4, 4)
    figure = viz.patch_map(rgb, logits, ["one", "two"], (3, 4, 10, 12))
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[:4] == ["one", "two", "mean 0.00", "mean 1.00"]
    (frame,) = figure.axes[0].patches
    assert frame.get_bbox().bounds == (3, 4, 10, 12)


def test_distributions_leave_out_what_is_infinite():
    rows = [{"psnr": 20.0}, {"psnr": 30.0}, {"psnr": float("inf")}]
    (axes,) = viz.distributions(rows, {"psnr": "PSNR, dB"}).axes
    assert axes.get_legend_handles_labels()[1] == ["mean 25"]


def test_before_and_after_keep_their_shape():
    before, after = Image.new("L", (60, 30), 90), Image.new("RGB", (60, 30), "red")
    shown = pictures(viz.before_after(before, after))
    assert [title for title, _ in shown] == ["before", "after"]
    assert shown[1][1].shape == (30, 60, 3)
    assert viz.jpeg(viz.before_after(before, after), 50).startswith(b"\xff\xd8")
