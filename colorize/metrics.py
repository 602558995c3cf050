"""How good colours are: L1 of ab, PSNR, SSIM, CIEDE2000, colourfulness, and their distribution."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from colorize.color import AB_SCALE

_BIN, _BINS = 10.0, 22  # units of ab; from -110 to 110
_ACROSS = 96  # pixels of a photo's side that `ColorDistribution` counts


def to_uint8(rgb: Tensor) -> Tensor:
    """RGB in [0, 1] to the nearest 8-bit value; any shape."""
    return (rgb * 255.0).round().clamp(0, 255).to(torch.uint8)


def psnr(predicted: Tensor, true: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of 8-bit RGB (B, 3, H, W), in dB, one a photo (B,)."""
    error = (predicted.float() - true.float()).square().mean(dim=(1, 2, 3))
    return 10.0 * torch.log10(255.0**2 / error.clamp(min=1e-10))


def colorfulness(rgb: Tensor) -> Tensor:
    """Colourfulness of 8-bit RGB (B, 3, H, W), one a photo (B,): 0 is grey, 33 average.

    Hasler and Suesstrunk, "Measuring colourfulness in natural images", 2003, with rg = R - G and
    yb = (R + G) / 2 - B.
    """
    r, g, b = rgb.float().flatten(2).unbind(1)
    rg, yb = r - g, (r + g) / 2 - b
    spread = (rg.var(1, correction=0) + yb.var(1, correction=0)).sqrt()
    return spread + 0.3 * (rg.mean(1).square() + yb.mean(1).square()).sqrt()


def as_colorful(predicted: Tensor, true: Tensor) -> Tensor:
    """Photos with their U and V scaled, each by one factor, to the colourfulness of the truth.

    For a FID that no stronger or weaker colours can win, after the hue-invariant one of arXiv
    2503.14974. Scaling U and V is scaling how far R, G and B are from Y. Colourfulness is in
    proportion to that, as long as nothing is clipped: the best factor is their ratio. Grey stays
    grey, with what rounding to 8 bits leaves it of colour, under 1.

    Args:
        predicted, true: uint8 RGB (B, 3, H, W); so is what comes out.
    """
    R, G, B = predicted.float().split(1, dim=1)
    Y = 0.299 * R + 0.587 * G + 0.114 * B
    own = colorfulness(predicted)
    factor = torch.where(own >= 1, colorfulness(true) / own, 1.0)
    scaled = Y + factor.view(-1, 1, 1, 1) * (predicted - Y)
    return scaled.round().clamp(0, 255).to(torch.uint8)


def ab_l1(predicted: Tensor, true: Tensor) -> Tensor:
    """Mean absolute difference of scaled ab (B, 2, H, W), one a photo (B,)."""
    return (predicted.float() - true.float()).abs().mean(dim=(1, 2, 3))


def ssim(predicted: np.ndarray, true: np.ndarray) -> float:
    """Structural similarity of two 8-bit RGB photos (H, W, 3), at least 11x11.

    Wang et al. 2004: Gaussian window of 11x11, sigma 1.5, mean over the channels.
    """
    from skimage.metrics import structural_similarity  # imports scipy: half a second

    return structural_similarity(
        predicted,
        true,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        channel_axis=-1,
        data_range=255,
    )


def ciede2000(predicted: np.ndarray, true: np.ndarray) -> float:
    """Mean CIEDE2000 colour difference of two 8-bit RGB photos (H, W, 3)."""
    from skimage.color import deltaE_ciede2000, rgb2lab

    return float(deltaE_ciede2000(rgb2lab(predicted), rgb2lab(true)).mean())


class ColorDistribution:
    """How near the colours of a set of photos are to the truth's, in whichever photo they are.

    Compares two histograms of ab, of 22x22 bins of 10 units, by the Jensen-Shannon divergence in
    bits: 0 if they are equal, 1 if they share nothing. L1 rewards timid colours, and a GAN is
    trained against that; this tells what it gained. It does not see a colour in the wrong place,
    which L1 and CIEDE2000 do.
    """

    def __init__(self) -> None:
        self.predicted: list[Tensor] = []
        self.true: list[Tensor] = []
        self.thirds: list[Tensor] = []

    def add(self, L: Tensor, predicted: Tensor, true: Tensor) -> None:
        """Count photos: scaled L (B, 1, H, W), predicted and true scaled ab (B, 2, H, W).

        Of photos larger than 96x96 every second, third or so on pixel counts.
        """
        step = -(-max(L.shape[-2:]) // _ACROSS)
        L, predicted, true = (x[..., ::step, ::step].float().cpu() for x in (L, predicted, true))
        self.predicted.append(predicted.transpose(0, 1).flatten(1) * AB_SCALE)
        self.true.append(true.transpose(0, 1).flatten(1) * AB_SCALE)
        self.thirds.append(((L.flatten() + 1) * 1.5).long().clamp(0, 2))

    def distances(self) -> dict[str, float]:
        """The divergence, by name; empty without photos.

        Returns:
            ab_distance: of the colours as they are. ab_distance_scaled: of predicted ab times one
            factor, so that its mean chroma is the truth's: stronger or weaker colours alone change
            nothing. ab_distance_by_L: likewise, of histograms that also tell dark, middle and light
            pixels apart.
        """
        if not self.true:
            return {}
        predicted, true = torch.cat(self.predicted, 1), torch.cat(self.true, 1)
        thirds = torch.cat(self.thirds)
        chroma = predicted.norm(dim=0).mean()
        scaled = predicted * (true.norm(dim=0).mean() / chroma if chroma else 1.0)
        return {
            "ab_distance": _divergence(_histogram(predicted), _histogram(true)),
            "ab_distance_scaled": _divergence(_histogram(scaled), _histogram(true)),
            "ab_distance_by_L": _divergence(_histogram(scaled, thirds), _histogram(true, thirds)),
        }


def _histogram(ab: Tensor, group: Tensor | int = 0) -> np.ndarray:
    """How many of the ab (2, N) fall into each bin, of each group."""
    a, b = (ab / _BIN + _BINS / 2).floor().long().clamp(0, _BINS - 1)
    return torch.bincount((group * _BINS + a) * _BINS + b, minlength=3 * _BINS * _BINS).numpy()


def _divergence(one: np.ndarray, other: np.ndarray) -> float:
    """Jensen-Shannon divergence of two histograms, in bits."""
    from scipy.spatial.distance import jensenshannon

    return float(jensenshannon(one, other, base=2) ** 2)
