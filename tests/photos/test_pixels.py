"""Every mode that Pillow has comes out as the same photo in sRGB."""

from io import BytesIO

import numpy as np
import pytest
from conftest import scene
from PIL import Image, ImageCms

from colorize.photos.pixels import alpha, to_rgb

PHOTO = Image.fromarray(scene(0))
GREY = PHOTO.convert("L").convert("RGB")


def difference(one, other):
    return np.abs(np.asarray(one).astype(int) - np.asarray(other)).mean()


@pytest.mark.parametrize(
    ("mode", "wanted", "most"),
    [
        ("1", PHOTO.convert("1").convert("RGB"), 0),
        ("L", GREY, 0),
        ("LA", GREY, 0),
        ("P", PHOTO, 15),
        ("RGB", PHOTO, 0),
        ("RGBA", PHOTO, 0),
        ("RGBX", PHOTO, 0),
        ("CMYK", PHOTO, 1),
        ("YCbCr", PHOTO, 2),
        ("HSV", PHOTO, 3),
        ("I", GREY, 0.6),
        ("I;16", GREY, 0.6),
        ("F", GREY, 0.6),
    ],
)
def test_modes(mode, wanted, most):
    if mode in ("I", "I;16"):
        deep = np.asarray(PHOTO.convert("L")).astype(np.int32 if mode == "I" else np.uint16) * 257
        image = Image.fromarray(deep)
    elif mode == "F":
        image = Image.fromarray(np.asarray(PHOTO.convert("L")).astype(np.float32) / 255)
    else:
        image = PHOTO.convert(mode)
    assert image.mode == mode
    rgb = to_rgb(image)
    assert (rgb.mode, rgb.size) == ("RGB", PHOTO.size)
    assert difference(rgb, wanted) <= most


@pytest.mark.parametrize(("kind", "white"), [(np.uint16, 65535), (np.float32, 1.0)])
def test_every_grey_of_8_bits_comes_back_from_more_bits(kind, white):
    """To the nearest: also those that lie a little under, or over."""
    values = np.arange(256.0).reshape(16, 16)
    for off in (-0.4, 0.0, 0.4):
        deep = ((values + off).clip(0, 255) / 255 * white).astype(kind)
        assert (np.asarray(to_rgb(Image.fromarray(deep))) == values[..., None]).all()


@pytest.mark.parametrize("mode", ["RGBa", "La"])
def test_multiplied_alpha_is_divided_out(mode):
    image = PHOTO.convert("RGBA" if mode == "RGBa" else "LA")
    image.putalpha(128)
    wanted = PHOTO if mode == "RGBa" else GREY
    assert difference(to_rgb(image.convert(mode)), wanted) < 3


def test_lab():
    to_lab = (ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"))
    lab = ImageCms.profileToProfile(PHOTO, *to_lab, outputMode="LAB")
    assert lab.mode == "LAB"
    assert difference(to_rgb(lab), PHOTO) < 3


def swapped():
    """A profile that says red where sRGB says green: what was converted by it cannot be missed."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    table = {}
    for i in range(int.from_bytes(profile[128:132], "big")):
        entry = 132 + 12 * i
        table[bytes(profile[entry : entry + 4])] = entry
    red, green = table[b"rXYZ"], table[b"gXYZ"]
    profile[red : red + 4], profile[green : green + 4] = b"gXYZ", b"rXYZ"
    name = profile.find("sRGB".encode("utf-16-be"))
    assert name > 0
    profile[name : name + 8] = "swap".encode("utf-16-be")
    return bytes(profile)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_colours_are_those_of_the_profile(mode):
    file = BytesIO()
    PHOTO.convert(mode).save(file, "PNG", icc_profile=swapped())
    red, green, blue = PHOTO.split()
    wanted = Image.merge("RGB", (green, red, blue))
    with Image.open(file) as image:
        assert difference(to_rgb(image), wanted) < (15 if mode == "P" else 2)


@pytest.mark.parametrize("profile", [b"no profile", swapped()[:200]])
def test_a_damaged_profile_is_passed_over(profile):
    image = PHOTO.copy()
    image.info["icc_profile"] = profile
    assert difference(to_rgb(image), PHOTO) == 0


def test_a_profile_of_another_kind_of_pixels_is_passed_over():
    image = PHOTO.convert("L")
    image.info["icc_profile"] = swapped()
    assert difference(to_rgb(image), GREY) == 0


def test_a_whole_number_mode_made_of_8_bits_is_no_night():
    assert difference(to_rgb(PHOTO.convert("L").convert("I")), GREY) == 0


@pytest.mark.parametrize(("value", "mode"), [(70_000, "I"), (-1, "I"), (1.5, "F")])
def test_pixels_of_no_known_range_are_refused(value, mode):
    image = Image.new(mode, (4, 4), value)
    with pytest.raises(ValueError, match="no known range"):
        to_rgb(image)


@pytest.mark.parametrize("mode", ["LA", "La", "PA", "RGBA", "RGBa"])
def test_alpha_of_every_mode_that_has_one(mode):
    opaque = Image.linear_gradient("L").resize(PHOTO.size)
    image = PHOTO.convert({"LA": "LA", "La": "LA", "PA": "PA"}.get(mode, "RGBA"))
    image.putalpha(opaque)
    image = image if image.mode == mode else image.convert(mode)
    assert image.mode == mode
    assert np.array_equal(np.asarray(alpha(image)), np.asarray(opaque))
    assert alpha(PHOTO) is None
