"""`Colorizer` keeps the photo and its lightness, and folder runs survive bad files."""

import numpy as np
import pytest
import torch
from conftest import scene
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from colorize import Colorizer
from colorize.color import fit_to_gamut, lab_to_rgb, rgb_to_lab
from colorize.photos.pixels import to_rgb
from colorize.predict import _stretch, color_map, in_grey, smooth, working_shape
from colorize.system.errors import ColorizeError


def lab(image):
    pixels = np.asarray(to_rgb(image)).copy()
    return rgb_to_lab(torch.from_numpy(pixels).permute(2, 0, 1)[None])


@settings(max_examples=40)
@given(
    st.integers(1, 90),
    st.integers(1, 90),
    st.sampled_from(["RGB", "L", "1", "P", "LA", "RGBA", "CMYK", "YCbCr", "HSV"]),
)
@example(1, 1, "RGB")
@example(33, 200, "L")
@example(1000, 21, "RGB")
def test_size_and_lightness_are_kept(colorizer, width, height, mode):
    photo = Image.fromarray(scene(0, width, height)).convert(mode)
    colored = colorizer(photo)
    assert colored.mode == ("RGBA" if mode in ("LA", "RGBA") else "RGB")
    assert colored.size == (width, height)
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


@given(st.integers(1, 30_000), st.integers(1, 30_000), st.integers(32, 1024))
def test_the_working_shape_of_any_photo_suits_the_network(width, height, size):
    shape = working_shape(width, height, size)
    assert working_shape(height, width, size) == shape[::-1]
    short, long = sorted(shape)
    assert 32 <= short <= size
    assert long <= 4 * size
    aspect = max(width, height) / min(width, height)
    if aspect <= 4:
        assert short == size
    if short > 32:  # else it was widened to what the network takes
        assert long / short == pytest.approx(aspect, rel=1 / short)


def test_from_pretrained_takes_the_working_size_of_the_weights(colorizer, tmp_path):
    from colorize.pretrained import save_weights

    save_weights(colorizer.generator, tmp_path / "weights")
    photo = Image.fromarray(scene(0)).convert("L")
    loaded = Colorizer.from_pretrained(tmp_path / "weights", device="cpu")
    assert loaded.size == 32
    assert loaded(photo).tobytes() == colorizer(photo).tobytes()
    assert Colorizer.from_pretrained(tmp_path / "weights", size=64).size == 64


@given(*[st.integers(1, 40)] * 4, st.integers(1, 9))
@example(5, 7, 40, 23, 3)
@example(40, 23, 5, 7, 1)
def test_a_part_of_the_upsampled_colour_is_that_part_of_the_whole(h, w, height, width, rows):
    torch.manual_seed(0)
    ab = torch.randn(1, 2, h, w)
    whole = torch.nn.functional.interpolate(ab, (height, width), mode="bilinear")
    wide = torch.nn.functional.interpolate(ab, (h, width), mode="bilinear")
    tops = range(0, height, rows)
    parts = [_stretch(wide, height, top, min(top + rows, height)) for top in tops]
    torch.testing.assert_close(torch.cat(parts, dim=-2), whole, rtol=1e-4, atol=1e-5)


def test_strength_scales_the_colours_and_nothing_else(colorizer):
    photo = Image.fromarray(scene(0))
    knobs = {"device": "cpu", "smoothness": 0.0}  # the mean of these loud colours is beyond sRGB
    grey, half, whole = (
        lab(Colorizer(colorizer.generator, strength=strength, **knobs)(photo))
        for strength in (0.0, 0.5, 1.0)
    )
    assert grey[:, 1:].abs().max() < 1
    inside = fit_to_gamut(torch.cat((whole[:, :1], whole[:, 1:] * 1.2), 1)) - whole
    shown = inside[:, 1:].abs().amax(1) > 0.1  # what gamut mapping has not touched
    assert shown.float().mean() > 0.2
    error = (half[:, 1:] * 2 - whole[:, 1:]).abs().amax(1)
    assert error[shown].median() < 1
    assert (half[:, 0] - whole[:, 0]).abs().mean() < 0.5


def test_flip_takes_the_mean_with_the_mirrored_photo(colorizer):
    L = torch.rand(2, 1, 40, 48) * 2 - 1
    plain, both = (
        Colorizer(colorizer.generator, device="cpu", flip=flip, smoothness=0)
        for flip in (False, True)
    )
    with torch.inference_mode():
        wanted = (plain.predict_ab(L) + plain.predict_ab(L.flip(-1)).flip(-1)) / 2
        assert (wanted - plain.predict_ab(L)).abs().mean() > 0.01
        torch.testing.assert_close(both.predict_ab(L), wanted)


def blotch(*size):
    """A flat photo with a light square in its left half, and a red patch in the middle."""
    L, ab = torch.full((1, 1, *size), -0.2), torch.zeros(1, 2, *size)
    L[..., 4:20, 2:12] = 0.4
    ab[:, 0, 10:14, 8:16] = 0.5
    return L, ab


@pytest.mark.parametrize("smoothness", [0.5, 30.0, 300.0, 1000.0])
def test_smooth_colours_solve_the_equations_they_are_said_to(smoothness):
    torch.manual_seed(0)
    height, width = 9, 12
    L, ab = torch.rand(1, 1, height, width), torch.rand(1, 2, height, width) - 0.5
    light, left = L.flatten().double(), torch.eye(height * width, dtype=torch.float64)
    for p in range(height * width):
        beside = [p + 1] if (p + 1) % width else []
        for q in beside + [p + width] * (p + width < height * width):
            say = smoothness * torch.exp(-(light[p] - light[q]).abs() / 0.04)
            left[[p, q, p, q], [p, q, q, p]] += say * torch.tensor([1.0, 1, -1, -1])
    exact = torch.linalg.solve(left, ab.flatten(2)[0].mT.double()).mT.view(2, height, width)
    off = (smooth(L, ab, smoothness)[0] - exact).abs().max()
    assert off < 0.01 * (ab[0] - exact).abs().max()


def test_a_patch_without_a_border_spreads_and_stops_where_lightness_does():
    L, ab = blotch(24, 32)
    smoothed = smooth(L, ab)
    torch.testing.assert_close(smoothed.mean((2, 3)), ab.mean((2, 3)), atol=1e-5, rtol=0)
    assert smoothed.max() < 0.2  # from 0.5
    across = (smoothed[0, 0, 12, 11] - smoothed[0, 0, 12, 12]).abs()
    beside = (smoothed[0, 0, 12, 13] - smoothed[0, 0, 12, 12]).abs()
    assert across > 3 * beside
    assert smooth(L, ab, 0.0).equal(ab)


@given(st.integers(1, 3), st.integers(1, 12), st.integers(1, 12))
def test_smoothing_leaves_one_colour_alone_and_photos_apart(count, height, width):
    torch.manual_seed(0)
    L, ab = torch.rand(count, 1, height, width), torch.rand(count, 2, height, width)
    together = smooth(L, ab)
    one_by_one = torch.cat([smooth(*one) for one in zip(L.split(1), ab.split(1), strict=True)])
    torch.testing.assert_close(together, one_by_one, atol=1e-5, rtol=0)
    rounded = smooth(L, ab + 1e-6 * torch.randn_like(ab))  # as on a GPU, or in a batch
    torch.testing.assert_close(together, rounded, atol=2e-4, rtol=0)
    same = ab.mean((2, 3), keepdim=True).expand_as(ab)
    torch.testing.assert_close(smooth(L, same), same)


def test_what_a_colorizer_gives_is_smooth(small_generator):
    L = torch.rand(1, 1, 40, 48)
    plain = Colorizer(small_generator, device="cpu", smoothness=0)
    with torch.inference_mode():
        own = plain.predict_ab(L)
        assert own.equal(small_generator(L))
        smoothed = Colorizer(small_generator, device="cpu").predict_ab(L)
    torch.testing.assert_close(smoothed, smooth(L, own))
    assert smoothed.diff().abs().mean() < own.diff().abs().mean()


@given(st.integers(1, 3), st.integers(1, 12), st.integers(1, 12))
@example(2, 9, 12)
def test_where_nothing_was_lost_the_colour_is_the_network_s(count, height, width):
    torch.manual_seed(0)
    L = torch.rand(count, 1, height, width) * 2 - 1
    ab = torch.rand(count, 2, height, width) - 0.5
    flat, slope = color_map(L, ab).split(2, dim=1)
    assert slope.any() or height * width == 1
    torch.testing.assert_close(flat + slope * L, ab)


@given(st.integers(1, 3), st.integers(1, 12), st.integers(1, 12))
def test_slopes_are_turned_with_the_photo_and_do_not_depend_on_how_light_it_is(b, height, width):
    torch.manual_seed(0)
    L, ab = torch.rand(b, 1, height, width) - 0.5, torch.rand(b, 2, height, width) - 0.5

    def slope(L, ab):
        return color_map(L, ab)[:, 2:]

    turned = slope(L.mT.flip(-1), ab.mT.flip(-1))
    torch.testing.assert_close(turned, slope(L, ab).mT.flip(-1), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(slope(L + 0.5, ab), slope(L, ab), atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(slope(L, ab / 2), slope(L, ab) / 2, atol=1e-5, rtol=1e-4)


@given(st.integers(1, 9), st.integers(1, 9))
def test_a_flat_photo_or_a_flat_colour_has_no_slope(height, width):
    torch.manual_seed(0)
    flat, rough = torch.full((1, 1, height, width), 0.4), torch.rand(1, 1, height, width)
    for L, ab in ((flat, rough), (rough, flat)):
        _, slope = color_map(L, ab.expand(-1, 2, -1, -1)).split(2, dim=1)
        assert slope.abs().max() < 1e-5


def test_a_slope_is_of_the_colours_within_two_pixels():
    L, ab = torch.rand(1, 1, 11, 11), torch.rand(1, 2, 11, 11)
    other = ab.clone()
    other[..., 5, 5] += 1
    changed = (color_map(L, ab) != color_map(L, other))[0, 2:].any(0).nonzero()
    assert changed.amin(0).tolist() == [3, 3]
    assert changed.amax(0).tolist() == [7, 7]


def test_colour_follows_an_edge_that_the_working_size_has_lost():
    """Dark red beside light blue, with the border inside a pixel of the working size."""
    light = (torch.arange(80) > 42).float().expand(1, 1, 64, 80)
    L, ab = light - 0.5, torch.cat((0.5 - light, light - 0.5), dim=1) * 0.4
    small_L, small_ab = (torch.nn.functional.avg_pool2d(x, 8) for x in (L, ab))

    def up(x):
        return torch.nn.functional.interpolate(x, (64, 80), mode="bilinear")

    flat, slope = up(color_map(small_L, small_ab)).split(2, dim=1)
    error, bilinear_error = ((x - ab).abs().mean() for x in (flat + slope * L, up(small_ab)))
    assert error < 0.7 * bilinear_error


def test_grain_gets_no_colour_of_its_own():
    L = 0.05 * torch.randn(1, 1, 200, 200)
    smooth = torch.linspace(-0.2, 0.2, 200).expand(1, 2, 200, 200)
    _, slope = color_map(L, smooth).split(2, dim=1)
    assert slope.abs().mean() < 0.0005


def test_photos_of_one_shape_go_through_the_network_together(colorizer):
    images = [Image.fromarray(scene(i, *size)) for i, size in enumerate([(80, 64), (64, 80)] * 2)]
    images[2].putalpha(Image.linear_gradient("L").resize((80, 64)))
    one_by_one = [colorizer(image) for image in images]
    shapes = []
    colorizer.generator.register_forward_pre_hook(lambda _, inputs: shapes.append(inputs[0].shape))
    together = colorizer.batch(images)
    assert sorted(shapes) == [(2, 1, 32, 40), (2, 1, 40, 32)]
    for image, alone in zip(together, one_by_one, strict=True):
        assert (image.mode, image.size) == (alone.mode, alone.size)
        difference = np.abs(np.asarray(image).astype(int) - np.asarray(alone))
        assert difference.max() <= 3


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "I;16"])
def test_a_photo_in_grey_has_the_same_lightness(mode):
    photo = wanted = Image.fromarray(scene(0, 60, 40)).convert("L" if mode == "I;16" else mode)
    if mode == "I;16":
        photo = Image.fromarray(np.asarray(wanted).astype(np.uint16) * 257)
    grey = in_grey(photo)
    assert (grey.mode, grey.size) == ("L", (60, 40))
    assert (lab(grey)[:, 0] - lab(wanted)[:, 0]).abs().max() < 0.5


def test_a_path_and_an_array_give_what_the_image_does(colorizer, tmp_path):
    photo = Image.fromarray(scene(0))
    photo.save(tmp_path / "a.png")
    for other in (tmp_path / "a.png", str(tmp_path / "a.png"), scene(0)):
        assert colorizer(other).tobytes() == colorizer(photo).tobytes()


@pytest.mark.parametrize("mode", ["La", "RGBa"])
def test_multiplied_alpha_comes_out_as_alpha(colorizer, mode):
    photo = Image.fromarray(scene(0)).convert(mode.upper())
    photo.putalpha(128)
    colored = colorizer(photo.convert(mode))
    assert colored.mode == "RGBA"
    assert colored.getchannel("A").getextrema() == (128, 128)


def test_hints_reach_the_network_at_the_working_size(hinted):
    """Upright, mirrored with the photo, and each photo of a batch its own."""
    seen = []
    hinted.register_forward_pre_hook(lambda module, args: seen.append(args))
    photo = Image.fromarray(scene(0, 80, 64)).convert("L")
    sideways = photo.transpose(Image.Transpose.ROTATE_90)
    sideways.getexif()[0x0112] = 6  # turn right to look at it
    colorizer = Colorizer(hinted, 32, "cpu", flip=True)
    colorizer.batch([photo, sideways], [[(0, 0, "red")], [(79, 0, (160, 48, 32))]])
    (L, hints), (mirrored_L, mirrored) = seen
    assert torch.equal(mirrored_L, L.flip(-1))
    assert torch.equal(mirrored, hints.flip(-1))
    assert hints.shape == (2, 3, 32, 40)
    assert hints[:, 2].nonzero().tolist() == [[0, 0, 0], [1, 0, 39]]
    assert (hints[0, :2, 0, 0] > 0.1).all()


def test_hints_change_the_colour_and_not_the_lightness(hinted):
    photo = Image.fromarray(scene(0, 90, 70)).convert("L")
    colorizer = Colorizer(hinted, device="cpu")
    plain, painted = lab(colorizer(photo)), lab(colorizer(photo, [(40, 30, "#a03020")]))
    assert (painted - plain)[:, 1:].abs().max() > 5
    assert (painted - plain)[:, :1].abs().mean() < 0.5
    assert colorizer(photo, hints=[]).tobytes() == colorizer(photo).tobytes()


def test_bad_hints_are_one_line(hinted, colorizer):
    photo = Image.fromarray(scene(0, 90, 70))
    with pytest.raises(ColorizeError, match=r"hint 1: \(90, 0\) lies outside the photo"):
        Colorizer(hinted, device="cpu")(photo, [(90, 0, "red")])
    with pytest.raises(ColorizeError, match="know no colour hints"):
        colorizer(photo, [(9, 0, "red")])


def test_settings_and_hints_that_cannot_be_are_refused(colorizer, small_generator):
    for options in ({"strength": -1.0}, {"smoothness": -5.0}):
        with pytest.raises(ValueError, match="must not be below 0"):
            Colorizer(small_generator, device="cpu", **options)
    images = [Image.fromarray(scene(i)) for i in range(2)]
    with pytest.raises(ValueError, match="2 images, but hints of 1"):
        colorizer.batch(images, [[(1, 1, "red")]])
