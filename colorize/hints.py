"""Colour hints: places of a photo whose colour is known, as the generator takes them.

Hints of a batch are (B, 3, H, W): scaled ab where it is known and 0 elsewhere, and a mask of 1 and
0. Training takes them from the photo itself, as Zhang et al. do it, "Real-time user-guided image
colorization with learned deep priors", 2017.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from contextlib import suppress
from numbers import Real
from operator import index
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from PIL import ImageColor
from torch import Tensor

from colorize.color import fit_to_gamut, rgb_to_lab, scale_lab, unscale_lab
from colorize.system.device import send
from colorize.system.errors import ColorizeError

# x and y in pixels of the upright photo, from its upper left corner; a colour that Pillow's
# ImageColor knows, or red, green and blue from 0 to 255.
Hint: TypeAlias = tuple[float, float, str | Sequence[int]]

_LARGEST = 9  # pixels, the side of a square
_MEAN = 8  # points of a photo that has any; two in three have under ten

# How hints spread, see `spread_hints`.
_ANCHOR = 3.0  # without edges a hint's say is 0.4 after a third of the side
_WIDTH = 0.6  # of the Gaussian, as in the authors' own program; 2 leaks over edges
_MOST = 2**15  # pixels at which it is solved: a third of a second


def checked(hints: Sequence[Hint], size: tuple[int, int]) -> list[Hint]:
    """The hints, each as (x, y, (red, green, blue)).

    Args:
        size: width and height of the upright photo.

    Raises:
        ColorizeError: one is none, lies outside the photo, or has no colour.
    """
    width, height = size
    result = []
    for number, hint in enumerate(hints, start=1):
        try:
            x, y, color = () if isinstance(hint, dict) else hint
        except (TypeError, ValueError):
            raise ColorizeError(f"hint {number}: {hint!r:.60} is not (x, y, colour)") from None
        if not all(_is_number(at) and math.isfinite(at) for at in (x, y)):
            raise ColorizeError(f"hint {number}: x and y are not two numbers")
        x, y = (at if type(at) is int else float(at) for at in (x, y))
        if not (0 <= x < width and 0 <= y < height):
            raise ColorizeError(
                f"hint {number}: ({x:g}, {y:g}) lies outside the photo, which is {width}x{height}"
            )
        result.append((x, y, _rgb(color, number)))
    return result


def _is_number(value: object) -> bool:
    """Of Python or NumPy; JSON's true is none."""
    return isinstance(value, Real) and not isinstance(value, bool)


def _rgb(color: str | Sequence[int], number: int) -> tuple[int, int, int]:
    """Red, green and blue of a colour of either kind."""
    if isinstance(color, str):
        with suppress(ValueError):
            return ImageColor.getrgb(color)[:3]
    elif isinstance(color, list | tuple | np.ndarray) and len(color) == 3:
        with suppress(ValueError, TypeError):
            if all(map(_is_number, color)):
                return tuple(bytes(map(index, color)))
    raise ColorizeError(
        f"hint {number}: {color!r:.60} is not a colour; give #a03020, a name, or three numbers up "
        "to 255"
    )


def read_hints(file: str | Path, size: tuple[int, int]) -> list[Hint]:
    """Read and check hints from JSON: [{"x": 120, "y": 80, "color": "#a03020"}, ...].

    Args:
        size: width and height of the upright photo that they are for.

    Raises:
        ColorizeError: no such file, or not hints for such a photo; in one line with its name.
    """
    file = Path(file)
    try:
        return parse_hints(file.read_bytes(), size)
    except OSError as error:
        raise ColorizeError(f"{file}: {error.strerror}") from error
    except ColorizeError as error:
        raise ColorizeError(f"{file}: {error}") from error


_EXAMPLE = '[{"x": 120, "y": 80, "color": "#a03020"}]'


def parse_hints(text: str | bytes, size: tuple[int, int]) -> list[Hint]:
    """What `read_hints` does with what it has read."""
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        at = f"line {error.lineno}, column {error.colno}"
        raise ColorizeError(f"is not JSON; give {_EXAMPLE}; what is wrong is at {at}") from error
    except (ValueError, RecursionError) as error:  # no text, or too deep
        raise ColorizeError(f"is not JSON; give {_EXAMPLE}") from error
    if not isinstance(values, list):
        raise ColorizeError(f"is no list of hints; give {_EXAMPLE}")
    for number, value in enumerate(values, start=1):
        if not isinstance(value, dict) or value.keys() != {"x", "y", "color"}:
            raise ColorizeError(f"hint {number}: has not just x, y and color; give {_EXAMPLE}")
    return checked([(value["x"], value["y"], value["color"]) for value in values], size)


def write_hints(hints: Sequence[Hint]) -> str:
    """Checked hints as JSON that `read_hints` reads, a line each."""
    rows = [{"x": x, "y": y, "color": "#{:02x}{:02x}{:02x}".format(*rgb)} for x, y, rgb in hints]
    return "[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n"


def square_side(height: int, width: int) -> int:
    """Pixels of the square that stands for one place at a working size: a twentieth of its side.

    An odd number from 1 to the largest of training; 5 at 96. A single pixel is too little to go by.
    """
    return min(2 * (min(height, width) // 40) + 1, _LARGEST)


def place_hints(hints: Sequence[Hint], size: tuple[int, int], L: Tensor) -> Tensor:
    """Checked hints as small squares at the working size.

    Only their ab counts; what sRGB cannot show at the photo's lightness is pulled in.

    Args:
        size: width and height of the upright photo.
        L: the photo's at the working size, scaled, (1, 1, h, w).

    Returns:
        (1, 3, h, w) on the device of `L`.
    """
    height, width = L.shape[-2:]
    side = square_side(height, width)
    rows = [min(int((y + 0.5) * height / size[1]), height - 1) for _, y, _ in hints]
    columns = [min(int((x + 0.5) * width / size[0]), width - 1) for x, _, _ in hints]
    squares = torch.empty(len(hints), 3, dtype=torch.long)
    squares[:, 0] = torch.tensor(rows) - side // 2
    squares[:, 1] = torch.tensor(columns) - side // 2
    squares[:, 2] = side
    rgb = torch.tensor([rgb for _, _, rgb in hints], dtype=torch.uint8, device=L.device)
    _, ab = scale_lab(rgb_to_lab(rgb.view(-1, 3, 1, 1)))
    lab = fit_to_gamut(unscale_lab(L[0, 0, rows, columns].view(-1, 1, 1, 1), ab))
    _, ab = scale_lab(lab)
    return _paint(L, *_pixels([squares], L), ab.view(-1, 2).T)


def random_squares(count: int, size: int, seed: int, share: float) -> tuple[Tensor, ...]:
    """Where an epoch's photos are given their true colour, in the order in which they are shown.

    Args:
        count: of photos.
        size: side of a photo, pixels.
        seed: the epoch's.
        share: of the photos that have any, 0 to 1.

    Returns:
        For each photo (n, 3) on the CPU, a square a row: top, left, side. How many, if any,
        follows a geometric distribution; the sides are 1 to 9 pixels.
    """
    random = torch.Generator().manual_seed(seed + 700_000)  # not what decides crops and gammas
    counts = torch.empty(count).geometric_(1 / _MEAN, generator=random).long()
    counts *= torch.rand(count, generator=random) < share
    total = int(counts.sum())
    sides = torch.randint(1, _LARGEST + 1, (total, 1), generator=random)
    corners = torch.rand(total, 2, generator=random, dtype=torch.float64)
    corners = (corners * (size - sides + 1)).long()
    return torch.cat((corners, sides), dim=1).split(counts.tolist())


def true_hints(ab: Tensor, squares: Sequence[Tensor]) -> Tensor:
    """The hints that photos give of themselves: in each square its mean colour.

    Args:
        ab: scaled, (B, 2, H, W).
        squares: for each photo (n, 3), see `random_squares`; what sticks out of it is cut off.

    Returns:
        (B, 3, H, W) on the device of `ab`.
    """
    pixels, inside = _pixels(squares, ab)
    values = ab.movedim(1, 0).flatten(1)[:, pixels]
    return _paint(ab, pixels, inside, (values * inside).sum(-1) / inside.sum(-1))


def spread_hints(L: Tensor, hints: Tensor, ab: Tensor, anchor: float = _ANCHOR) -> Tensor:
    """Bring the colours of hints up to the edges around them, over what the network made of them.

    Levin, Lischinski and Weiss, "Colorization using optimization", 2004: each pixel is the mean of
    its neighbours, of which those of its lightness count most, and hints stay as they are. Here a
    hint's say also fades on the way, and the network has the rest.

    Args:
        L: scaled, (B, 1, H, W).
        hints: (B, 3, H, W).
        ab: scaled, (B, 2, H, W), what the network gives for both.
        anchor: how soon a hint's say fades; 0 is never, and leaves nothing to the network.

    Returns:
        Scaled ab, (B, 2, H, W), a hint's own where it is. Photos without hints as they were.
    """
    given = [_reach(*photo, anchor) for photo in zip(L.split(1), hints.split(1), strict=True)]
    color, share = torch.cat(given).split((2, 1), dim=1)
    return color + (1 - share) * ab


def _reach(L: Tensor, hints: Tensor, anchor: float) -> Tensor:
    """What `spread_hints` gives to the hints of one photo: their mean times their share, the share.

    (1, 3, H, W), as hints are.
    """
    known, size = hints[:, 2:] > 0, hints.shape[-2:]
    if not known.any():
        return hints
    if (scale := math.sqrt(_MOST / math.prod(size))) >= 1:
        return _solve(L, hints, anchor)
    small = [max(1, round(side * scale)) for side in size]
    given = F.adaptive_avg_pool2d(hints, small)
    given = torch.cat((given[:, :2] / given[:, 2:].clamp(min=1e-6), given[:, 2:].sign()), dim=1)
    seen = F.interpolate(L, small, mode="bilinear", antialias=True)
    return torch.where(
        known, hints, F.interpolate(_solve(seen, given, anchor), size, mode="bilinear")
    )


def _solve(L: Tensor, hints: Tensor, anchor: float) -> Tensor:
    """The linear equations of `_reach`, on the CPU."""
    from scipy import sparse  # here: who gives no hints need not wait for it
    from scipy.sparse.linalg import spsolve

    light = L[0, 0].double().cpu().numpy()
    known = hints[0, 2].cpu().numpy() > 0
    height, width = light.shape
    index = np.arange(light.size).reshape(light.shape)
    steps = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)]
    around = np.pad(light, 1, constant_values=np.nan)
    neighbours = np.stack([around[1 + y : 1 + y + height, 1 + x : 1 + x + width] for y, x in steps])
    variance = np.nanvar(np.concatenate((neighbours, light[None])), axis=0)
    weights = np.exp(-((neighbours - light) ** 2) / (_WIDTH * np.maximum(variance, 1e-5)))
    weights = np.nan_to_num(weights) + 1e-6 * ~np.isnan(neighbours)  # no pixel is cut off
    weights /= weights.sum(0) * (1 + anchor / min(height, width) ** 2)
    rows, columns, values = [], [], []
    for (y, x), weight in zip(steps, weights, strict=True):
        inside = (weight > 0) & ~known
        rows.append(index[inside])
        columns.append(index[inside] + y * width + x)
        values.append(-weight[inside])
    matrix = sparse.coo_matrix(
        (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))),
        (light.size, light.size),
    )
    given = hints[0].flatten(1).T.double().cpu().numpy()
    # This order of elimination halves the time: the graph of the pixels is symmetric.
    matrix = (matrix + sparse.identity(light.size)).tocsc()
    solved = spsolve(matrix, given, permc_spec="MMD_AT_PLUS_A")
    return torch.from_numpy(solved.T.reshape(hints.shape)).to(hints)


def _pixels(squares: Sequence[Tensor], like: Tensor) -> tuple[Tensor, Tensor]:
    """Indices (n, 81) into the pixels of a batch, and which of them lie inside the n squares."""
    height, width = like.shape[-2:]
    photo = torch.arange(len(squares)).repeat_interleave(torch.tensor(list(map(len, squares))))
    rows = send(torch.cat((photo[:, None], torch.cat(list(squares))), dim=1), like.device)
    photo, top, left, side = rows[:, :, None, None].unbind(1)
    step = torch.arange(_LARGEST, device=like.device)
    down, right = step[:, None], step
    y, x = top + down, left + right
    inside = (down < side) & (right < side) & (y >= 0) & (y < height) & (x >= 0) & (x < width)
    pixels = (photo * height + y.clamp(0, height - 1)) * width + x.clamp(0, width - 1)
    return pixels.flatten(1), inside.flatten(1)


def _paint(like: Tensor, pixels: Tensor, inside: Tensor, colors: Tensor) -> Tensor:
    """Squares of one colour each, (2, n); where two overlap, the later one."""
    count, _, height, width = like.shape
    numbers = torch.arange(1, len(pixels) + 1, device=like.device, dtype=torch.int32)
    last = numbers.new_zeros(count * height * width)
    # The largest number, not the last to be written: a GPU writes in any order.
    last.scatter_reduce_(0, pixels.flatten(), (inside * numbers[:, None]).flatten(), "amax")
    table = torch.cat((colors.new_zeros(2, 1), colors), dim=1)
    hints = torch.cat((table[:, last.long()], (last > 0).to(table)[None]))
    return hints.view(3, count, height, width).movedim(0, 1)
