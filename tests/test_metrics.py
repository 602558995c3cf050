"""Measures against scikit-image, other formulas, and pictures whose measure is known."""

import numpy as np
import pytest
import torch
from conftest import scene
from skimage.metrics import peak_signal_noise_ratio

from colorize import metrics


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(1)
    true = scene(3)
    return (true + random.normal(0, 12, true.shape)).clip(0, 255).astype(np.uint8), true


def as_batch(photo: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(photo).permute(2, 0, 1)[None]


def test_psnr_agrees_with_scikit_image(pair):
    ours = metrics.psnr(*map(as_batch, pair)).item()
    assert ours == pytest.approx(
        peak_signal_noise_ratio(pair[1], pair[0], data_range=255), abs=1e-3
    )


def test_psnr_is_one_number_a_photo(pair):
    predicted, true = map(as_batch, pair)
    batched = metrics.psnr(torch.cat((predicted, true)), torch.cat((true, true)))
    assert batched[0] == pytest.approx(metrics.psnr(predicted, true).item())
    assert batched[1] > 100


def test_ssim_agrees_with_the_formula(pair):
    """Wang et al. 2004 with an explicit Gaussian window, away from the borders."""
    window = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    kernel = torch.tensor(np.outer(window, window) / window.sum() ** 2).view(1, 1, 11, 11)
    x, y = (as_batch(p).double().transpose(0, 1) for p in pair)

    def blur(image):
        return torch.nn.functional.conv2d(image, kernel)

    mx, my = blur(x), blur(y)
    vx, vy, cov = blur(x * x) - mx**2, blur(y * y) - my**2, blur(x * y) - mx * my
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    ssim = (2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    assert metrics.ssim(*pair) == pytest.approx(ssim.mean().item(), abs=1e-4)
    assert metrics.ssim(pair[1], pair[1]) == pytest.approx(1.0)


def test_ciede2000_of_known_colors(pair):
    assert metrics.ciede2000(pair[1], pair[1]) == 0
    black, white = np.zeros((1, 2, 3), np.uint8), np.full((1, 2, 3), 255, np.uint8)
    assert metrics.ciede2000(black, white) == pytest.approx(100, abs=0.01)
    # Red against green is 86.61 by the formula of Sharma et al. 2005.
    red, green = black.copy(), black.copy()
    red[..., 0], green[..., 1] = 255, 255
    assert metrics.ciede2000(red, green) == pytest.approx(86.61, abs=0.02)
    half = red.copy()
    half[0, 0] = (0, 255, 0)
    assert metrics.ciede2000(half, green) == pytest.approx(86.61 / 2, abs=0.02)


def test_colorfulness_by_hand():
    # Half red, half blue: rg is 255 and 0, yb is 127.5 and -255.
    photo = torch.zeros(1, 3, 2, 2)
    photo[:, 0, 0] = 255
    photo[:, 2, 1] = 255
    rg, yb = np.array([255.0, 0.0]), np.array([127.5, -255.0])
    expected = np.hypot(rg.std(), yb.std()) + 0.3 * np.hypot(rg.mean(), yb.mean())
    assert metrics.colorfulness(photo).item() == pytest.approx(expected, rel=1e-5)


def test_colorfulness_of_grey_is_zero():
    grey = torch.randint(0, 256, (2, 1, 8, 8)).expand(-1, 3, -1, -1)
    assert metrics.colorfulness(grey).tolist() == [0.0, 0.0]


def test_ab_l1_is_per_photo():
    a, b = torch.rand(2, 3, 2, 4, 5).unbind(0)
    torch.testing.assert_close(
        metrics.ab_l1(a, b), torch.stack([(x - y).abs().mean() for x, y in zip(a, b, strict=True)])
    )


def test_to_uint8_rounds_to_the_nearest():
    values = torch.tensor([-0.1, 0.0, 0.4999 / 255, 0.5001 / 255, 1.0, 1.2])
    assert metrics.to_uint8(values).tolist() == [0, 0, 0, 1, 255, 255]


def distances(predicted: torch.Tensor, true: torch.Tensor) -> dict[str, float]:
    colors = metrics.ColorDistribution()
    colors.add(torch.zeros(len(true), 1, *true.shape[-2:]), predicted, true)
    return colors.distances()


@pytest.fixture
def ab() -> torch.Tensor:
    """Scaled ab of eight photos, (8, 2, 24, 24)."""
    return 0.2 * torch.randn(8, 2, 24, 24) + 0.2 * torch.randn(8, 2, 1, 1)


def test_distance_of_two_known_histograms():
    """All in one bin against half in that and half in another."""
    true = torch.full((1, 2, 4, 4), 0.05)
    half = true.clone()
    half[..., :2] = 0.5
    found = distances(true, half)
    assert found["ab_distance"] == pytest.approx(0.31128, abs=1e-5)


def test_the_truth_has_no_distance_and_grey_the_largest(ab):
    assert distances(ab, ab) == pytest.approx(
        {"ab_distance": 0, "ab_distance_scaled": 0, "ab_distance_by_L": 0}, abs=1e-9
    )
    grey, timid = distances(0 * ab, ab), distances(0.5 * ab, ab)
    assert all(grey[name] > timid[name] for name in grey)
    assert grey["ab_distance"] <= 1


def test_a_saturation_knob_does_not_change_the_scaled_distances(ab):
    other = 0.1 * torch.randn_like(ab) + 0.05
    found, stronger = distances(other, ab), distances(1.7 * other, ab)
    assert found["ab_distance"] != pytest.approx(stronger["ab_distance"], abs=1e-3)
    for name in ("ab_distance_scaled", "ab_distance_by_L"):
        # A pixel in a few thousand may fall to the other side of a bin's border.
        assert found[name] == pytest.approx(stronger[name], abs=1e-3)


def test_colors_in_the_wrong_photo_are_left_to_the_other_measures(ab):
    found = distances(ab.roll(1, 0), ab)
    assert found["ab_distance"] == pytest.approx(0, abs=1e-9)
    assert metrics.ab_l1(ab.roll(1, 0), ab).mean() > 0.1


def test_lightness_tells_a_swap_that_the_colors_alone_do_not():
    """Blue below and orange above instead of the other way round."""
    ab = torch.zeros(1, 2, 8, 8)
    ab[:, 1, :4], ab[:, 1, 4:] = 0.4, -0.4
    L = torch.full((1, 1, 8, 8), -0.9)
    L[:, :, :4] = 0.9
    colors = metrics.ColorDistribution()
    colors.add(L, ab.flip(2), ab)
    found = colors.distances()
    assert found["ab_distance_scaled"] == pytest.approx(0, abs=1e-9)
    assert found["ab_distance_by_L"] == pytest.approx(1)


def test_large_photos_count_every_so_many_th_pixel():
    colors = metrics.ColorDistribution()
    colors.add(
        torch.zeros(2, 1, 200, 300), torch.zeros(2, 2, 200, 300), torch.zeros(2, 2, 200, 300)
    )
    assert colors.true[0].shape == (2, 2 * 50 * 75)
    assert metrics.ColorDistribution().distances() == {}


def test_photos_as_colorful_as_the_truth():
    true = torch.full((3, 3, 8, 8), 100, dtype=torch.uint8)
    true[:, 0, :, :4] = 150  # a red half
    true[:, 2, :, 4:] = 130
    Y = (true * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1, keepdim=True)
    predicted = (Y + (true - Y) / 2).round().to(torch.uint8)
    predicted[1] = true[1]
    predicted[2] = Y[2].round().to(torch.uint8)
    scaled = metrics.as_colorful(predicted, true)
    off = (scaled[0].int() - true[0].int()).abs().max()
    assert off <= 2  # what halving and rounding lost
    assert torch.equal(scaled[1], true[1])
    assert torch.equal(scaled[2], predicted[2])  # grey has no hue to make stronger
