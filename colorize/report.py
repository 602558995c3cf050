"""What weights are worth on a folder of photos: tables, files, and pictures to look at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from colorize.checkpoint import shipped_weights
from colorize.config import DataConfig
from colorize.data import PhotoSet, load_photo_set, spread, to_network
from colorize.errors import printable
from colorize.evaluate import at_working_size, means, measure_each
from colorize.files import write_csv, write_json
from colorize.perceptual import Perceptual
from colorize.predict import Colorizer
from colorize.viz import Figure, grid, save


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
) -> dict[str, float]:
    """Measure weights on all readable photos of a folder, by the protocol of `evaluate.py`.

    Args:
        data: a folder, "coco" or "builtin".
        weights: a weights folder, or a hub name; None takes those of the checkout.
        summary: also write the means here, as JSON.
        each: also write the measures of each photo here, as CSV.
        picture: also draw eight of the photos here: grey, coloured, truth.
        best_worst: also draw the ten best and the ten worst by CIEDE2000 here.
        perceptual: also FID and LPIPS.
        working_size: side at which the network sees the photos; its own if None.

    Raises:
        ColorizeError: no such folder or weights, no photo that can be read, or no way to the
            networks of FID and LPIPS.
    """
    colorizer = Colorizer.from_pretrained(weights, working_size)
    more = Perceptual(colorizer.device) if perceptual else None
    photos, unreadable = load_photo_set(data, size)
    for line in unreadable:
        print(f"left out: {printable(line)}")
    predict = at_working_size(colorizer.generator, colorizer.size)
    rows = measure_each(predict, photos, device=colorizer.device, full=True, more=more)
    measures = means(rows)
    if more and (fid := more.fid()) is not None:
        measures["fid"] = round(fid, 4)
    if each:
        write_csv(each, [{"photo": n, **row} for n, row in zip(photos.names, rows, strict=True)])
    if summary:
        of = {"data": data, "weights": weights or str(shipped_weights())}
        of |= {"size": size, "working_size": colorizer.size}
        write_json(summary, of | {"photos": len(photos)} | measures)
    if picture:
        chosen = spread(len(photos), 8)
        captions = [Path(photos.names[row]).name for row in chosen]
        save(grid_of(colorizer, photos.__getitems__(chosen), captions), picture)
    if best_worst:
        save(best_and_worst(rows, photos, colorizer), best_worst)
    return measures


def table(metrics: dict[str, dict[str, float]]) -> str:
    """Measures as text, a row a network."""
    names = next(iter(metrics.values()), {})
    # As wide as it must be: the output of a notebook cell has room for 90 characters.
    titles = {name: f"{name.replace('colorfulness', 'colorf.'):>7}" for name in names}
    lines = [" " * 10 + "".join(f"  {title}" for title in titles.values())]
    for stage, row in metrics.items():
        cells = (f"  {row[name]:>{len(title)}.4f}" for name, title in titles.items())
        lines.append(f"{stage:<10}" + "".join(cells))
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
    predicted = at_working_size(colorizer.generator, colorizer.size)(L)
    return grid(L.cpu(), predicted.cpu(), ab.cpu(), captions)
