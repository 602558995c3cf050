"""Colour conversion against scikit-image, and what the gamut mapping promises."""

import time

import numpy as np
import pytest
import torch
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


def test_rgb_to_lab_agrees_with_scikit_image(all_colors):
    expected = skimage_color.rgb2lab(as_image(all_colors))
    for rgb in (all_colors, all_colors / 255.0):
        assert np.abs(as_image(color.rgb_to_lab(rgb)) - expected).max() < 1e-3


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


def test_faster_than_scikit_image():
    batch = torch.randint(0, 256, (8, 3, 128, 128), dtype=torch.uint8)
    photos = batch.permute(0, 2, 3, 1).numpy()

    def best(convert, value):
        seconds = []
        for _ in range(5):
            start = time.perf_counter()
            convert(value)
            seconds.append(time.perf_counter() - start)
        return min(seconds)

    assert best(color.rgb_to_lab, batch) < best(skimage_color.rgb2lab, photos)
    lab, labs = color.rgb_to_lab(batch), skimage_color.rgb2lab(photos)
    assert best(color.lab_to_rgb, lab) < best(skimage_color.lab2rgb, labs)
