"""Colab's own: the Drive, uploads and downloads, with a stand-in for its module."""

import sys
import types
from pathlib import Path

import pytest
from conftest import write_photos

from colorize.notebook import colab
from colorize.system.errors import ColorizeError


@pytest.fixture
def in_colab(monkeypatch):
    """Colab's module, with nothing in it yet."""
    monkeypatch.setattr(colab, "IN_COLAB", True)
    monkeypatch.setitem(sys.modules, "google", types.ModuleType("google"))
    module = types.ModuleType("google.colab")
    module.files, module.drive = types.SimpleNamespace(), types.SimpleNamespace()
    monkeypatch.setitem(sys.modules, "google.colab", module)
    return module


def test_the_own_photo_is_given_or_built_in():
    assert colab.choose_photo("a.png") == Path("a.png")
    assert colab.choose_photo("").is_file()


def test_the_own_photo_is_uploaded(in_colab, tmp_path):
    (path,) = write_photos(tmp_path, 1)
    in_colab.files.upload = lambda: {str(path): b""}
    assert colab.choose_photo("") == path
    in_colab.files.upload = dict  # cancelled
    assert colab.choose_photo("").is_file()


def test_a_run_can_lie_on_the_drive(in_colab):
    mounted = []
    in_colab.drive.mount = mounted.append
    assert colab.drive_folder("runs/one") == Path("/content/drive/MyDrive/runs/one")
    assert mounted == ["/content/drive"]


def test_weights_are_downloaded_at_once(in_colab, tmp_path):
    (tmp_path / "generator").mkdir()
    fetched = []
    in_colab.files.download = fetched.append
    colab.offer(tmp_path / "generator")
    assert fetched == [str(tmp_path / "generator.zip")]


def test_drive_is_for_colab_alone():
    with pytest.raises(ColorizeError, match="in Colab only"):
        colab.drive_folder("runs")


def test_weights_are_offered_zipped(tmp_path, monkeypatch):
    (tmp_path / "generator").mkdir()
    (tmp_path / "generator" / "config.json").write_text("{}")
    links = []
    monkeypatch.setattr(colab, "display", links.append)
    colab.offer(tmp_path / "generator")
    assert (tmp_path / "generator.zip").is_file()
    assert len(links) == 1
