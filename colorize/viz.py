"""Pictures: grids of photos, curves of a run, Lab channels, ab histograms, what D sees."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from statistics import fmean
from textwrap import fill
from typing import Any

from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from PIL.Image import Image
from torch import Tensor

from colorize.color import AB_SCALE, L_SCALE, lightness_to_grey, rgb_to_lab, scaled_to_rgb
from colorize.system.errors import ColorizeError, printable
from colorize.system.files import write_whole

_A_COLORS = LinearSegmentedColormap.from_list("a", ["#00a070", "#777777", "#e0108a"])
_B_COLORS = LinearSegmentedColormap.from_list("b", ["#1060ff", "#777777", "#f0c000"])


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
    versions = {"coloured": ab_predicted, "truth": ab_true}
    return compare(L, versions, captions, per_row, title)


def compare(
    L: Tensor,
    versions: dict[str, Tensor],
    captions: Sequence[str] = (),
    per_row: int = 1,
    title: str = "",
) -> Figure:
    """Each photo in grey and in several versions of its colour; arguments as for `grid`.

    Args:
        versions: name to scaled ab (n, 2, H, W), on the CPU.
    """
    if not len(L):
        raise ColorizeError("no photos to show; were any held out?")
    grey = lightness_to_grey((L + 1) * L_SCALE).expand(-1, 3, -1, -1)
    pictures = {"grey": grey} | {name: scaled_to_rgb(L, ab) for name, ab in versions.items()}
    rows = math.ceil(len(L) / per_row)
    per_row = min(per_row, len(L))
    side = 1.6
    width = len(pictures) * per_row * side
    figure = Figure(figsize=(width, rows * (side + 0.25) + 0.5), layout="constrained")
    figure.suptitle(title)
    blocks = figure.subfigures(rows, per_row, squeeze=False).flat
    for i, block in zip(range(len(L)), blocks, strict=False):
        if captions:
            # A file name may hold a $, which would start a formula.
            block.suptitle(printable(captions[i]), fontsize=9, parse_math=False)
        panels = block.subplots(1, len(pictures))
        for axes, (name, version) in zip(panels, pictures.items(), strict=True):
            axes.imshow(version[i].permute(1, 2, 0).numpy())
            axes.set_axis_off()
            # Where a name has spaces or hyphens it may break. Given, y is not searched for.
            axes.set_title(fill(name, 26), fontsize=8, y=1, parse_math=False)
    return figure


def curves(history: Sequence[dict[str, Any]]) -> Figure:
    """Losses, held-out L1 and PSNR, and colourfulness over the epochs, as far as there are any."""
    panels = (
        ("L1 of scaled ab", {"l1": "training", "val_l1": "held out"}),
        ("GAN losses", {"d": "discriminator", "gan": "generator"}),
        ("held-out PSNR, dB", {"val_psnr": "PSNR"}),
        (
            "held-out colourfulness",
            {"val_colorfulness": "coloured", "val_true_colorfulness": "truth"},
        ),
    )
    measured = {name for row in history for name in row}
    panels = [(title, lines) for title, lines in panels if measured & set(lines)]
    pretrained = sum(row["stage"] == "pretrain" for row in history)
    figure = Figure(figsize=(3.25 * len(panels), 3.2), layout="constrained")
    for axes, (title, lines) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
    ):
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


def race_curves(paths: dict[str, list[list[dict[str, Any]]]], titles: dict[str, str]) -> Figure:
    """Measures over the photos seen: a thin line a seed, a thick one for their mean.

    Args:
        paths: a variant to what was measured on its way, a list a seed; each point has `photos`,
            and those of `titles`.
        titles: measure to title.
    """
    figure = Figure(figsize=(3.6 * len(titles), 3.6), layout="constrained")
    panels = figure.subplots(1, len(titles), squeeze=False)[0]
    for axes, (name, title) in zip(panels, titles.items(), strict=True):
        for number, (variant, seeds) in enumerate(paths.items()):
            color, marker = _style(number)
            for path in seeds:
                axes.plot([p["photos"] for p in path], [p[name] for p in path], color, alpha=0.35)
            whole = [path for path in seeds if len(path) == max(map(len, seeds))]
            x = [point["photos"] for point in whole[0]]
            mean = [fmean(point[name] for point in points) for points in zip(*whole, strict=True)]
            axes.plot(
                x, mean, color, linewidth=2, marker=marker, markersize=4, label=_plain(variant)
            )
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("photos seen")
    _legend(figure, panels[0])
    return figure


def frontier(
    paths: dict[str, list[list[dict[str, Any]]]], knob: Sequence[dict[str, float]] = ()
) -> Figure:
    """How near the colours' distribution is to the truth's, against L1; both are best at 0.

    Args:
        paths: as for `race_curves`; a large dot is where a seed ends.
        knob: measures of the start with weaker and stronger colours, which change L1 alone.
    """
    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    x, y = "l1", "ab_distance_scaled"
    if knob:
        points = [point[x] for point in knob], [point[y] for point in knob]
        strengths = f"{knob[0]['strength']:g} to {knob[-1]['strength']:g} times"
        label = f"the start, its colours {strengths} as strong"
        axes.plot(*points, color="grey", linestyle="--", marker="|", label=label)
    for number, (variant, seeds) in enumerate(paths.items()):
        color, marker = _style(number)
        for seed, path in enumerate(seeds):
            points = [point[x] for point in path], [point[y] for point in path]
            axes.plot(*points, color, marker=".", linewidth=1, alpha=0.6)
            label = {} if seed else {"label": _plain(variant)}
            axes.plot(points[0][-1], points[1][-1], color, marker=marker, linestyle="", **label)
    axes.set_xlabel("L1 of scaled ab: lower is nearer, photo by photo")
    axes.set_ylabel("distance of the colours, scaled: lower is truer as a whole")
    _legend(figure, axes)
    return figure


def _style(number: int) -> tuple[str, str]:
    """Colour and marker of the so many-th variant; no two of sixty are alike."""
    return f"C{number % 10}", "osD^vP"[number // 10 % 6]


def _legend(figure: Figure, axes: Axes) -> None:
    """What a panel shows, below the whole figure, which grows by the lines that this takes."""
    handles, labels = axes.get_legend_handles_labels()
    widest = 0.5 + 0.07 * max(map(len, labels), default=0)  # inches
    columns = max(1, min(len(labels), int(figure.get_figwidth() / widest)))
    figure.set_figheight(figure.get_figheight() + 0.16 * math.ceil(len(labels) / columns))
    figure.legend(handles, labels, fontsize=8, loc="outside lower center", ncols=columns)


def _plain(name: str) -> str:
    """A name as a legend shows it: a $ would start a formula, a first _ hide it."""
    return printable(name).replace("$", r"\$").lstrip("_")


def lab_channels(rgb: Tensor) -> Figure:
    """Each photo beside its L, a and b.

    Args:
        rgb: uint8 (n, 3, H, W), on the CPU.
    """
    figure = Figure(figsize=(8.6, 2.1 * len(rgb) + 0.3), layout="constrained")
    lab = rgb_to_lab(rgb)
    titles = ("photo", "L: dark to light", "a: green to magenta", "b: blue to yellow")
    for row, (photo, channels) in enumerate(zip(rgb, lab, strict=True)):
        for column, title in enumerate(titles):
            axes = figure.add_subplot(len(rgb), 4, 4 * row + column + 1)
            axes.set_axis_off()
            if not row:
                axes.set_title(title, fontsize=9)
            if column == 0:
                axes.imshow(photo.permute(1, 2, 0).numpy())
            elif column == 1:
                axes.imshow(channels[0].numpy(), cmap="gray", vmin=0, vmax=100)
            else:
                limit = 80  # few photos reach farther
                colors = _A_COLORS if column == 2 else _B_COLORS
                axes.imshow(channels[column - 1].numpy(), cmap=colors, vmin=-limit, vmax=limit)
    return figure


def ab_histogram(versions: dict[str, Tensor], limit: float = 90.0) -> Figure:
    """How often each colour occurs, for several versions of the same photos.

    Args:
        versions: name to scaled ab (n, 2, H, W), on the CPU.
        limit: how far the axes reach, in ab units.
    """
    figure = Figure(figsize=(3.1 * len(versions), 3.4), layout="constrained")
    for axes, (name, ab) in zip(
        figure.subplots(1, len(versions), squeeze=False)[0], versions.items(), strict=True
    ):
        a, b = (channel.flatten().numpy() for channel in (ab * AB_SCALE).unbind(1))
        bounds = [(-limit, limit)] * 2
        axes.hist2d(a, b, bins=90, range=bounds, norm=LogNorm(), cmap="magma_r")
        axes.axhline(0, color="grey", linewidth=0.5)
        axes.axvline(0, color="grey", linewidth=0.5)
        chroma = (ab * AB_SCALE).norm(dim=1).mean()
        axes.set_title(f"{name}\nmean distance from grey {chroma:.1f}", fontsize=9)
        axes.set_xlabel("a: green to magenta")
        axes.set_ylabel("b: blue to yellow")
        axes.set_aspect("equal")
    return figure


def distributions(rows: Sequence[dict[str, float]], titles: dict[str, str]) -> Figure:
    """A histogram of each measure over the photos, with its mean.

    Args:
        rows: what `evaluate.measure_each` gives.
        titles: measure to title.
    """
    figure = Figure(figsize=(3.2 * len(titles), 2.8), layout="constrained")
    panels = figure.subplots(1, len(titles), squeeze=False)[0]
    for axes, (name, title) in zip(panels, titles.items(), strict=True):
        values = [row[name] for row in rows if math.isfinite(row[name])]
        axes.hist(values, bins=min(40, max(5, len(values) // 4)), color="steelblue")
        axes.axvline(fmean(values), color="darkorange", label=f"mean {fmean(values):.3g}")
        axes.set_title(title, fontsize=10)
        axes.set_ylabel("photos")
        axes.legend(fontsize=8)
    return figure


def patch_map(
    rgb: Tensor,
    logits: Tensor,
    titles: Sequence[str],
    field: tuple[int, int, int, int] | None = None,
) -> Figure:
    """What the PatchGAN makes of photos: above the photo, below its matrix of verdicts.

    Args:
        rgb: (n, 3, H, W) in [0, 1] or uint8, on the CPU.
        logits: (n, 1, h, w).
        titles: one a photo.
        field: left, top, width and height of a frame to draw into the first photo.
    """
    figure = Figure(figsize=(2.6 * len(rgb) + 0.6, 5.2), layout="constrained")
    axes = figure.subplots(2, len(rgb), squeeze=False)
    for column, (photo, verdict, title) in enumerate(zip(rgb, logits, titles, strict=True)):
        axes[0, column].imshow(photo.permute(1, 2, 0).numpy())
        axes[0, column].set_title(title, fontsize=9)
        heat = axes[1, column].imshow(verdict[0].sigmoid().numpy(), vmin=0, vmax=1, cmap="RdYlGn")
        axes[1, column].set_title(f"mean {verdict.sigmoid().mean():.2f}", fontsize=9)
    for one in axes.flat:
        one.set_axis_off()
    if field:
        left, top, width, height = field
        frame = Rectangle((left, top), width, height, fill=False, color="white", linewidth=2)
        axes[0, 0].add_patch(frame)
    figure.colorbar(heat, ax=axes[1, :], label="probability of true, says D")
    return figure


def before_after(before: Image, after: Image, width: float = 12.0) -> Figure:
    """Two PIL images of the same size, side by side; `width` in inches."""
    height = width / 2 * before.height / before.width
    figure = Figure(figsize=(width, min(height, width) + 0.3), layout="constrained")
    for axes, image, title in zip(
        figure.subplots(1, 2), (before, after), ("before", "after"), strict=True
    ):
        axes.imshow(image.convert("RGB").reduce(max(1, image.width // 1000)))
        axes.set_title(title, fontsize=10)
        axes.set_axis_off()
    return figure


def save(figure: Figure, path: Path, dpi: int = 110) -> None:
    """Write a figure as the kind of picture that the suffix names, whole."""
    # Not into the file: see `photos.write.save_photo`.
    encoded = _encoded(figure, format=path.suffix[1:], dpi=dpi)
    with write_whole(path) as temporary:
        temporary.write_bytes(encoded.getbuffer())


def jpeg(figure: Figure, dpi: int) -> bytes:
    """A figure as the content of a JPEG file."""
    return _encoded(figure, format="jpeg", dpi=dpi, pil_kwargs={"quality": 88}).getvalue()


def _encoded(figure: Figure, **options: Any) -> BytesIO:
    with warnings.catch_warnings():
        # Of photos with names in other scripts; a box for a letter is good enough.
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        figure.savefig(encoded := BytesIO(), **options)
    return encoded
