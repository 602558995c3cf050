"""Reading photos: which files count, orientation, modes, and bad files."""

import os
from pathlib import Path

import numpy as np
import pytest
import skimage.io
import torch
from conftest import scene, write_photos
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image, UnidentifiedImageError

from colorize.photos import read
from colorize.photos.pixels import to_rgb
from colorize.photos.read import as_photo, find_photos, fit_square, open_photo, open_rgb
from colorize.system.errors import ColorizeError


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


@pytest.mark.parametrize("top", [4000.0, np.nan])
def test_float_pixels_of_no_known_range_are_refused(tmp_path, top):
    pixels = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    Image.fromarray(pixels).save(tmp_path / "f.tif")
    grey = np.asarray(open_rgb(tmp_path / "f.tif"))[..., 0]
    np.testing.assert_allclose(grey, pixels * 255, atol=0.51)
    pixels[0, 0] = top
    Image.fromarray(pixels).save(tmp_path / "f.tif")
    with pytest.raises(ColorizeError, match=r"f\.tif.*no known range"):
        open_rgb(tmp_path / "f.tif")


def test_other_kinds_of_files_are_not_even_tried(tmp_path):
    """EPS, for one, Pillow gives to another program to draw."""
    Image.fromarray(scene(0)).save(tmp_path / "e.jpg", format="EPS")
    with pytest.raises(ColorizeError, match="no kind of photo that is known"):
        open_photo(tmp_path / "e.jpg")


def test_a_closed_folder_is_an_error_unless_it_may_be_passed_over(tmp_path, monkeypatch):
    """As the system says it to those who may not look; the tests may be run by one who may."""
    Image.fromarray(scene(0)).save(tmp_path / "a.png")
    (tmp_path / "closed").mkdir()
    look = os.scandir

    def refuse(path):
        if str(path).endswith("closed"):  # others look by number
            raise PermissionError(13, "Permission denied", str(path))
        return look(path)

    monkeypatch.setattr(os, "scandir", refuse)
    told = f"{tmp_path / 'closed'}: Permission denied"
    with pytest.raises(ColorizeError) as error:
        find_photos(tmp_path)
    assert str(error.value) == told
    passed_over = []
    assert find_photos(tmp_path, passed_over) == [tmp_path / "a.png"]
    assert passed_over == [f"{told}; its photos are passed over"]


def test_an_empty_file_is_said_to_be_empty(tmp_path):
    (tmp_path / "card-failed.jpg").touch()
    with pytest.raises(ColorizeError, match=r"card-failed\.jpg.*the file is empty"):
        open_photo(tmp_path / "card-failed.jpg")


def test_a_photo_of_absurd_size_is_one_line(tmp_path, monkeypatch):
    Image.fromarray(scene(0)).save(tmp_path / "big.png")
    monkeypatch.setattr(read, "MOST_PIXELS", 80 * 64 - 1)
    with pytest.raises(ColorizeError, match=r"big\.png.*80x64 pixels, more than"):
        open_photo(tmp_path / "big.png")
    assert open_photo(tmp_path / "big.png", most_pixels=80 * 64).size == (80, 64)


def test_heic_without_its_package_says_what_to_install(tmp_path, monkeypatch):
    def unknown(*_, **__):
        raise UnidentifiedImageError("cannot identify image file")

    (tmp_path / "phone.heic").write_bytes(b"ftypheic")
    monkeypatch.setattr(Image, "open", unknown)
    monkeypatch.setattr(read, "pillow_heif", None)
    with pytest.raises(ColorizeError, match=r"phone\.heic.*pip install pillow-heif"):
        open_photo(tmp_path / "phone.heic")


def test_what_has_more_than_eight_bits_says_so(tmp_path):
    deep = np.full((8, 8, 3), 30000, np.uint16)
    skimage.io.imsave(tmp_path / "deep.tif", deep, check_contrast=False)
    Image.fromarray(deep[..., 0]).save(tmp_path / "grey.png")
    Image.fromarray(scene(0)).save(tmp_path / "usual.png")
    names = ("deep.tif", "grey.png", "usual.png")
    found = [open_photo(tmp_path / name).info["deep"] for name in names]
    assert found == [True, True, False]


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


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_a_jpeg_without_its_last_two_bytes_is_read_and_one_cut_short_is_not(
    tmp_path, mode, progressive
):
    path = tmp_path / "a.jpg"
    Image.fromarray(scene(0)).convert(mode).save(path, quality=90, progressive=progressive)
    whole = path.read_bytes()
    wanted = np.asarray(open_photo(path))
    assert whole.endswith(b"\xff\xd9")
    for end in (-2, -1):
        path.write_bytes(whole[:end])
        assert np.array_equal(np.asarray(open_photo(path)), wanted)
    for share in (0.3, 0.6, 0.9, 0.98):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(ColorizeError, match=r"(?i)truncated"):
            open_photo(path)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_half_a_photo_is_said_to_be_that(tmp_path, suffix):
    (path,) = write_photos(tmp_path, 1, suffix)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ColorizeError) as error:
        open_photo(path)
    reason = "the file is truncated: cut short, or damaged"
    assert str(error.value) == f"{path}: cannot be read as a photo ({reason})"


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x.jpg")
    with pytest.raises(ColorizeError, match=r"x\.jpg.*not a file"):
        open_photo(tmp_path / "x.jpg")


def test_a_folder_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    write_photos(tmp_path / "in", 1)
    write_photos(tmp_path / "in" / "locked", 1)
    scandir = os.scandir

    def forbidden(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", forbidden)
    with pytest.raises(ColorizeError, match="locked: Permission denied"):
        find_photos(tmp_path / "in")
    passed_over = []
    assert len(find_photos(tmp_path / "in", passed_over)) == 1
    (line,) = passed_over
    assert "locked: Permission denied" in line


@pytest.mark.parametrize("shape", [(40, 60), (40, 60, 1), (40, 60, 3), (40, 60, 4)])
def test_arrays_and_paths_are_photos_too(tmp_path, shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    assert np.array_equal(np.asarray(as_photo(pixels)).reshape(shape), pixels)
    Image.fromarray(pixels.squeeze()).save(tmp_path / "a.png")
    for path in (tmp_path / "a.png", str(tmp_path / "a.png")):
        assert np.array_equal(np.asarray(as_photo(path)).reshape(shape), pixels)


@pytest.mark.parametrize(
    "given",
    [
        None,
        7,
        b"photo",
        np.zeros((4, 4), np.float32),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros(4, np.uint8),
        torch.zeros(3, 4, 4),
    ],
)
def test_anything_else_is_a_type_error_that_says_what_is_taken(given):
    with pytest.raises(TypeError, match=r"a PIL image, a path, or a uint8 array"):
        as_photo(given)


@pytest.mark.parametrize("size", [(0, 4), (4, 0), (0, 0)])
def test_an_image_without_pixels_is_said(size):
    for empty in (Image.new("L", size), np.zeros(size, np.uint8)):
        with pytest.raises(ColorizeError, match="nothing to colour"):
            as_photo(empty)


def test_fit_square_keeps_proportions_and_the_middle():
    wide = np.zeros((50, 150, 3), np.uint8)
    wide[:, 50:100] = 255
    assert np.asarray(fit_square(Image.fromarray(wide), 20)).min() > 200


def test_fit_square_takes_every_pixel_into_account():
    """A fine pattern becomes grey; picking pixels would make it black, white or stripes."""
    y, x = np.mgrid[0:80, 0:80]
    checked = ((x + y) % 2 * 255).astype(np.uint8)
    middle = np.asarray(fit_square(Image.fromarray(checked), 20))[1:-1, 1:-1].astype(int)
    assert np.abs(middle - 127).max() <= 2


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 64))
@example(3000, 1, 32)
@example(1, 3000, 32)
def test_any_photo_fits_a_square_without_favouring_a_side(width, height, size):
    square = fit_square(photo := Image.fromarray(scene(0, width, height)), size)
    assert (square.mode, square.size) == ("RGB", (size, size))
    for turn in (Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.FLIP_TOP_BOTTOM):
        turned = np.asarray(fit_square(photo.transpose(turn), size).transpose(turn)).astype(int)
        assert np.abs(turned - np.asarray(square)).max() <= 1
    if width == height == size:
        assert square.tobytes() == photo.tobytes()
