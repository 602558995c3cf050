"""Pictures of a run: right colours in the right place, written whole."""

import numpy as np
import pytest
import torch
from conftest import square_scenes
from PIL import Image

from colorize.data import to_network
from colorize.epoch import EpochReport
from colorize.viz import curves, grid, sample_saver, save

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
