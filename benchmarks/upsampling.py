"""Which brings colour up from the working size more truly: bilinear, or along the photo's edges?

python benchmarks/upsampling.py FOLDER [--size 128] [--grain 0.08] [--weights W]

The true colours of each photo are shrunk to the working size, brought back both ways, and compared
with what they were; with --weights it is a network's colours that are brought up. Prints the mean
|ab error| in Lab units, over the photo and where the true colour changes most, as means of photos.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from colorize import Colorizer
from colorize.color import AB_SCALE, scaled_to_rgb
from colorize.dataset import to_network
from colorize.metrics import colorfulness, to_uint8
from colorize.photos.read import find_photos, open_rgb
from colorize.predict import color_map, to_tensor, working_shape

LARGEST = 2560  # pixels of the longer side
GREY = 8.0  # photos less colourful than this have no edges of colour to follow
SHARP = 0.05  # share of the pixels that counts as edges of colour


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare two ways of bringing colour up.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, default=128, help="working size")
    parser.add_argument(
        "--grain", type=float, default=0.0, help="noise in the photo, deviation of L / 50"
    )
    parser.add_argument("--weights", help="colours of a network instead of the true ones")
    args = parser.parse_args()
    colorizer = Colorizer.from_pretrained(args.weights, device="cpu") if args.weights else None
    torch.manual_seed(0)
    rows = []
    for path in find_photos(args.folder):
        photo = open_rgb(path)
        photo.thumbnail((LARGEST, LARGEST))
        if colorfulness(to_tensor(np.array(photo))) >= GREY:
            rows.append(errors(photo, args.size, args.grain, colorizer))
    if not rows:
        parser.exit(1, f"{args.folder}: no photo in it is colourful\n")
    bilinear, bilinear_edges, ours, ours_edges = (
        fmean(column) for column in zip(*rows, strict=True)
    )
    truer = fmean(row[2] < row[0] for row in rows)
    print(f"{len(rows)} photos; |ab error| over the photo, and at edges of colour:")
    print(f"bilinear     {bilinear:.3f}  {bilinear_edges:.3f}")
    print(f"along edges  {ours:.3f}  {ours_edges:.3f}; truer in {truer:.0%} of the photos")


def errors(photo: Image.Image, size: int, grain: float, colorizer: Colorizer | None) -> list[float]:
    """Mean errors of bilinear and of ours, each over the photo and at edges of colour."""
    L, ab = to_network(to_tensor(np.array(photo)))
    if grain:
        noisy = (L + grain * torch.randn_like(L)).clamp(-1, 1)
        pixels = to_uint8(scaled_to_rgb(noisy, ab))[0].permute(1, 2, 0).numpy()
        photo = Image.fromarray(pixels)
        L, _ = to_network(to_tensor(np.array(photo)))
    small = photo.resize(working_shape(*photo.size, size), Image.Resampling.BICUBIC)
    small_L, small_ab = to_network(to_tensor(np.array(small)))
    if colorizer:
        with torch.inference_mode():
            small_ab = colorizer.predict_ab(small_L)
    flat, slope = upsample(color_map(small_L, small_ab), L).split(2, dim=1)
    change = (
        ab.diff(dim=-1, append=ab[..., -1:]).abs() + ab.diff(dim=-2, append=ab[..., -1:, :]).abs()
    )
    change = F.avg_pool2d(change.sum(1), 3, 1, 1)
    sharp = change > change.flatten().sort().values[int((1 - SHARP) * change.numel())]
    result = []
    for colors in (upsample(small_ab, L), flat + slope * L):
        error = (colors - ab).abs().mean(1) * AB_SCALE
        result += [error.mean().item(), error[sharp].mean().item()]
    return result


def upsample(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear")


if __name__ == "__main__":
    main()
