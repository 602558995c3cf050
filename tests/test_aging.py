"""Old prints made of clean photos: alike each time, in range, and what each step does."""

import io

import numpy as np
import pytest
import torch
from conftest import square_scenes
from PIL import Image
from scipy.ndimage import gaussian_filter

from colorize.aging import _blur, _damage, _grain, _jpeg, aged_lightness
from colorize.color import lightness


@pytest.fixture
def rgb() -> torch.Tensor:
    return square_scenes(6, 48).__getitems__(range(6))


def number(*values: float) -> torch.Tensor:
    return torch.tensor(values).view(-1, 1, 1, 1)


def test_old_prints_are_in_range_and_differ_from_the_photo_and_each_time(rgb):
    once, again = aged_lightness(rgb), aged_lightness(rgb)
    assert once.shape == (6, 1, 48, 48)
    assert once.min() >= -1
    assert once.max() <= 1
    clean = lightness(rgb) / 50 - 1
    assert all((a - b).abs().mean() > 0.005 for a, b in zip(once, clean, strict=True))
    assert all((a - b).abs().mean() > 0.005 for a, b in zip(once, again, strict=True))


def test_the_same_seed_makes_the_same_print(rgb):
    torch.manual_seed(3)
    once = aged_lightness(rgb)
    torch.manual_seed(3)
    assert torch.equal(aged_lightness(rgb), once)


def test_they_still_show_the_photo(rgb):
    """Light stays light: aged and clean go together within a photo, on the mean of many."""
    clean = lightness(rgb).flatten(1)
    together = []
    for _ in range(20):
        pairs = zip(aged_lightness(rgb).flatten(1), clean, strict=True)
        together += [torch.corrcoef(torch.stack(pair))[0, 1].item() for pair in pairs]
    assert np.mean(together) > 0.5


def test_film_that_does_not_see_red_shows_it_black():
    red = torch.tensor([255, 0, 0], dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    blind = torch.tensor([0.0, 0.6, 0.4]).view(1, 3, 1, 1)
    assert lightness(red, blind).abs().max() < 1e-4
    eye = torch.tensor([0.212671, 0.715160, 0.072169]).view(1, 3, 1, 1)
    assert torch.allclose(lightness(red, eye), lightness(red), atol=1e-4)


def test_blur_is_scipys_each_photo_by_its_own_sigma(rgb):
    x = lightness(rgb[:2]) / 100
    blurred = _blur(x, number(0.0, 1.5))
    assert torch.equal(blurred[0], x[0])
    expected = gaussian_filter(x[1, 0].numpy(), 1.5, mode="nearest", radius=4)
    assert np.abs(blurred[1, 0].numpy() - expected).max() < 1e-5


def test_jpeg_is_pillows_at_quality_50():
    smooth = np.asarray(Image.fromarray(square_scenes(1, 48).array[0]).convert("L"))
    # With some grain: a flat block's frequencies may lie halfway between two steps, where the last
    # bit of a sum, which processors round differently, decides.
    grain = np.random.default_rng(2).normal(0, 3, smooth.shape)
    pixels = (smooth + grain).round().clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(encoded := io.BytesIO(), "JPEG", quality=50)
    expected = np.asarray(Image.open(encoded)).astype(float)
    x = torch.tensor(pixels / 255, dtype=torch.float32)[None, None]
    ours = _jpeg(x, number(1.0))[0, 0].numpy() * 255
    assert np.abs(ours.round() - expected).mean() < 0.1
    assert np.abs(pixels - expected).mean() > 1.5  # it is not that nothing happens
    odd = x[..., :45, :41]
    assert torch.equal(_jpeg(odd, number(0.0)), odd)


def test_grain_has_the_strength_that_is_asked_for():
    noise = _grain(torch.zeros(8, 1, 64, 64))
    assert noise.mean().abs() < 0.03
    assert 0.7 < noise.std() < 1.05


def test_dust_and_scratches_are_where_they_are_said_to_be():
    x = torch.full((2, 1, 40, 40), 0.5)
    none = number(0.0, 0.0)
    assert torch.equal(_damage(x, none, number(0.5, 0.5), none, none), x)
    scratched = _damage(x, none, number(0.5, 0.5), none, number(0.0, 1.0))
    assert torch.equal(scratched[0], x[0])
    assert set((scratched[1, 0] != 0.5).nonzero()[:, 1].tolist()) == {19, 20}
    dusty = _damage(x, number(0.01, 0.0), number(0.5, 0.5), none, none)
    assert 0.02 < (dusty[0] != 0.5).float().mean() < 0.3
    assert torch.equal(dusty[1], x[1])
