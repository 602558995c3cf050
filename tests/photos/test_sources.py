"""The built-in photos, and COCO through fastai's own download."""

import errno
import io
import os
import shutil
import tarfile
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import write_photos

from colorize.config import DataConfig
from colorize.dataset import load_photos
from colorize.photos.sources import builtin_photos, coco_folder
from colorize.system.errors import ColorizeError


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


@pytest.fixture
def archive(tmp_path, fastai_home, monkeypatch):
    """A small archive of COCO's layout, where fastai is told to fetch it."""
    from fastai.data.external import URLs

    write_photos(tmp_path / "coco_sample" / "train_sample", 4, ".jpg")
    archive = tmp_path / "coco_sample.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / "coco_sample", arcname="coco_sample")
    monkeypatch.setattr(URLs, "COCO_SAMPLE", archive.as_uri())
    return archive


def test_coco_is_downloaded_unpacked_and_reused(fastai_home, archive):
    """Fastai's own download, from a small archive of the same layout."""
    before = tempfile.gettempdir()
    photos = load_photos(DataConfig(source="coco", size=32, val_fraction=0.25), progress=False)
    assert len(photos.train) + len(photos.val) == 4
    assert coco_folder() == fastai_home / "data" / "coco_sample" / "train_sample"
    assert [path.name for path in (fastai_home / "data").iterdir()] == ["coco_sample"]
    archive.unlink()  # the second time nothing is fetched
    assert coco_folder().is_dir()
    assert tempfile.gettempdir() == before
    assert not isinstance(vars(tarfile.TarFile)["extraction_filter"], staticmethod)


REGULAR, SYMBOLIC, HARD = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
DEEP = "../" * 40  # as far up as it goes


@pytest.mark.parametrize(
    "members",
    [
        [("../evil", REGULAR, "")],
        [("coco_sample/{up}{outside}/evil", REGULAR, "")],
        [("{outside}/evil", REGULAR, "")],
        [("coco_sample/link", SYMBOLIC, "{outside}"), ("coco_sample/link/evil", REGULAR, "")],
        [("coco_sample/link", SYMBOLIC, "../.."), ("coco_sample/link/evil", REGULAR, "")],
        [("coco_sample/link", HARD, "{outside}/there"), ("coco_sample/link", REGULAR, "")],
        [("coco_sample/link", HARD, "{up}{outside}/there"), ("coco_sample/link", REGULAR, "")],
        [("coco_sample", SYMBOLIC, "{outside}")],
    ],
)
def test_an_archive_that_writes_elsewhere_is_refused(tmp_path, fastai_home, archive, members):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "there").write_text("untouched")
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / "coco_sample", arcname="coco_sample")
        for name, kind, target in members:
            member = tarfile.TarInfo(name.format(up=DEEP, outside=outside))
            member.type, member.linkname = kind, target.format(up=DEEP, outside=outside)
            member.size = 4 if kind == REGULAR else 0
            tar.addfile(member, io.BytesIO(b"evil"))
    for _ in range(2):  # what is left of the first time is not taken for the photos
        with pytest.raises(ColorizeError, match=r"delete .*") as error:
            coco_folder()
        assert "coco_sample.tgz" in str(error.value)
        assert "\n" not in str(error.value)
    assert [(p.name, p.read_text()) for p in outside.iterdir()] == [("there", "untouched")]
    assert all(fastai_home in path.parents for path in tmp_path.rglob("evil"))


def test_links_that_stay_inside_are_left_out(archive):
    """Some Pythons have been led out by chains of links that each look harmless."""
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(archive.parent / "coco_sample", arcname="coco_sample")
        for name, kind in (("symbolic", SYMBOLIC), ("hard", HARD)):
            member = tarfile.TarInfo(f"coco_sample/train_sample/{name}.jpg")
            member.type = kind
            inside = "" if kind == SYMBOLIC else "coco_sample/train_sample/"
            member.linkname = f"{inside}scene-00.jpg"
            tar.addfile(member)
    assert sorted(path.name for path in coco_folder().iterdir()) == [
        f"scene-0{i}.jpg" for i in range(4)
    ]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.99])
def test_an_archive_cut_short_is_refused(fastai_home, archive, share):
    whole = archive.read_bytes()
    archive.write_bytes(whole[: int(share * len(whole))])
    for _ in range(2):
        with pytest.raises(ColorizeError, match=r"cannot be unpacked .*; delete it") as error:
            coco_folder()
        assert "\n" not in str(error.value)
    archive.write_bytes(whole)
    (fastai_home / "archive" / archive.name).unlink()  # as the message says
    assert len(list(coco_folder().iterdir())) == 4


def test_a_stop_while_unpacking_leaves_nothing_that_passes_for_the_photos(
    fastai_home, archive, monkeypatch
):
    """The temporary folder may lie on another disk; from there photos are copied one by one."""
    rename, copyfile, copied = os.rename, shutil.copyfile, []

    def rename_on_one_disk(source, target):
        if fastai_home not in Path(source).parents:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        rename(source, target)

    def stop_in_the_middle(source, target, **_):
        if len(copied) == 2:
            raise KeyboardInterrupt
        copied.append(copyfile(source, target))

    with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
        patch.setattr("os.rename", rename_on_one_disk)
        patch.setattr("shutil.copyfile", stop_in_the_middle)
        coco_folder()
    assert len(list(coco_folder().iterdir())) == 4


def test_a_full_disk_is_not_blamed_on_the_archive(archive, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shutil.unpack_archive", full)
    with pytest.raises(ColorizeError, match=r"cannot be unpacked .*No space left on device\)$"):
        coco_folder()


def test_a_python_that_cannot_unpack_safely_is_refused(archive, monkeypatch):
    monkeypatch.delattr("tarfile.data_filter")
    with pytest.raises(ColorizeError, match=r"3\.10\.12.*a folder of photos"):
        coco_folder()


def test_coco_without_network_is_one_line(fastai_home, monkeypatch):
    from fastai.data.external import URLs

    monkeypatch.setattr(URLs, "COCO_SAMPLE", "http://127.0.0.1:9/coco_sample.tgz")
    with pytest.raises(ColorizeError, match="a folder of photos") as error:
        coco_folder()
    assert "\n" not in str(error.value)
