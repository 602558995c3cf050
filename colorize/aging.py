"""Old photographs: what film, age and scanners do to lightness, drawn anew for each photo.

People bring old photographs, and a network that has seen clean photos alone takes their grain for
texture and their faded blacks for mist. The colours to be learnt stay those of the clean photo.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from colorize.color import lightness
from colorize.system.device import send

# JPEG's example table for lightness (ITU-T T.81, annex K.1).
_JPEG_STEPS = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)


@torch.no_grad()
def aged_lightness(rgb: Tensor) -> Tensor:
    """Lightness of photos as if they were old prints that were scanned.

    In the order in which it happens to a photo: the film's response to red, green and blue, blur,
    exposure, grain, fading, a dark or light border, dust and scratches, JPEG. Each photo gets some
    of it, at strengths of its own. Draws from torch's global generators.

    Args:
        rgb: uint8 (B, 3, H, W), any device.

    Returns:
        Scaled L (B, 1, H, W) in [-1, 1].
    """
    count, side = len(rgb), min(rgb.shape[-2:])

    def number(low: float, high: float, share: float = 1.0, otherwise: float = 0.0) -> Tensor:
        """One for each photo, (B, 1, 1, 1) on the CPU: `otherwise`, but for a share of them."""
        drawn = low + (high - low) * torch.rand(count)
        return torch.where(torch.rand(count) < share, drawn, otherwise).view(-1, 1, 1, 1)

    def draw(*how: float, **more: float) -> Tensor:
        """The same on the device."""
        return send(number(*how, **more), rgb.device)

    # Film before 1930 hardly saw red; later films see all three, each in its own way.
    red, blue = draw(0.0, 0.5), draw(0.05, 0.45)
    x = lightness(rgb, torch.cat((red, 1 - red - blue, blue), 1)) / 100
    x = _blur(x, number(0.002, 0.007, share=0.5) * side)
    x = x.clamp(0, 1) ** draw(-0.6, 0.6).exp()
    x = x + draw(0.01, 0.06, share=0.6) * _grain(x)
    black, white = draw(0.0, 0.25, share=0.6), draw(0.7, 1.0, share=0.6, otherwise=1.0)
    x = black + (white - black) * x.clamp(0, 1)
    x = x * (1 - draw(-0.2, 0.5, share=0.4) * _from_middle(x))
    x = _damage(x, draw(0.0, 0.001, share=0.4), draw(0.0, 1.0), draw(-0.15, 0.15), draw(0, 1, 0.3))
    x = _jpeg(x.clamp(0, 1), draw(0.2, 1.2, share=0.5))
    return 2 * x.clamp(0, 1) - 1


def _blur(x: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur of each photo of (B, 1, H, W) by its own sigma in pixels.

    Args:
        sigma: (B, 1, 1, 1) on the CPU: how far a kernel reaches is read from it.
    """
    reach = max(1, int(3 * float(sigma.max())))
    sigma = send(sigma, x.device)
    steps = torch.arange(-reach, reach + 1, device=x.device, dtype=x.dtype)
    kernel = torch.exp(-0.5 * (steps / sigma.clamp(min=1e-3)) ** 2)  # (B, 1, 1, 2 reach + 1)
    kernel = kernel / kernel.sum(-1, keepdim=True)
    padded = F.pad(x, (reach,) * 4, mode="replicate").transpose(0, 1)  # a photo a channel
    rows = F.conv2d(padded, kernel, groups=len(x))
    return F.conv2d(rows, kernel.transpose(-1, -2), groups=len(x)).transpose(0, 1)


def _grain(x: Tensor) -> Tensor:
    """Noise of standard deviation 1 or a little less, half of it in clumps of two pixels."""
    height, width = x.shape[-2:]
    coarse = torch.randn(len(x), 1, (height + 1) // 2, (width + 1) // 2, device=x.device)
    coarse = F.interpolate(coarse, (height, width), mode="bilinear")
    return (torch.randn_like(x) + coarse) / 2**0.5


def _from_middle(x: Tensor) -> Tensor:
    """Squared distance from the middle, 1 in the corners: (1, 1, H, W)."""
    y, z = (torch.linspace(-1, 1, n, device=x.device) ** 2 for n in x.shape[-2:])
    return ((y[:, None] + z[None]) / 2)[None, None]


def _damage(x: Tensor, dust: Tensor, place: Tensor, slope: Tensor, scratch: Tensor) -> Tensor:
    """Specks, and one long scratch where `scratch` is above 0.

    Args:
        dust: share of the pixels in which a speck begins.
        place: of the scratch, as a share of the width; `slope` is what it moves on the way down.
        scratch: its strength. All four (B, 1, 1, 1).
    """
    height, width = x.shape[-2:]
    specks = F.max_pool2d((torch.rand_like(x) < dust).to(x.dtype), 3, stride=1, padding=1)
    x = torch.lerp(x, send(torch.randint(2, dust.shape), x.device).to(x.dtype), 0.8 * specks)
    down, across = (torch.linspace(0, 1, n, device=x.device) for n in (height, width))
    away = (across[None] - place - slope * down[:, None]).abs() * width
    return x + 0.5 * scratch * (1 - away).clamp(min=0)


def _jpeg(x: Tensor, coarseness: Tensor) -> Tensor:
    """Round the frequencies of blocks of 8x8, as JPEG does; 0 leaves a photo alone.

    Args:
        x: (B, 1, H, W) in [0, 1].
        coarseness: (B, 1, 1, 1), factor of the table: 1 is quality 50, 0.2 quality 90.
    """
    height, width = x.shape[-2:]
    padded = F.pad(x, (0, -width % 8, 0, -height % 8), mode="replicate")
    blocks = padded.unfold(2, 8, 8).unfold(3, 8, 8) * 255 - 128  # (B, 1, rows, columns, 8, 8)
    at = torch.arange(8, device=x.device, dtype=x.dtype)
    cosines = torch.cos((2 * at[None] + 1) * at[:, None] * torch.pi / 16) / 2
    cosines[0] /= 2**0.5
    steps = coarseness[..., None, None] * send(torch.tensor(_JPEG_STEPS), x.device)
    steps = steps.clamp(min=1e-3)
    frequencies = cosines @ blocks @ cosines.T
    blocks = cosines.T @ (torch.round(frequencies / steps) * steps) @ cosines
    whole = blocks.permute(0, 1, 2, 4, 3, 5).reshape(padded.shape)[..., :height, :width]
    return torch.where(coarseness > 0, (whole + 128) / 255, x)
