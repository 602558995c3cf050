"""Colour conversion against scikit-image, and what the gamut mapping promises."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage import color as skimage_color

from colorize import color


@pytest.fixture(scope="module")
def all_colors() -> torch.Tensor:
    """Every third value of each channel and both ends: 658,503 colours, (1, 3, H, W) uint8."""
    values = torch.cat((torch.arange(0, 256, 3), torch.tensor([1, 2, 254])))
    rgb = torch.stack(torch.meshgrid(values, values, values, indexing="ij"))
    return rgb.reshape(1, 3, len(values), -1).to(torch.uint8)


def as_image(batch: torch.Tensor) -> np.ndarray:
    return batch[0].permute(1, 2, 0).numpy()


def batches(*ranges: tuple[float, float], dtype: type = np.float32) -> st.SearchStrategy:
    """Tensors (B, a channel for each range, H, W) of any small B, H and W."""

    def of_shape(shape: tuple[int, int, int]) -> st.SearchStrategy:
        channels = [
            arrays(dtype, shape, elements={"min_value": low, "max_value": high})
            for low, high in ranges
        ]
        return st.tuples(*channels).map(lambda found: torch.from_numpy(np.stack(found, axis=1)))

    return st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4)).flatmap(of_shape)


PHOTOS = batches(*[(0.0, 1.0)] * 3) | batches(*[(0, 255)] * 3, dtype=np.uint8)
LABS = batches((0.0, 100.0), (-200.0, 200.0), (-200.0, 200.0))


def test_rgb_to_lab_agrees_with_scikit_image(all_colors):
    expected = skimage_color.rgb2lab(as_image(all_colors))
    for rgb in (all_colors, all_colors / 255.0):
        assert np.abs(as_image(color.rgb_to_lab(rgb)) - expected).max() < 1e-3


@given(PHOTOS)
def test_any_photo_of_any_size_is_scikit_image_s_lab_and_comes_back(rgb):
    lab = color.rgb_to_lab(rgb)
    expected = skimage_color.rgb2lab(rgb.permute(0, 2, 3, 1).numpy())
    np.testing.assert_allclose(lab.permute(0, 2, 3, 1).numpy(), expected, atol=1e-3, rtol=0)
    assert lab[:, 0].min() >= -1e-4
    assert lab[:, 0].max() <= 100 + 1e-4
    share = rgb / 255.0 if rgb.dtype == torch.uint8 else rgb
    torch.testing.assert_close(color.lab_to_rgb(lab), share, atol=1e-4, rtol=0)
    torch.testing.assert_close(color.lightness(rgb), lab[:, :1], atol=1e-4, rtol=0)


@given(batches((0.0, 1.0)) | batches((0, 255), dtype=np.uint8))
def test_grey_has_no_colour_and_comes_back_from_its_lightness(grey):
    lab = color.rgb_to_lab(grey.expand(-1, 3, -1, -1))
    # Not nearer: the matrix and the white point are rounded to different digits.
    assert lab[:, 1:].abs().max() < 6e-3
    share = grey / 255.0 if grey.dtype == torch.uint8 else grey
    L = color.lightness(grey)
    torch.testing.assert_close(L, lab[:, :1], atol=1e-4, rtol=0)
    torch.testing.assert_close(color.lightness_to_grey(L), share, atol=1e-5, rtol=0)


def test_lab_to_rgb_gives_the_same_8_bit_color_back(all_colors):
    back = (color.lab_to_rgb(color.rgb_to_lab(all_colors)) * 255).round().to(torch.uint8)
    assert torch.equal(back, all_colors)


def test_lab_to_rgb_clips_impossible_colors_as_scikit_image_does():
    lab = torch.rand(1, 3, 40, 40) * torch.tensor([100.0, 240, 240]).view(3, 1, 1)
    lab[:, 1:] -= 120
    with pytest.warns(UserWarning, match="negative Z"):
        expected = skimage_color.lab2rgb(as_image(lab))
    np.testing.assert_allclose(as_image(color.lab_to_rgb(lab)), expected, atol=1e-4)


def test_results_stay_within_one():
    """Not a rounding error more: pictures and networks take these as they are."""
    L = torch.linspace(0, 100, 10_001)
    grey = torch.stack((L, torch.zeros_like(L), torch.zeros_like(L)), -1).T[None, :, None]
    wild = grey + torch.randn(grey.shape) * torch.tensor([0.0, 60.0, 60.0]).view(1, 3, 1, 1)
    for rgb in (color.lab_to_rgb(grey), color.lab_to_rgb(wild), color.lightness_to_grey(L)):
        assert rgb.min() == 0.0
        assert rgb.max() <= 1.0


def test_known_values():
    rgb = torch.tensor([[1.0, 0, 0], [1, 1, 1], [0, 0, 0]]).T.reshape(1, 3, 1, 3)
    red, white, black = color.rgb_to_lab(rgb)[0, :, 0].T
    torch.testing.assert_close(red, torch.tensor([53.2406, 80.0923, 67.2028]), atol=2e-3, rtol=0)
    torch.testing.assert_close(white, torch.tensor([100.0, 0, 0]), atol=6e-3, rtol=0)
    torch.testing.assert_close(black, torch.zeros(3), atol=1e-4, rtol=0)


@pytest.mark.parametrize("convert", [color.rgb_to_lab, color.lab_to_rgb, color.lightness])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_gradients_are_finite_at_black_and_at_the_kinks(convert, value):
    x = torch.full((1, 3, 2, 2), value, requires_grad=True)
    convert(x).sum().backward()
    assert torch.isfinite(x.grad).all()


def test_gradient_of_rgb_to_lab_is_right():
    rgb = (torch.rand(1, 3, 2, 2, dtype=torch.float64) * 0.8 + 0.1).requires_grad_()
    assert torch.autograd.gradcheck(color.rgb_to_lab, (rgb,))


def test_lightness_of_grey_and_of_color_is_the_L_of_training(all_colors):
    torch.testing.assert_close(color.lightness(all_colors), color.rgb_to_lab(all_colors)[:, :1])
    grey = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    expected = color.rgb_to_lab(grey.expand(-1, 3, -1, -1))[:, :1]
    torch.testing.assert_close(color.lightness(grey), expected, atol=1e-4, rtol=0)
    # The trap: v / 255 * 2 - 1 would be -0.498 here.
    assert color.scale_lab(expected)[0][0, 0, 4, 0] == pytest.approx(-0.458, abs=1e-3)


def test_lightness_to_grey_is_the_inverse():
    grey = torch.arange(256).view(1, 1, 16, 16) / 255.0
    torch.testing.assert_close(
        color.lightness_to_grey(color.lightness(grey)), grey, atol=1e-5, rtol=0
    )


def test_scaling_is_undone_and_within_one(all_colors):
    lab = color.rgb_to_lab(all_colors)
    L, ab = color.scale_lab(lab)
    assert L.shape[1] == 1
    assert ab.shape[1] == 2
    assert max(L.abs().max(), ab.abs().max()) <= 1.0 + 1e-6
    torch.testing.assert_close(color.unscale_lab(L, ab), lab, atol=1e-4, rtol=0)


def test_scaling_is_what_trained_weights_expect():
    """Other numbers would fit each other as well, and turn the colours of every network off."""
    lab = torch.tensor([75.0, 55.0, -27.5]).view(1, 3, 1, 1)
    L, ab = color.scale_lab(lab)
    assert (L.item(), *ab.flatten().tolist()) == (0.5, 0.5, -0.25)
    # What comes out of a network in half precision is not rounded again.
    L, ab = torch.rand(1, 1, 8, 8).bfloat16(), torch.rand(1, 2, 8, 8).bfloat16()
    assert torch.equal(color.unscale_lab(L, ab), color.unscale_lab(L.float(), ab.float()))


def test_gamut_mapping_leaves_possible_colors_alone(all_colors):
    lab = color.rgb_to_lab(all_colors)
    assert torch.equal(color.fit_to_gamut(lab), lab)


def test_gamut_mapping_keeps_lightness_and_hue_and_uses_the_room_there_is():
    lab = torch.rand(1, 3, 64, 64) * torch.tensor([96.0, 200, 200]).view(3, 1, 1)
    lab[:, 0] += 2
    lab[:, 1:] -= 100
    mapped = color.fit_to_gamut(lab)
    assert torch.equal(mapped[:, 0], lab[:, 0])
    hue = torch.atan2(lab[:, 2], lab[:, 1])
    torch.testing.assert_close(torch.atan2(mapped[:, 2], mapped[:, 1]), hue, atol=1e-3, rtol=0)
    # It fits: after 8-bit rounding the lightness is that of the input.
    rgb = (color.lab_to_rgb(mapped) * 255).round().to(torch.uint8)
    moved = (color.rgb_to_lab(rgb)[:, 0] - lab[:, 0]).abs()
    assert moved.mean() < 0.2
    assert moved.max() < 0.7
    # And it is not pulled further than needed: a little more colour would not fit.
    changed = (mapped != lab).any(1)
    more = torch.cat((mapped[:, :1], mapped[:, 1:] * 1.02), 1)
    clipped = (color.rgb_to_lab(color.lab_to_rgb(more))[:, 0] - lab[:, 0]).abs()
    assert changed.sum() > 1000
    assert (clipped[changed] > 1e-3).float().mean() > 0.9


@given(LABS)
def test_gamut_mapping_of_any_colour_keeps_lightness_and_hue_and_stays_in_srgb(lab):
    mapped = color.fit_to_gamut(lab)
    assert mapped.shape == lab.shape
    assert torch.equal(mapped[:, 0], lab[:, 0])
    # The hue, without dividing by a colour that is grey: a and b shrink alike, and turn nowhere.
    (a, b), (a0, b0) = mapped[:, 1:].unbind(1), lab[:, 1:].unbind(1)
    torch.testing.assert_close(a * b0, b * a0, atol=1e-2, rtol=1e-5)
    for x, x0 in ((a, a0), (b, b0)):
        assert ((x * x0 >= 0) & (x.abs() <= x0.abs())).all()
    # Were it outside sRGB, clipping would move it. What it may stick out, a fortieth of an 8-bit
    # step of light, is most in Lab near black.
    back = color.rgb_to_lab(color.lab_to_rgb(mapped))
    torch.testing.assert_close(back[:, 0], lab[:, 0], atol=0.1, rtol=0)
    torch.testing.assert_close(back, mapped, atol=0.5, rtol=0)
    assert torch.equal(color.fit_to_gamut(mapped), mapped)


@given(LABS)
def test_any_scaling_is_undone(lab):
    L, ab = color.scale_lab(lab)
    assert L.shape == (len(lab), 1, *lab.shape[2:])
    assert ab.shape == (len(lab), 2, *lab.shape[2:])
    torch.testing.assert_close(color.unscale_lab(L, ab), lab, atol=1e-4, rtol=0)


def test_gamut_mapping_treats_each_pixel_of_a_batch_alone():
    lab = torch.rand(3, 3, 7, 11) * torch.tensor([100.0, 160.0, 160.0]).view(3, 1, 1)
    lab[:, 1:] -= 80.0
    mapped = color.fit_to_gamut(lab)
    alone = torch.cat([color.fit_to_gamut(one[None]) for one in lab])
    assert torch.equal(mapped, alone)
    assert torch.equal(mapped[:, 0], lab[:, 0])
    grey_near = torch.tensor([50.0, 1.0, -1.0]).view(1, 3, 1, 1)
    mixed = torch.cat((lab[:1, :, :, :1], grey_near.expand(1, 3, 7, 1)), dim=-1)
    assert torch.equal(color.fit_to_gamut(mixed)[..., 1], mixed[..., 1])
    moved = (mapped != lab).any(dim=1)
    assert moved.any()
    assert not moved.all()


def test_batches_and_single_photos_agree():
    rgb = torch.rand(3, 3, 8, 5)
    batched = color.rgb_to_lab(rgb)
    for i in range(3):
        torch.testing.assert_close(
            color.rgb_to_lab(rgb[i : i + 1])[0], batched[i], atol=1e-4, rtol=0
        )


def test_autocast_does_not_cost_precision():
    rgb = torch.rand(1, 3, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(color.rgb_to_lab(rgb), color.rgb_to_lab(rgb.float()))
        lab = color.rgb_to_lab(rgb)
    assert lab.dtype == torch.float32
    torch.testing.assert_close(lab, color.rgb_to_lab(rgb))
