"""How good colours are: L1 of ab, PSNR, SSIM, CIEDE2000 and colourfulness."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


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
