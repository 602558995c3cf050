"""Pictures of a run: grids of grey, coloured and true photos, and curves of its history."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from colorize.checkpoint import write_whole
from colorize.color import lightness_to_grey, scaled_to_rgb, unscale_lab
from colorize.epoch import EpochReport
from colorize.errors import printable

_COLUMNS = ("grey", "coloured", "truth")


def grid(
    L: Tensor,
    ab_predicted: Tensor,
    ab_true: Tensor,
    captions: Sequence[str] = (),
    per_row: int = 2,
    title: str = "",
) -> Figure:
    """Grey, coloured and true versions of each photo side by side.

    Args:
        L: (n, 1, H, W), scaled, on the CPU.
        ab_predicted, ab_true: (n, 2, H, W), scaled.
        captions: a line above each photo.
        per_row: photos in a row of the grid, three pictures each.
    """
    grey = lightness_to_grey(unscale_lab(L, ab_true)[:, :1]).expand(-1, 3, -1, -1)
    versions = (grey, scaled_to_rgb(L, ab_predicted), scaled_to_rgb(L, ab_true))
    rows = math.ceil(len(L) / per_row)
    per_row = min(per_row, len(L))
    side = 1.6
    figure = Figure(figsize=(3 * per_row * side, rows * (side + 0.25) + 0.5), layout="constrained")
    figure.suptitle(title)
    blocks = figure.subfigures(rows, per_row, squeeze=False).flat
    for i, block in zip(range(len(L)), blocks, strict=False):
        if captions:
            # A file name may hold a $, which would start a formula.
            block.suptitle(printable(captions[i]), fontsize=9, parse_math=False)
        for axes, version, name in zip(block.subplots(1, 3), versions, _COLUMNS, strict=True):
            axes.imshow(version[i].permute(1, 2, 0).numpy())
            axes.set_axis_off()
            axes.set_title(name, fontsize=8)
    return figure


def curves(history: Sequence[dict[str, Any]]) -> Figure:
    """Losses, held-out L1 and PSNR, and colourfulness over the epochs of both stages."""
    figure = Figure(figsize=(13, 3.2), layout="constrained")
    panels = (
        ("L1 of scaled ab", {"l1": "training", "val_l1": "held out"}),
        ("GAN losses", {"d": "discriminator", "gan": "generator"}),
        ("held-out PSNR, dB", {"val_psnr": "PSNR"}),
        (
            "held-out colourfulness",
            {"val_colorfulness": "coloured", "val_true_colorfulness": "truth"},
        ),
    )
    pretrained = sum(row["stage"] == "pretrain" for row in history)
    for axes, (title, lines) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        for name, label in lines.items():
            points = [(x, row[name]) for x, row in enumerate(history, start=1) if name in row]
            if points:
                axes.plot(*zip(*points, strict=True), marker=".", label=label)
        if 0 < pretrained < len(history):
            axes.axvline(pretrained + 0.5, color="grey", linestyle=":", label="GAN starts")
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=8)
    return figure


def save(figure: Figure, path: Path, dpi: int = 110) -> None:
    """Write a figure as the kind of picture that the suffix names, whole."""
    with write_whole(path) as temporary:
        figure.savefig(temporary, dpi=dpi)


def sample_saver(out: Path) -> Callable[[EpochReport], None]:
    """A callback that writes `samples/STAGE-EPOCH.png` and `curves.png` in a run folder."""

    def on_epoch(report: EpochReport) -> None:
        title = f"{report.stage}, epoch {report.epoch} of {report.epochs}: held-out photos"
        figure = grid(report.L, report.ab_predicted, report.ab_true, title=title)
        save(figure, out / "samples" / f"{report.stage}-{report.epoch:03d}.png")
        save(curves(report.history), out / "curves.png")

    return on_epoch
