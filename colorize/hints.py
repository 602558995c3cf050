"""Colour hints: places of a photo whose colour is known, as the generator takes them.

Hints of a batch are (B, 3, H, W): scaled ab where it is known and 0 elsewhere, and a mask of 1 and
0. Training takes them from the photo itself, as Zhang et al. do it, "Real-time user-guided image
colorization with learned deep priors", 2017.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_LARGEST = 9  # pixels, the side of a square
_NO_POINT = 1 / 8  # share of the photos without any; the mean is 7 points, three in four have < 10


def random_squares(count: int, size: int, seed: int) -> tuple[Tensor, ...]:
    """Where an epoch's photos are given their true colour, in the order in which they are shown.

    Args:
        count: of photos.
        size: side of a photo, pixels.
        seed: the epoch's.

    Returns:
        For each photo (n, 3) on the CPU, a square a row: top, left, side. How many follows a
        geometric distribution, from none on; the sides are 1 to 9 pixels.
    """
    random = torch.Generator().manual_seed(seed + 700_000)  # not what decides crops and gammas
    counts = torch.empty(count).geometric_(_NO_POINT, generator=random).long() - 1
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


def _pixels(squares: Sequence[Tensor], ab: Tensor) -> tuple[Tensor, Tensor]:
    """Indices (n, 81) into the pixels of a batch, and which of them lie inside the n squares."""
    height, width = ab.shape[-2:]
    photo = torch.arange(len(squares)).repeat_interleave(torch.tensor(list(map(len, squares))))
    rows = torch.cat((photo[:, None], torch.cat(list(squares))), dim=1).to(ab.device)
    photo, top, left, side = rows[:, :, None, None].unbind(1)
    step = torch.arange(_LARGEST, device=ab.device)
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
