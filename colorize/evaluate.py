"""Measure a generator on photos: the same protocol while training and in `colorize evaluate`.

1. A photo is brought to a square by `photo.fit_square`: resized to cover it (bicubic, antialiased),
   the middle kept; 8-bit sRGB. Grey photos count like any other.
2. The generator sees L of that square, brought to its working size, and its ab is brought back,
   bilinearly (`at_working_size`); a run's own photos have that size from the start.
3. RGB is composed of the true L and the predicted ab, what sRGB cannot show is pulled towards
   grey, and the result is rounded to 8 bits. That is compared with the photo; L1 is of scaled ab.
4. Every measure is of one photo (`metrics.py` defines them), the summary is their mean over all;
   delta_colorfulness is the difference of the two mean colourfulnesses; FID is of the whole set.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from colorize.color import scaled_to_rgb
from colorize.data import PhotoSet, to_network
from colorize.generator import Generator
from colorize.metrics import ab_l1, ciede2000, colorfulness, psnr, ssim, to_uint8
from colorize.progress import bar

# Coloured and true photos, uint8 (B, 3, H, W), to more measures of each photo, by name.
MoreMeasures: TypeAlias = Callable[[Tensor, Tensor], dict[str, list[float]]]


def at_working_size(generator: Generator, side: int | None = None) -> Callable[[Tensor], Tensor]:
    """A function from scaled L of squares (B, 1, S, S) to scaled ab (B, 2, S, S).

    The generator sees them at `side`, its working size if none is given, whatever S is.
    """
    side = side or generator.working_size

    def predict(L: Tensor) -> Tensor:
        if L.shape[-1] == side:
            return generator(L)
        # Bicubic overshoots black and white.
        seen = F.interpolate(L, (side, side), mode="bicubic", antialias=True).clamp(-1, 1)
        return F.interpolate(generator(seen), L.shape[-2:], mode="bilinear", antialias=True)

    return predict


def measure(
    predict: Callable[[Tensor], Tensor],
    photos: PhotoSet,
    batch_size: int = 16,
    device: torch.device | str = "cpu",
    full: bool = False,
) -> dict[str, float]:
    """Means over the photos.

    Args:
        predict: scaled L (B, 1, H, W) on `device` to scaled ab (B, 2, H, W).
        full: also SSIM and CIEDE2000, which take 0.1 s a photo of 256x256.

    Returns:
        l1 (of scaled ab), psnr (dB), colorfulness, true_colorfulness, delta_colorfulness
        (difference of those two means); with `full` also ssim and ciede2000. Empty without photos.
    """
    return means(measure_each(predict, photos, batch_size, device, full))


def means(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """Means of the measures of photos, and delta_colorfulness; empty without photos."""
    if not rows:
        return {}
    result = {name: fmean(row[name] for row in rows) for name in rows[0]}
    result["delta_colorfulness"] = abs(result["colorfulness"] - result["true_colorfulness"])
    return {name: round(value, 5) for name, value in result.items()}


@torch.no_grad()
def measure_each(
    predict: Callable[[Tensor], Tensor],
    photos: PhotoSet,
    batch_size: int = 16,
    device: torch.device | str = "cpu",
    full: bool = False,
    more: MoreMeasures | None = None,
) -> list[dict[str, float]]:
    """The measures of each photo, in the order of the set; see `measure`."""
    rows: list[dict[str, float]] = []
    starts = range(0, len(photos), batch_size)
    for first in bar(starts, "measuring", unit="batch", show=full):  # without, it takes a moment
        rgb = photos.__getitems__(range(first, min(first + batch_size, len(photos)))).to(device)
        rows += measure_batch(predict, rgb, full, more)
    return rows


def measure_batch(
    predict: Callable[[Tensor], Tensor],
    rgb: Tensor,
    full: bool = False,
    more: MoreMeasures | None = None,
) -> list[dict[str, float]]:
    """Measures of each photo of a uint8 batch (B, 3, H, W); see `measure`."""
    L, ab = to_network(rgb)
    predicted = predict(L).float()
    colored = to_uint8(scaled_to_rgb(L, predicted))
    columns = {
        "l1": ab_l1(predicted, ab).tolist(),
        "psnr": psnr(colored, rgb).tolist(),
        "colorfulness": colorfulness(colored).tolist(),
        "true_colorfulness": colorfulness(rgb).tolist(),
    }
    if full:
        pairs = [
            (a.permute(1, 2, 0).numpy(), b.permute(1, 2, 0).numpy())
            for a, b in zip(colored.cpu(), rgb.cpu(), strict=True)
        ]
        columns["ssim"] = [ssim(*pair) for pair in pairs]
        columns["ciede2000"] = [ciede2000(*pair) for pair in pairs]
    if more:
        columns |= more(colored, rgb)
    return [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]
