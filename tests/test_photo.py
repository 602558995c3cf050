"""Reading photos: which files count, orientation, modes, and bad files."""

from pathlib import Path

import numpy as np
import pytest
from conftest import scene, write_photos
from PIL import Image

from colorize.errors import ColorizeError
from colorize.photo import find_photos, fit_square, open_photo, open_rgb, to_rgb


def test_finds_photos_below_a_folder_in_one_order(tmp_path):
    for name in ("b.JPG", "a/z.png", "a/y.webp", "c.tiff", "d.bmp", "notes.txt", ".hidden"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / ".unfinished").mkdir()
    (tmp_path / ".unfinished" / "half.png").touch()
    names = [p.relative_to(tmp_path).as_posix() for p in find_photos(tmp_path)]
    assert names == ["a/y.webp", "a/z.png", "b.JPG", "c.tiff", "d.bmp"]


def test_links_to_folders_are_followed_but_not_in_circles(tmp_path):
    write_photos(tmp_path / "elsewhere", 1)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "photos" / "up").symlink_to(tmp_path / "photos")
    names = [p.relative_to(tmp_path).as_posix() for p in find_photos(tmp_path / "photos")]
    assert names == ["photos/link/scene-00.png"]


def test_missing_and_empty_folders_are_named(tmp_path):
    with pytest.raises(ColorizeError, match=r"nowhere: no such folder"):
        find_photos(tmp_path / "nowhere")
    with pytest.raises(ColorizeError, match="no photos in this folder"):
        find_photos(tmp_path)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tiff", ".bmp"])
def test_formats(tmp_path, suffix):
    (path,) = write_photos(tmp_path, 1, suffix)
    pixels = np.asarray(to_rgb(open_photo(path))).astype(int)
    assert np.abs(pixels - scene(0)).mean() < 6


def test_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise to see it upright
    Image.fromarray(scene(0, 60, 40)).save(tmp_path / "turned.jpg", exif=exif)
    assert open_photo(tmp_path / "turned.jpg").size == (40, 60)


def test_large_jpegs_are_decoded_at_reduced_scale(tmp_path):
    Image.fromarray(scene(0, 800, 600)).save(tmp_path / "large.jpg")
    assert open_photo(tmp_path / "large.jpg", at_least=64).size == (100, 75)
    assert open_photo(tmp_path / "large.jpg").size == (800, 600)


def test_sixteen_bit_grey_is_scaled_and_not_clipped(tmp_path):
    values = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    pixels = np.asarray(to_rgb(open_photo(tmp_path / "deep.png")))
    np.testing.assert_allclose(pixels[..., 0], values / 257.0, atol=0.5)


def test_float_pixels_are_refused_and_not_turned_black(tmp_path):
    Image.fromarray(np.random.default_rng(0).random((8, 8), np.float32)).save(tmp_path / "f.tif")
    with pytest.raises(ColorizeError, match=r"f\.tif.*no known range"):
        open_rgb(tmp_path / "f.tif")


def make_bad(folder: Path, kind: str) -> Path:
    path = folder / f"{kind}.jpg"
    Image.fromarray(scene(0)).save(path)
    whole = path.read_bytes()
    contents = {"empty": b"", "text": b"not a photo", "cut": whole[: len(whole) // 3]}
    if kind == "missing":
        path.unlink()
    else:
        path.write_bytes(contents[kind])
    return path


@pytest.mark.parametrize("kind", ["empty", "text", "cut", "missing"])
def test_bad_files_give_one_line_with_their_name(tmp_path, kind):
    path = make_bad(tmp_path, kind)
    with pytest.raises(ColorizeError) as error:
        open_photo(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_fit_square_keeps_proportions_and_the_middle():
    wide = np.zeros((50, 150, 3), np.uint8)
    wide[:, 50:100] = 255
    assert np.asarray(fit_square(Image.fromarray(wide), 20)).min() > 200
