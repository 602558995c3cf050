"""The built-in photos, and COCO through fastai's own download."""

import tarfile

import pytest
from conftest import write_photos

from colorize.config import DataConfig
from colorize.data import load_photos
from colorize.errors import ColorizeError
from colorize.sources import builtin_photos, coco_folder


def test_builtin_photos_are_there_and_in_color():
    names = [path.name for path in builtin_photos()]
    assert len(names) >= 7
    assert "chelsea.png" in names
    photos = load_photos(DataConfig(source="builtin", size=32), progress=False)
    assert not photos.grey
    assert not photos.unreadable


@pytest.fixture
def fastai_home(tmp_path, monkeypatch):
    from fastai.data.external import fastai_cfg

    fastai_cfg.cache_clear()  # it remembers the folder of the test before
    monkeypatch.setenv("FASTAI_HOME", str(tmp_path / "fastai"))
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "fastai"


def test_coco_is_downloaded_unpacked_and_reused(tmp_path, fastai_home, monkeypatch):
    """Fastai's own download, from a small archive of the same layout."""
    from fastai.data.external import URLs

    write_photos(tmp_path / "coco_sample" / "train_sample", 4, ".jpg")
    archive = tmp_path / "coco_sample.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / "coco_sample", arcname="coco_sample")
    monkeypatch.setattr(URLs, "COCO_SAMPLE", archive.as_uri())
    photos = load_photos(DataConfig(source="coco", size=32, val_fraction=0.25), progress=False)
    assert len(photos.train) + len(photos.val) == 4
    assert coco_folder() == fastai_home / "data" / "coco_sample" / "train_sample"
    archive.unlink()  # the second time nothing is fetched
    assert coco_folder().is_dir()


def test_coco_without_network_is_one_line(fastai_home, monkeypatch):
    from fastai.data.external import URLs

    monkeypatch.setattr(URLs, "COCO_SAMPLE", "http://127.0.0.1:9/coco_sample.tgz")
    with pytest.raises(ColorizeError, match="a folder of photos") as error:
        coco_folder()
    assert "\n" not in str(error.value)
