"""Hints: the true colours in training."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from colorize.hints import random_squares, true_hints


def test_a_square_has_the_mean_colour_of_what_it_covers():
    ab = torch.rand(2, 2, 20, 30) - 0.5
    squares = [torch.tensor([[3, 4, 1], [10, 20, 9]]), torch.tensor([[0, 0, 2]])]
    hints = true_hints(ab, squares)
    wanted = torch.zeros(2, 3, 20, 30)
    for photo, rows in enumerate(squares):
        for top, left, side in rows.tolist():
            part = (photo, slice(top, top + side), slice(left, left + side))
            wanted[photo, 2][part[1:]] = 1
            for channel in range(2):
                wanted[photo, channel][part[1:]] = ab[photo, channel][part[1:]].mean()
    torch.testing.assert_close(hints, wanted)


def test_where_squares_overlap_the_later_one_is_seen():
    ab = torch.zeros(1, 2, 32, 32)
    ab[:, 0, :, 16:] = 0.5
    left, right = [0, 14, 2], [0, 16, 2]
    wide = [0, 13, 5]  # 3 columns of 0, 2 of 0.5
    over, under = (true_hints(ab, [torch.tensor([left, right, wide][::way])]) for way in (1, -1))
    assert over[0, 0, 1, 12:19].tolist() == pytest.approx([0, 0.2, 0.2, 0.2, 0.2, 0.2, 0])
    assert under[0, 0, 1, 12:19].tolist() == pytest.approx([0, 0.2, 0, 0, 0.5, 0.5, 0])


def test_squares_at_the_border_are_cut_off():
    ab = torch.ones(1, 2, 16, 16)
    hints = true_hints(ab, [torch.tensor([[-2, -1, 5], [14, 15, 3]])])
    assert hints[0, 2].sum() == 3 * 4 + 2 * 1
    assert torch.equal(hints[0, 0], hints[0, 2])


def test_no_squares_are_no_hints():
    hints = true_hints(torch.rand(2, 2, 16, 16), [torch.empty(0, 3, dtype=torch.long)] * 2)
    assert hints.shape == (2, 3, 16, 16)
    assert not hints.any()


def test_one_photo_in_eight_has_no_hint_and_most_have_under_ten():
    counts = torch.tensor([len(squares) for squares in random_squares(20_000, 64, seed=1)])
    assert (counts == 0).float().mean().item() == pytest.approx(1 / 8, abs=0.01)
    assert counts.float().mean().item() == pytest.approx(7, abs=0.2)
    assert 0.7 < (counts < 10).float().mean() < 0.8


@given(st.integers(0, 40), st.integers(32, 100), st.integers(0, 2**40))
def test_squares_lie_in_the_photo_and_are_of_their_epoch_alone(count, size, seed):
    squares = random_squares(count, size, seed)
    assert len(squares) == count
    assert all(map(torch.equal, squares, random_squares(count, size, seed)))
    top, left, side = torch.cat([torch.empty(0, 3).long(), *squares]).T
    assert ((side >= 1) & (side <= 9) & (top >= 0) & (left >= 0)).all()
    assert (torch.maximum(top, left) + side <= size).all()


def test_squares_reach_every_corner_and_have_every_size():
    top, left, side = torch.cat(random_squares(20_000, 32, seed=2)).T
    assert set(side.tolist()) == set(range(1, 10))
    corners = {(y, x) for y, x, s in torch.stack((top, left, side), 1).tolist() if s == 1}
    assert corners >= {(0, 0), (0, 31), (31, 0), (31, 31)}
