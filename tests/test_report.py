"""The files that an evaluation writes, and what its pictures show."""

import csv
import json

import pytest
import torch
from conftest import square_scenes, write_photos
from PIL import Image

from colorize import evaluate
from colorize.generator import Generator
from colorize.pretrained import save_weights


@pytest.fixture
def weights(tmp_path, small_generator):
    torch.nn.init.normal_(small_generator.head.weight, std=0.1)
    save_weights(small_generator, tmp_path / "weights")
    return str(tmp_path / "weights")


def test_files_agree_with_each_other(weights, tmp_path):
    write_photos(tmp_path / "in", 5)
    files = {
        "summary": tmp_path / "deep" / "summary.json",
        "each": tmp_path / "each.csv",
        "picture": tmp_path / "grid.png",
        "best_worst": tmp_path / "best.png",
    }
    measures = evaluate.evaluate_folder(str(tmp_path / "in"), weights, 32, **files)
    summary = json.loads(files["summary"].read_text())
    assert summary["photos"] == 5
    assert {name: summary[name] for name in measures} == measures
    with open(files["each"], newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["photo"] for row in rows] == [f"scene-{i:02d}.png" for i in range(5)]
    for name in ("l1", "psnr", "ssim", "ciede2000", "colorfulness", "true_colorfulness"):
        mean = sum(float(row[name]) for row in rows) / 5
        assert mean == pytest.approx(measures[name], abs=1e-4)
    for name in ("picture", "best_worst"):
        with Image.open(files[name]) as picture:
            assert picture.width > 500


def test_photos_of_another_size_are_seen_at_the_working_size(weights, tmp_path, monkeypatch):
    write_photos(tmp_path / "in", 3)
    sizes = []
    forward = Generator.forward
    monkeypatch.setattr(
        Generator, "forward", lambda g, L: sizes.append(L.shape[-1]) or forward(g, L)
    )
    evaluate.evaluate_folder(str(tmp_path / "in"), weights, 48, picture=tmp_path / "grid.png")
    assert set(sizes) == {32}
    assert len(sizes) == 2  # measured, and drawn
    evaluate.evaluate_folder(
        str(tmp_path / "in"), weights, 48, tmp_path / "summary.json", working_size=64
    )
    assert sizes[2:] == [64]
    assert json.loads((tmp_path / "summary.json").read_text())["working_size"] == 64


def test_fid_and_lpips_are_written_too(weights, tmp_path, monkeypatch):
    class Measured:
        def __init__(self, device):
            pass

        def __call__(self, colored, true):
            return {"lpips": [0.25] * len(true)}

        def fid(self):
            return 12.5

    write_photos(tmp_path / "in", 3)
    monkeypatch.setattr(evaluate, "Perceptual", Measured)
    file = tmp_path / "each.csv"
    measures = evaluate.evaluate_folder(
        str(tmp_path / "in"), weights, 32, each=file, perceptual=True
    )
    assert (measures["lpips"], measures["fid"]) == (0.25, 12.5)
    assert file.read_text().count(",0.25") == 3


def test_the_best_are_on_the_left_and_the_worst_on_the_right(monkeypatch, colorizer):
    seen = {}
    monkeypatch.setattr(
        evaluate, "grid_of", lambda _, rgb, lines: seen.update(rgb=rgb, lines=lines)
    )
    photos = square_scenes(7, 32)
    values = (5.0, 1.0, 9.0, 3.0, 7.0, 2.0, 8.0)
    rows = [{"ciede2000": value, "true_colorfulness": 20.0} for value in values]
    evaluate.best_and_worst(rows, photos, colorizer, most=2)
    assert seen["lines"] == [
        "best: scene-1, 1.0",
        "worst: scene-2, 9.0",
        "best: scene-5, 2.0",
        "worst: scene-6, 8.0",
    ]
    assert torch.equal(seen["rgb"], photos.__getitems__([1, 2, 5, 6]))
    evaluate.best_and_worst(rows, photos, colorizer)
    assert len(seen["lines"]) == 6  # no photo is both
    rows[1]["true_colorfulness"] = 3.0  # a grey photo
    evaluate.best_and_worst(rows, photos, colorizer, most=1)
    assert seen["lines"] == ["best: scene-5, 2.0", "worst: scene-2, 9.0"]


def test_a_single_photo_is_drawn(colorizer):
    row = {"ciede2000": 1.0, "true_colorfulness": 0.0}
    figure = evaluate.best_and_worst([row], square_scenes(1, 32), colorizer)
    titles = [block.get_suptitle() for block in figure.subfigs]
    assert titles == ["best: scene-0, 1.0", "worst: scene-0, 1.0"]
