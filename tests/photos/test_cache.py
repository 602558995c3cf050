"""The decode-once cache equals direct decoding, and notices what changed."""

import os
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import scene, write_photos
from PIL import Image, ImageFile

from colorize.metrics import colorfulness
from colorize.photos import cache
from colorize.photos.cache import decode_once
from colorize.photos.pixels import to_rgb
from colorize.photos.read import fit_square, open_photo, open_rgb
from colorize.system.errors import ColorizeError


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The photos that are really opened."""
    opened = []

    def count(path, **options):
        opened.append(path)
        return open_rgb(path, **options)

    monkeypatch.setattr(cache, "open_rgb", count)
    return opened


def decode(paths, size=32, **options):
    return decode_once(paths, size, progress=False, **options)


def test_equals_direct_decoding(tmp_path):
    paths = write_photos(tmp_path, 5, ".jpg")
    direct = np.stack([np.asarray(fit_square(to_rgb(open_photo(p)), 32)) for p in paths])
    assert np.array_equal(decode(paths).array, direct)
    assert np.array_equal(decode(paths).array, direct)  # from the disk this time


def test_many_photos_keep_their_order(tmp_path):
    paths = write_photos(tmp_path, 40)
    paths[33].write_bytes(b"not a photo")
    decoded = decode(paths, 16)
    assert list(decoded.unreadable) == [33]
    assert len(decoded.array) == len(decoded.colorfulness) == len(paths)
    for row in (0, 32, 39):
        alone = decode([paths[row]], 16)
        assert np.array_equal(decoded.array[row], alone.array[0])
        assert decoded.colorfulness[row] == alone.colorfulness[0]


def test_reduced_decoding_of_large_jpegs_stays_close_to_direct(tmp_path):
    Image.fromarray(scene(0, 640, 480)).save(tmp_path / "large.jpg", quality=95)
    direct = np.asarray(fit_square(open_photo(tmp_path / "large.jpg"), 64)).astype(int)
    assert np.abs(decode([tmp_path / "large.jpg"], 64).array[0] - direct).mean() < 1.0


def test_a_photo_is_opened_once(tmp_path, counted):
    paths = write_photos(tmp_path, 3)
    decode(paths)
    decode(paths)
    assert sorted(counted) == paths


def test_a_changed_photo_is_decoded_again(tmp_path, counted):
    paths = write_photos(tmp_path, 3)
    before = decode(paths).array[1].copy()
    Image.fromarray(255 - scene(1)).save(paths[1])
    os.utime(paths[1], ns=(1, 1))  # an older file put in its place counts as changed too
    after = decode(paths).array[1]
    assert len(counted) == 6
    assert np.abs(after.astype(int) - before).mean() > 30


def test_size_and_list_make_entries_of_their_own(tmp_path):
    paths = write_photos(tmp_path, 3)
    assert decode(paths, 32).array.shape == (3, 32, 32, 3)
    assert decode(paths, 48).array.shape == (3, 48, 48, 3)
    assert decode(paths[:2], 48).array.shape == (2, 48, 48, 3)


def test_unreadable_photos_are_named_and_the_rest_goes_on(tmp_path):
    paths = write_photos(tmp_path, 3)
    paths[1].write_bytes(b"not a photo")
    for _ in range(2):  # fresh and from the disk
        decoded = decode(paths)
        assert list(decoded.unreadable) == [1]
        assert str(paths[1]) in decoded.unreadable[1]
        assert decoded.array[2].any()


@pytest.mark.parametrize("failure", [OSError(5, "Input/output error"), MemoryError()])
def test_a_photo_that_the_system_could_not_read_is_tried_again(tmp_path, monkeypatch, failure):
    paths = write_photos(tmp_path / "photos", 3)
    load = ImageFile.ImageFile.load

    def away(image):
        if image.fp and Path(image.fp.name) == paths[1]:
            raise failure
        return load(image)

    monkeypatch.setattr(ImageFile.ImageFile, "load", away)
    assert list(decode(paths, cache=str(tmp_path / "cache")).unreadable) == [1]
    monkeypatch.undo()
    # At once it is as it was: several processes must agree on the photos.
    (index,) = (tmp_path / "cache").glob("*/index.json")
    os.utime(index)
    assert list(decode(paths, cache=str(tmp_path / "cache")).unreadable) == [1]
    os.utime(index, (time.time() - 120,) * 2)
    assert not decode(paths, cache=str(tmp_path / "cache")).unreadable


@pytest.mark.parametrize(("size", "tolerance"), [(32, 1e-6), (96, 0.05), (200, 0.05)])
def test_colorfulness_is_kept_with_the_photos(tmp_path, size, tolerance):
    """Of a sample, where photos are large."""
    paths = [tmp_path / f"{seed}.png" for seed in range(3)]
    for seed, path in enumerate(paths):
        Image.fromarray(scene(seed, size, size)).save(path)
    decoded = decode(paths, size)
    batch = torch.from_numpy(np.array(decoded.array)).permute(0, 3, 1, 2)
    assert decoded.colorfulness == pytest.approx(colorfulness(batch).tolist(), rel=tolerance)


@pytest.mark.parametrize("damage", ["cut", "index", "half"])
def test_a_damaged_entry_is_made_again(tmp_path, damage):
    paths = write_photos(tmp_path / "photos", 3)
    expected = np.array(decode(paths, cache=str(tmp_path / "cache")).array)
    (entry,) = (tmp_path / "cache").iterdir()
    if damage == "cut":
        os.truncate(entry / "photos.npy", 2000)
    elif damage == "index":
        (entry / "index.json").write_text("{")
    else:
        (entry / "index.json").unlink()
    assert np.array_equal(decode(paths, cache=str(tmp_path / "cache")).array, expected)


def test_nothing_half_made_stays_behind(tmp_path, monkeypatch):
    paths = write_photos(tmp_path / "photos", 3)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array_header_1_0", full)
    with pytest.raises(OSError, match="No space"):
        decode(paths, cache=str(tmp_path / "cache"))
    assert list((tmp_path / "cache").iterdir()) == []


def test_the_cache_is_not_among_the_photos(tmp_path):
    paths = write_photos(tmp_path / "photos", 2)
    decode(paths)
    assert sorted((tmp_path / "photos").iterdir()) == paths


def test_a_cache_that_cannot_be_made_is_a_clear_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises((ColorizeError, OSError), match="file"):
        decode(write_photos(tmp_path / "photos", 1), cache=str(tmp_path / "file"))


def test_a_user_without_a_home_has_a_cache(monkeypatch):
    def nowhere():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.cache_folder() == Path.home() / ".cache" / "colorize"
    monkeypatch.setattr(Path, "home", nowhere)
    assert cache.cache_folder().parent == Path(tempfile.gettempdir())
