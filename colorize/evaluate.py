"""Measure a generator on photos: the same protocol while training and in `colorize evaluate`.

1. A photo is brought to a square by `photos.read.fit_square`: resized to cover it (bicubic,
   antialiased), the middle kept; 8-bit sRGB. Grey photos count like any other.
2. The generator sees L of that square, brought to its working size, and its ab is brought back,
   bilinearly (`at_working_size`); a run's own photos have that size from the start.
3. RGB is composed of the true L and the predicted ab, what sRGB cannot show is pulled towards
   grey, and the result is rounded to 8 bits. That is compared with the photo; L1 is of scaled ab.
4. Every measure is of one photo (`metrics.py` defines them), the summary is their mean over all;
   delta_colorfulness is the difference of the two mean colourfulnesses; FID and the distances of
   the colours' distribution are of the whole set.
5. With `old_photo`, step 2 sees L as that of an old print (`aging.py`), always the same one.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from colorize.aging import aged_lightness
from colorize.color import scaled_to_rgb
from colorize.config import DataConfig
from colorize.dataset import PhotoSet, load_photo_set, spread, to_network
from colorize.generator import Generator
from colorize.metrics import (
    ColorDistribution,
    ab_l1,
    as_colorful,
    ciede2000,
    colorfulness,
    psnr,
    ssim,
    to_uint8,
)
from colorize.photos.sources import source_other_kinds
from colorize.predict import Colorizer
from colorize.pretrained import shipped_weights
from colorize.system.errors import ColorizeError, first_line, printable
from colorize.system.files import write_csv, write_json
from colorize.system.progress import bar
from colorize.viz import Figure, grid, save

# Coloured and true photos, uint8 (B, 3, H, W), to more measures of each photo, by name.
MoreMeasures: TypeAlias = Callable[[Tensor, Tensor], dict[str, list[float]]]


def at_working_size(
    generator: Generator | Callable[[Tensor], Tensor], side: int | None = None
) -> Callable[[Tensor], Tensor]:
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
    old_photo: bool = False,
) -> dict[str, float]:
    """Means over the photos.

    Args:
        predict: scaled L (B, 1, H, W) on `device` to scaled ab (B, 2, H, W).
        full: also SSIM and CIEDE2000, which take 0.1 s a photo of 256x256.
        old_photo: see `measure_each`.

    Returns:
        l1 (of scaled ab), psnr (dB), colorfulness, true_colorfulness, delta_colorfulness
        (difference of those two means); with `full` also ssim, ciede2000 and the distances of
        `metrics.ColorDistribution`. Empty without photos.
    """
    colors = ColorDistribution() if full else None
    rows = measure_each(
        predict, photos, batch_size, device, full, colors=colors, old_photo=old_photo
    )
    return means(rows, colors)


def means(
    rows: Sequence[dict[str, float]], colors: ColorDistribution | None = None
) -> dict[str, float]:
    """Means of the measures of photos, and what is of the whole set; empty without photos."""
    if not rows:
        return {}
    result = {name: fmean(row[name] for row in rows) for name in rows[0]}
    result["delta_colorfulness"] = abs(result["colorfulness"] - result["true_colorfulness"])
    result |= colors.distances() if colors else {}
    return {name: round(value, 5) for name, value in result.items()}


@torch.no_grad()
def measure_each(
    predict: Callable[[Tensor], Tensor],
    photos: PhotoSet,
    batch_size: int = 16,
    device: torch.device | str = "cpu",
    full: bool = False,
    more: MoreMeasures | None = None,
    colors: ColorDistribution | None = None,
    old_photo: bool = False,
) -> list[dict[str, float]]:
    """The measures of each photo, in the order of the set; see `measure`.

    Args:
        colors: also counts the photos, for what is of the whole set.
        old_photo: show them to the network as old prints, drawn anew but always alike.
    """
    rows: list[dict[str, float]] = []
    starts = range(0, len(photos), batch_size)
    for first in bar(starts, "measuring", unit="batch", show=full):  # without, it takes a moment
        rgb = photos.__getitems__(range(first, min(first + batch_size, len(photos)))).to(device)
        seen = None
        if old_photo:
            torch.manual_seed(first)
            seen = aged_lightness(rgb)
        rows += measure_batch(predict, rgb, full, more, colors, seen)
    return rows


def measure_batch(
    predict: Callable[[Tensor], Tensor],
    rgb: Tensor,
    full: bool = False,
    more: MoreMeasures | None = None,
    colors: ColorDistribution | None = None,
    seen: Tensor | None = None,
) -> list[dict[str, float]]:
    """Measures of each photo of a uint8 batch (B, 3, H, W); see `measure_each`.

    Args:
        seen: the scaled L (B, 1, H, W) that the network gets; None is the photos' own.
    """
    L, ab = to_network(rgb)
    predicted = predict(L if seen is None else seen).float()
    if colors:
        colors.add(L, predicted, ab)
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


_NEEDED = {"torchmetrics": "torchmetrics", "torch_fidelity": "torch-fidelity"}
_LEAST = 2  # photos; the covariance of one is nothing


class Perceptual:
    """Collects photos for FID and gives the LPIPS of each; a `MoreMeasures` of `evaluate`.

    FID: Heusel et al. 2017, Frechet distance between the Inception features (2048, after pooling)
    of the coloured and the true photos. It falls as their number grows: compare like with like.
    The hue-invariant one is that of photos whose colours are as strong as the truth's, photo by
    photo (`metrics.as_colorful`).
    LPIPS: Zhang et al. 2018, distance between AlexNet features of a photo and its truth.

    Raises:
        ColorizeError: a package is missing, or a network cannot be downloaded.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        missing = [pip for name, pip in _NEEDED.items() if importlib.util.find_spec(name) is None]
        if missing:
            raise ColorizeError(
                f"FID and LPIPS need more packages: pip install {' '.join(missing)}"
            )
        from torchmetrics.image.fid import FrechetInceptionDistance
        from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

        try:
            fid = FrechetInceptionDistance()
            hue_invariant = FrechetInceptionDistance(fid.inception)
            lpips = LearnedPerceptualImagePatchSimilarity("alex", normalize=True)
        except Exception as error:  # the network's, the disk's, or a damaged file's
            raise ColorizeError(
                f"the networks of FID and LPIPS cannot be had ({first_line(error)}); once "
                f"downloaded they are kept in {torch.hub.get_dir()}/checkpoints; or leave out "
                "--perceptual"
            ) from error
        # FID adds up in double precision, which Apple's GPUs have not.
        self._device = torch.device("cpu" if torch.device(device).type == "mps" else device)
        self._fid, self._lpips = fid.to(self._device), lpips.to(self._device)
        self._hue_invariant = hue_invariant.to(self._device)
        self._photos = 0

    def __call__(self, colored: Tensor, true: Tensor) -> dict[str, list[float]]:
        """LPIPS of each photo of a batch; both uint8 (B, 3, H, W)."""
        colored, true = colored.to(self._device), true.to(self._device)
        for fid, fake in ((self._fid, colored), (self._hue_invariant, as_colorful(colored, true))):
            fid.update(true, real=True)
            fid.update(fake, real=False)
        self._photos += len(true)
        pairs = zip(colored.split(1), true.split(1), strict=True)
        return {"lpips": [self._lpips(a / 255, b / 255).item() for a, b in pairs]}

    def fid(self) -> dict[str, float]:
        """FID of all photos so far, plain and hue-invariant; empty for fewer than two."""
        if self._photos < _LEAST:
            return {}
        both = {"fid": self._fid, "fid_hue_invariant": self._hue_invariant}
        return {name: round(fid.compute().item(), 4) for name, fid in both.items()}


def evaluate_folder(
    data: str,
    weights: str | None,
    size: int,
    summary: Path | None = None,
    each: Path | None = None,
    picture: Path | None = None,
    best_worst: Path | None = None,
    perceptual: bool = False,
    working_size: int | None = None,
    strength: float = 1.0,
    smoothness: float = 0.0,
    old_photo: bool = False,
) -> dict[str, float]:
    """Measure weights on all readable photos of a folder, by the protocol of `evaluate.py`.

    Args:
        data: a folder, "coco" or "builtin".
        weights: a weights folder, or a hub name; None takes those that come along.
        summary: also write the means here, as JSON.
        each: also write the measures of each photo here, as CSV.
        picture: also draw eight of the photos here: grey, coloured, truth.
        best_worst: also draw the ten best and the ten worst by CIEDE2000 here.
        perceptual: also FID and LPIPS.
        working_size: side at which the network sees the photos; its own if None.
        strength: factor of the predicted colours.
        smoothness: see `predict.smooth`; 0 measures the network's own colours.
        old_photo: show the photos to the network as old prints.

    Raises:
        ColorizeError: no such folder or weights, no photo that can be read, or no way to the
            networks of FID and LPIPS.
    """
    colorizer = Colorizer.from_pretrained(
        weights, working_size, strength=strength, smoothness=smoothness
    )
    more = Perceptual(colorizer.device) if perceptual else None
    photos, unreadable = load_photo_set(data, size)
    for line in unreadable:
        print(f"left out: {printable(line)}")
    if grey := sum(color < DataConfig().min_colorfulness for color in photos.colorfulness):
        print(f"{grey} of {len(photos)} photos are grey: there are no colours to compare with")
    if others := source_other_kinds(data):
        print(printable(f"{data}: {others}"))
    colors = ColorDistribution()
    rows = measure_each(
        at_working_size(colorizer.predict_ab, colorizer.size),
        photos,
        device=colorizer.device,
        full=True,
        more=more,
        colors=colors,
        old_photo=old_photo,
    )
    measures = means(rows, colors)
    measures |= more.fid() if more else {}
    if each:
        write_csv(each, [{"photo": n, **row} for n, row in zip(photos.names, rows, strict=True)])
    if summary:
        of = {"data": data, "weights": weights or str(shipped_weights())}
        of |= {"size": size, "working_size": colorizer.size}
        of |= {"strength": strength, "smoothness": smoothness, "old_photo": old_photo}
        write_json(summary, of | {"photos": len(photos)} | measures)
    if picture:
        chosen = spread(len(photos), 8)
        captions = [Path(photos.names[row]).name for row in chosen]
        save(grid_of(colorizer, photos.__getitems__(chosen), captions), picture)
    if best_worst:
        save(best_and_worst(rows, photos, colorizer), best_worst)
    return measures


def table(metrics: dict[str, dict[str, float]]) -> str:
    """Measures as text, a line a measure and a column a network."""
    names = list(next(iter(metrics.values()), {}))
    lines = [" " * 18 + "".join(f"  {title:>10}" for title in metrics)]
    for name in names:
        cells = (f"  {row[name]:>10.4f}" for row in metrics.values())
        lines.append(f"{name:<18}" + "".join(cells))
    return "\n".join(lines)


def best_and_worst(
    rows: Sequence[dict[str, float]], photos: PhotoSet, colorizer: Colorizer, most: int = 10
) -> Figure:
    """Grid of the best photos by CIEDE2000, on the left, and the worst, on the right.

    Grey photos are left out, as long as there are others: they are easy, and would be the best.

    Args:
        rows: what `measure_each` gives for `photos`.
        most: of either; fewer if there are not twice as many photos.
    """
    least = DataConfig().min_colorfulness
    vivid = [i for i, row in enumerate(rows) if row["true_colorfulness"] >= least]
    order = sorted(vivid or range(len(rows)), key=lambda i: rows[i]["ciede2000"])
    count = min(most, max(1, len(order) // 2))
    chosen, captions = [], []
    for pair in zip(order[:count], order[::-1][:count], strict=True):
        for i, which in zip(pair, ("best", "worst"), strict=True):
            chosen.append(i)
            name = Path(photos.names[i]).name
            captions.append(f"{which}: {name}, {rows[i]['ciede2000']:.1f}")
    return grid_of(colorizer, photos.__getitems__(chosen), captions)


@torch.inference_mode()
def grid_of(colorizer: Colorizer, rgb: Tensor, captions: list[str]) -> Figure:
    """A figure of square uint8 photos (B, 3, S, S), coloured at the working size."""
    L, ab = to_network(rgb.to(colorizer.device))
    predicted = at_working_size(colorizer.predict_ab, colorizer.size)(L)
    return grid(L.cpu(), predicted.cpu(), ab.cpu(), captions)
