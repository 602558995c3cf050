"""The measuring protocol on generators whose measures are known."""

import pytest
import torch
from conftest import scene, square_scenes

from colorize.color import rgb_to_lab, scale_lab
from colorize.dataset import PhotoSet
from colorize.evaluate import at_working_size, measure, measure_batch
from colorize.metrics import ciede2000, colorfulness


def grey(L):
    return torch.zeros(len(L), 2, *L.shape[-2:])


def cheat(photos):
    """A generator that knows the truth."""
    truth = iter([photos[i][None] for i in range(len(photos))])
    return lambda L: torch.cat([scale_lab(rgb_to_lab(next(truth)))[1] for _ in L])


def test_the_truth_is_perfect():
    photos = square_scenes(3, 32)
    means = measure(cheat(photos), photos, batch_size=2, full=True)
    assert means["l1"] == 0
    assert means["psnr"] > 100
    assert means["ssim"] == pytest.approx(1)
    assert means["ciede2000"] == 0
    assert means["delta_colorfulness"] == 0


def test_grey_has_the_l1_of_the_colors_themselves():
    photos = square_scenes(3, 32)
    means = measure(grey, photos, full=True)
    _, ab = scale_lab(rgb_to_lab(photos.__getitems__([0, 1, 2])))
    assert means["l1"] == pytest.approx(ab.abs().mean().item(), abs=1e-5)
    assert means["colorfulness"] < 0.5
    truth = colorfulness(photos.__getitems__([0, 1, 2])).mean().item()
    assert means["true_colorfulness"] == pytest.approx(truth, abs=1e-3)
    assert means["delta_colorfulness"] == pytest.approx(truth, abs=0.5)
    assert 5 < means["ciede2000"] < 60
    assert 10 < means["psnr"] < 30


def test_means_do_not_depend_on_the_batch_size():
    photos = square_scenes(5, 32)
    assert measure(grey, photos, batch_size=2) == pytest.approx(measure(grey, photos, batch_size=5))


def test_rows_are_per_photo():
    photos = square_scenes(2, 32)
    rows = measure_batch(grey, photos.__getitems__([0, 1]), full=True)
    assert len(rows) == 2
    # The photo against its own grey version, by scikit-image alone.
    from skimage.color import lab2rgb, rgb2lab

    true = scene(1, 32, 32)
    lab = rgb2lab(true)
    lab[..., 1:] = 0
    expected = ciede2000((lab2rgb(lab) * 255).round().astype("uint8"), true)
    assert rows[1]["ciede2000"] == pytest.approx(expected, abs=0.05)


def test_no_photos_no_measures():
    photos = square_scenes(1, 32)
    assert measure(grey, PhotoSet(photos.array, photos.rows[:0], [])) == {}


class Echo(torch.nn.Module):
    """Its ab is L, twice; it keeps what it saw."""

    working_size = 64

    def forward(self, L):
        self.seen = L
        return torch.cat((L, -L), dim=1)


@pytest.mark.parametrize("side", [40, 64, 150])
def test_squares_of_any_size_are_seen_at_the_working_size(side):
    network, ramp = Echo(), torch.linspace(-0.9, 0.9, side)
    L = torch.stack((ramp.expand(side, side), ramp.expand(side, side).T))[:, None]
    ab = at_working_size(network)(L)
    assert network.seen.shape == (2, 1, 64, 64)
    assert ab.shape == (2, 2, side, side)
    assert torch.allclose(ab, torch.cat((L, -L), dim=1), atol=0.03)


def test_the_network_never_sees_more_than_white():
    at_working_size(network := Echo())(torch.randint(0, 2, (2, 1, 40, 40)) * 2.0 - 1)
    assert network.seen.abs().max() == 1  # bicubic overshoots such steps
