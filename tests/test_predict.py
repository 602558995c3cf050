"""`Colorizer` keeps the photo and its lightness, and folder runs survive bad files."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import scene, write_photos
from PIL import Image

from colorize import Colorizer
from colorize.color import fit_to_gamut, lab_to_rgb, rgb_to_lab
from colorize.photo import to_rgb
from colorize.predict import _stretch, colorize_files, working_shape


@pytest.fixture
def colorizer(small_generator):
    """A generator with loud colours, so that a wrong channel or a lost colour shows."""
    with torch.no_grad():
        small_generator.head.weight.normal_(0, 0.5)
        small_generator.head.bias.copy_(torch.tensor([0.2, -0.3]))
    return Colorizer(small_generator, device="cpu")


def lab(image):
    pixels = np.asarray(to_rgb(image)).copy()
    return rgb_to_lab(torch.from_numpy(pixels).permute(2, 0, 1)[None])


@pytest.mark.parametrize("size", [(80, 64), (64, 80), (33, 200), (7, 5), (1, 1), (1000, 21)])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_size_and_lightness_are_kept(colorizer, size, mode):
    photo = Image.fromarray(scene(0, *size)).convert(mode)
    colored = colorizer(photo)
    assert colored.mode == "RGB"
    assert colored.size == size
    moved = (lab(colored)[:, 0] - lab(photo)[:, 0]).abs()
    assert moved.mean() < 0.5
    assert moved.quantile(0.999) < 2


def test_it_colors(colorizer):
    colored = lab(colorizer(Image.fromarray(scene(0)).convert("L")))
    assert colored[:, 1:].abs().mean() > 5


def test_grey_and_its_rgb_copy_give_the_same(colorizer):
    grey = Image.fromarray(scene(0)).convert("L")
    assert colorizer(grey).tobytes() == colorizer(grey.convert("RGB")).tobytes()


def test_colors_in_the_input_are_not_looked_at(colorizer):
    """Two photos of the same lightness and different colours come out alike."""
    photo = Image.fromarray(scene(0))
    other = lab(photo)
    other[:, 1:] = -other[:, 1:]
    rgb = lab_to_rgb(fit_to_gamut(other))[0].permute(1, 2, 0).numpy()
    negative = Image.fromarray((rgb * 255).round().astype(np.uint8))
    difference = np.abs(np.asarray(photo).astype(int) - np.asarray(negative))
    assert difference.mean() > 30
    difference = np.abs(np.asarray(colorizer(photo)).astype(int) - np.asarray(colorizer(negative)))
    assert difference.mean() < 3


def test_alpha_is_kept(colorizer):
    photo = Image.fromarray(scene(0)).convert("RGBA")
    alpha = Image.linear_gradient("L").resize(photo.size)
    photo.putalpha(alpha)
    colored = colorizer(photo)
    assert colored.mode == "RGBA"
    assert colored.getchannel("A").tobytes() == alpha.tobytes()
    grey = photo.convert("LA")
    assert colorizer(grey).getchannel("A").tobytes() == alpha.tobytes()


def test_exif_rotation_is_applied(colorizer, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 8
    Image.fromarray(scene(0)).save(tmp_path / "turned.jpg", exif=exif)
    with Image.open(tmp_path / "turned.jpg") as photo:
        assert colorizer(photo).size == (64, 80)


def test_strips_join_without_a_seam(colorizer, monkeypatch):
    photo = Image.fromarray(scene(0, 90, 70))
    whole = colorizer(photo)
    monkeypatch.setattr("colorize.predict._STRIP", 90 * 7)
    assert colorizer(photo).tobytes() == whole.tobytes()


@pytest.mark.parametrize(
    ("photo", "expected"),
    [
        ((640, 480), (341, 256)),
        ((480, 640), (256, 341)),
        ((100, 100), (256, 256)),
        ((4000, 1000), (1024, 256)),
        ((10000, 200), (1024, 32)),
        ((1, 1), (256, 256)),
    ],
)
def test_working_shape(photo, expected):
    assert working_shape(*photo, 256) == expected


def test_from_pretrained_takes_the_working_size_of_the_weights(colorizer, tmp_path):
    from colorize.checkpoint import save_weights

    save_weights(colorizer.generator, tmp_path / "weights")
    photo = Image.fromarray(scene(0)).convert("L")
    loaded = Colorizer.from_pretrained(tmp_path / "weights", device="cpu")
    assert loaded.size == 32
    assert loaded(photo).tobytes() == colorizer(photo).tobytes()
    assert Colorizer.from_pretrained(tmp_path / "weights", size=64).size == 64


def names(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_a_bad_file_does_not_stop_a_folder(colorizer, tmp_path):
    write_photos(tmp_path / "in" / "deep", 2, ".jpg")
    write_photos(tmp_path / "in", 2)
    (tmp_path / "in" / "bad.png").write_bytes(b"no photo")
    failed = colorize_files(colorizer, [tmp_path / "in"], tmp_path / "out")
    assert names(tmp_path / "out") == [
        "deep/scene-00.jpg",
        "deep/scene-01.jpg",
        "scene-00.png",
        "scene-01.png",
    ]
    assert len(failed) == 1
    assert failed[0].startswith(str(tmp_path / "in" / "bad.png"))
    with Image.open(tmp_path / "out" / "scene-00.png") as colored:
        assert colored.size == (80, 64)


def test_photos_are_never_overwritten(colorizer, tmp_path):
    (here,) = write_photos(tmp_path / "here", 1)
    (there,) = write_photos(tmp_path / "there", 1)
    before = there.read_bytes()
    failed = colorize_files(colorizer, [here.parent, there.parent], there.parent)
    assert len(failed) == 2
    assert there.read_bytes() == before


def test_results_inside_the_folder_are_not_colored_again(colorizer, tmp_path):
    write_photos(tmp_path, 1)
    for out in (tmp_path / "coloured", tmp_path / "." / "x" / ".." / "coloured"):
        (tmp_path / "x").mkdir(exist_ok=True)
        assert colorize_files(colorizer, [tmp_path], out) == []
    assert names(tmp_path) == ["coloured/scene-00.png", "scene-00.png"]


def test_two_photos_of_one_name(colorizer, tmp_path):
    first, second = (write_photos(tmp_path / f, 1)[0] for f in ("a", "b"))
    failed = colorize_files(colorizer, [first, second], tmp_path / "out")
    assert len(failed) == 1
    assert "same name" in failed[0]
    assert names(tmp_path / "out") == ["scene-00.png"]


def test_transparency_in_a_file_named_jpg(colorizer, tmp_path):
    Image.fromarray(scene(0)).convert("RGBA").save(tmp_path / "odd.jpg", format="PNG")
    assert colorize_files(colorizer, [tmp_path / "odd.jpg"], tmp_path / "out") == []
    with Image.open(tmp_path / "out" / "odd.jpg") as colored:
        assert (colored.format, colored.mode) == ("JPEG", "RGB")


def test_an_unknown_suffix_is_one_line(colorizer, tmp_path):
    Image.fromarray(scene(0)).save(tmp_path / "photo", format="PNG")
    (failed,) = colorize_files(colorizer, [tmp_path / "photo"], tmp_path / "out")
    assert "unknown kind of photo" in failed
    assert not (tmp_path / "out").exists() or names(tmp_path / "out") == []


@pytest.mark.parametrize(
    ("small", "large"), [((5, 7), (40, 23)), ((40, 23), (5, 7)), ((3, 2), (1, 9))]
)
def test_a_part_of_the_upsampled_colour_is_that_part_of_the_whole(small, large):
    ab = torch.randn(1, 2, *small)
    whole = torch.nn.functional.interpolate(ab, large, mode="bilinear")
    wide = torch.nn.functional.interpolate(ab, (small[0], large[1]), mode="bilinear")
    for rows in (1, 3):
        tops = range(0, large[0], rows)
        parts = [_stretch(wide, large[0], top, min(top + rows, large[0])) for top in tops]
        torch.testing.assert_close(torch.cat(parts, dim=-2), whole, rtol=1e-4, atol=1e-5)
