"""What notebooks lean on: runs that go on, views in place, Colab's parts."""

import sys
import types
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import SMALL_WIDTHS, write_photos

from colorize import notebook
from colorize.config import DataConfig, RunConfig, TrainConfig
from colorize.discriminator import PatchGAN
from colorize.errors import ColorizeError
from colorize.generator import Generator

CONFIG = RunConfig(
    DataConfig("builtin", 32),
    TrainConfig(batch_size=2, pretrain_epochs=1, gan_epochs=1, precision="fp32"),
)


def test_built_in_photos_get_many_crops(tmp_path):
    config = notebook.make_config(DataConfig("builtin", 64), TrainConfig(pretrain_epochs=2))
    assert config.train.repeats > 10
    assert (config.data.size, config.train.pretrain_epochs) == (64, 2)
    plain = notebook.make_config(DataConfig("coco", 64), TrainConfig())
    assert plain == RunConfig(DataConfig("coco", 64), TrainConfig())


def fit(config, photos, out, stages=("pretrain", "gan"), callbacks=()):
    generator = Generator(decoder_widths=SMALL_WIDTHS, working_size=32)
    print(notebook.open_run(config, out))
    for stage in stages:
        history = notebook.train_stage(
            stage, config.train, photos, generator, PatchGAN(), out, callbacks
        )
    return generator, history


def test_cells_run_again_go_on_where_they_stopped(photos, tmp_path, capsys):
    seen = []
    out = tmp_path / "run"
    fit(CONFIG, photos, out, ["pretrain"], [lambda report: seen.append(report.stage)])
    generator, history = fit(CONFIG, photos, out, callbacks=[lambda r: seen.append(r.stage)])
    assert seen == ["pretrain", "gan"]
    assert [row["stage"] for row in history] == seen
    again, _ = fit(CONFIG, photos, out, callbacks=[lambda report: seen.append(report.stage)])
    assert seen == ["pretrain", "gan"]
    for one, other in zip(generator.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)
    printed = capsys.readouterr().out
    assert printed.count("a new run") == 1
    assert printed.count("going on") == 2


def test_a_run_with_other_settings_is_left_alone(photos, tmp_path):
    out = tmp_path / "run"
    fit(CONFIG, photos, out, ["pretrain"])
    other = replace(CONFIG, data=replace(CONFIG.data, size=64))
    with pytest.raises(ColorizeError, match="another size"):
        notebook.open_run(other, out)


def test_the_view_is_one_and_the_same_for_all_epochs(photos, tmp_path, monkeypatch):
    shown, updated = [], []

    class Handle:
        def update(self, image):
            updated.append(image)

    def display(image, display_id):
        shown.append(image)
        return Handle()

    monkeypatch.setattr(notebook, "display", display)
    out = tmp_path / "run"
    fit(CONFIG, photos, out, callbacks=[notebook.live_view(out)])
    assert (len(shown), len(updated)) == (2, 2)
    notebook.live_view(out)  # later, with what is on the disk
    assert len(shown) == 4


def test_the_own_photo_is_given_uploaded_or_built_in(monkeypatch, tmp_path):
    assert notebook.choose_photo("a.png") == Path("a.png")
    assert notebook.choose_photo("").is_file()
    (path,) = write_photos(tmp_path, 1)
    colab = types.SimpleNamespace(upload=lambda: {str(path): b""})
    monkeypatch.setattr(notebook, "IN_COLAB", True)
    monkeypatch.setitem(sys.modules, "google", types.ModuleType("google"))
    module = types.ModuleType("google.colab")
    module.files = colab
    monkeypatch.setitem(sys.modules, "google.colab", module)
    assert notebook.choose_photo("") == path
    colab.upload = dict  # cancelled
    assert notebook.choose_photo("").is_file()


def test_drive_is_for_colab_alone():
    with pytest.raises(ColorizeError, match="in Colab only"):
        notebook.drive_folder("runs")


def test_weights_are_offered_zipped(tmp_path, monkeypatch):
    (tmp_path / "generator").mkdir()
    (tmp_path / "generator" / "config.json").write_text("{}")
    links = []
    monkeypatch.setattr(notebook, "display", links.append)
    notebook.offer(tmp_path / "generator")
    assert (tmp_path / "generator.zip").is_file()
    assert len(links) == 1
