"""Hints: true colours in training, and those of a person."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from colorize.color import rgb_to_lab
from colorize.config import TrainConfig
from colorize.hints import (
    checked,
    place_hints,
    random_squares,
    read_hints,
    spread_hints,
    true_hints,
    write_hints,
)
from colorize.system.errors import ColorizeError


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
    share = TrainConfig().hint_share
    counts = torch.tensor([len(squares) for squares in random_squares(20_000, 64, 1, share)])
    assert (counts == 0).float().mean().item() == pytest.approx(1 / 8, abs=0.01)
    assert counts.float().mean().item() == pytest.approx(7, abs=0.2)
    assert 0.7 < (counts < 10).float().mean() < 0.8


@pytest.mark.parametrize("share", [0, 0.3, 1])
def test_that_share_of_the_photos_has_hints(share):
    counts = torch.tensor([len(squares) for squares in random_squares(20_000, 64, 1, share)])
    assert (counts > 0).float().mean().item() == pytest.approx(share, abs=0.01)


@given(st.integers(0, 40), st.integers(32, 100), st.integers(0, 2**40))
def test_squares_lie_in_the_photo_and_are_of_their_epoch_alone(count, size, seed):
    squares = random_squares(count, size, seed, 0.5)
    assert len(squares) == count
    assert all(map(torch.equal, squares, random_squares(count, size, seed, 0.5)))
    top, left, side = torch.cat([torch.empty(0, 3).long(), *squares]).T
    assert ((side >= 1) & (side <= 9) & (top >= 0) & (left >= 0)).all()
    assert (torch.maximum(top, left) + side <= size).all()


def test_squares_reach_every_corner_and_have_every_size():
    top, left, side = torch.cat(random_squares(20_000, 32, 2, 0.9)).T
    assert set(side.tolist()) == set(range(1, 10))
    corners = {(y, x) for y, x, s in torch.stack((top, left, side), 1).tolist() if s == 1}
    assert corners >= {(0, 0), (0, 31), (31, 0), (31, 31)}


def test_colours_of_every_kind_mean_the_same():
    hints = [(1, 2, "#a03020"), (1, 2, (160, 48, 32)), (1, 2, [160, 48, 32]), (0.5, 2, "red")]
    assert checked(hints, (4, 3)) == [(1, 2, (160, 48, 32))] * 3 + [(0.5, 2, (255, 0, 0))]


def test_hints_may_be_numbers_of_numpy(tmp_path):
    pixels = np.full((3, 4, 3), (160, 48, 32), np.uint8)
    hints = [(np.int64(1), np.float32(2), pixels[0, 0]), (1, 2, tuple(pixels[0, 0]))]
    assert checked(hints, (4, 3)) == [(1, 2, (160, 48, 32))] * 2
    (tmp_path / "hints.json").write_text(write_hints(checked(hints, (4, 3))))
    assert read_hints(str(tmp_path / "hints.json"), (4, 3)) == [(1, 2, (160, 48, 32))] * 2


BAD = {
    "outside the photo, which is 40x30": [(40, 0, "red"), (0, 30, "red"), (-1, 0, "red")],
    "x and y are not two numbers": [(x, 0, "red") for x in ("1", None, True, float("nan"), -1e999)],
    "is not a colour": [(0, 0, color) for color in ("reddish", "#12", "", None, 7, True)]
    + [(0, 0, color) for color in ((1, 2), (1, 2, 256), (1, 2, -1), (1, 2, 0.5), {"r": 1})],
    r"is not \(x, y, colour\)": [
        (1, 2),
        5,
        None,
        (1, 2, 3, 4),
        {"x": 1, "y": 2, "color": "red"},
    ],
}


@pytest.mark.parametrize(("line", "hint"), [(line, hint) for line in BAD for hint in BAD[line]])
def test_hints_that_are_none_are_told_by_their_number(line, hint):
    with pytest.raises(ColorizeError, match=f"^hint 2: .*{line}") as error:
        checked([(0, 0, "red"), hint], (40, 30))
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 150


def test_hints_are_written_and_read(tmp_path):
    hints = checked([(3, 4, "#a03020"), (39, 0, "white")], (40, 30))
    (tmp_path / "hints.json").write_text(write_hints(hints))
    assert read_hints(tmp_path / "hints.json", (40, 30)) == [
        (3, 4, (160, 48, 32)),
        (39, 0, (255, 255, 255)),
    ]
    (tmp_path / "hints.json").write_text(write_hints([]))
    assert read_hints(tmp_path / "hints.json", (40, 30)) == []


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "is not JSON; give"),
        ("[" * 100_000, "is not JSON; give"),
        ('{"x": 1, "y": 1, "color": "red"}', "is no list of hints; give"),
        ('[{"x": 1, "y": 1}]', "hint 1: has not just x, y and color; give"),
        ('[{"x": 1, "y": 1, "color": "red", "size": 3}]', "hint 1: has not just x, y and color"),
        ("[[1, 1, 2]]", "hint 1: has not just x, y and color; give"),
        ('[{"x": 40, "y": 1, "color": "red"}]', r"hint 1: \(40, 1\) lies outside the photo"),
        ('[{"x": NaN, "y": 1, "color": "red"}]', "hint 1: x and y are not two numbers"),
    ],
)
def test_files_that_are_no_hints_are_one_line(tmp_path, text, line):
    file = tmp_path / "hints.json"
    file.write_text(text)
    with pytest.raises(ColorizeError, match=rf"hints\.json: {line}") as error:
        read_hints(file, (40, 30))
    assert "\n" not in str(error.value)


def test_files_that_cannot_be_read_are_one_line(tmp_path):
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    for name, line in (("no.json", "No such file"), ("binary.json", "is not JSON")):
        with pytest.raises(ColorizeError, match=rf"{name}: {line}"):
            read_hints(tmp_path / name, (40, 30))


def test_a_hint_lands_where_it_was_put_at_any_size():
    L = torch.zeros(1, 1, 36, 72)
    hints = checked([(0, 0, "gray"), (199, 99, "gray"), (100, 50, "gray")], (200, 100))
    mask = place_hints(hints, (200, 100), L)[0, 2]
    assert mask.nonzero().tolist() == [[0, 0], [18, 36], [35, 71]]
    large = place_hints(hints, (200, 100), torch.zeros(1, 1, 256, 512))[0, 2]
    assert (large[125:134, 253:262] == 1).all()  # 9 pixels, the middle one where it was put
    assert large.sum() == 9 * 9 + 2 * 6 * 6  # those in the corners are cut off


def test_of_two_hints_in_one_pixel_the_later_one_counts():
    L = torch.zeros(1, 1, 32, 32)
    hints = checked([(10, 10, "red"), (11, 11, "blue")], (320, 320))
    for order in (hints, hints[::-1]):
        placed = place_hints(order, (320, 320), L)[0, :, 1, 1]
        alone = place_hints(order[1:], (320, 320), L)[0, :, 1, 1]
        assert torch.equal(placed, alone)


def test_only_the_hue_of_a_hint_counts_and_what_srgb_lacks_is_pulled_in():
    """Dark and light red are one hint where the photo can show both; near white hardly any."""
    lab = rgb_to_lab(torch.tensor([160, 48, 32], dtype=torch.uint8).view(1, 3, 1, 1)).flatten()
    for L, share in ((float(lab[0]), 1.0), (99.0, 0.1)):
        placed = place_hints(
            [(5, 5, (160, 48, 32))], (32, 32), torch.full((1, 1, 32, 32), L / 50 - 1)
        )
        a, b = (placed[0, :2, 5, 5] * 110).tolist()
        assert a <= share * lab[1] + 0.5
        assert b / a == pytest.approx(float(lab[2] / lab[1]), rel=0.05)
        assert (L > 98) or a == pytest.approx(float(lab[1]), abs=0.5)


def one_hint(height, width, y, x, ab=(0.4, -0.2)):
    hints = torch.zeros(1, 3, height, width)
    hints[0, :, y : y + 3, x : x + 3] = torch.tensor([*ab, 1]).view(3, 1, 1)
    return hints


@pytest.mark.parametrize(("height", "width"), [(40, 60), (250, 300)])  # solved so, and smaller
def test_a_hint_fills_its_side_of_an_edge_and_leaves_the_other_alone(height, width):
    torch.manual_seed(0)
    L = torch.full((1, 1, height, width), -0.6)
    L[..., width // 2 :] = 0.6
    ab = torch.rand(1, 2, height, width) / 10
    hints = one_hint(height, width, height // 2, width // 4)
    change = spread_hints(L, hints, ab) - ab
    known = hints[:, 2:].expand_as(ab) > 0
    assert torch.equal(spread_hints(L, hints, ab)[known], hints[:, :2][known])
    near = change[0, 0, height // 4 : 3 * height // 4, width // 8 : 3 * width // 8]
    assert near.min() > 0.05
    margin = 2 + width // 60
    assert change[..., width // 2 + margin :].abs().max() < 0.02


def test_a_hint_fades_with_distance_as_far_at_any_size():
    shares = []
    for size in (32, 64):
        L, ab = torch.zeros(1, 1, size, 6 * size), torch.zeros(1, 2, size, 6 * size)
        hints = torch.zeros(1, 3, size, 6 * size)
        hints[..., 0] = 1  # a whole border: any square means something else at another size
        shares.append(spread_hints(L, hints, ab)[0, 0, size // 2])
    assert shares[1][-1] < 0.01
    assert (shares[0].diff() <= 1e-6).all()
    torch.testing.assert_close(shares[1][::2], shares[0], atol=0.05, rtol=0)
    assert 0.2 < shares[0][16] < 0.8


def test_each_pixel_is_the_mean_of_its_neighbours():
    """The equations, written out: of a small photo, pixel by pixel."""
    torch.manual_seed(3)
    L, hints = torch.rand(1, 1, 4, 5) - 0.5, torch.zeros(1, 3, 4, 5)
    hints[0, :, 1, 2] = torch.tensor([0.3, -0.4, 1])
    got, anchor = spread_hints(L, hints, torch.zeros(1, 2, 4, 5)), 3.0
    for y in range(4):
        for x in range(5):
            if (y, x) == (1, 2):
                continue
            rows, columns = slice(max(y - 1, 0), y + 2), slice(max(x - 1, 0), x + 2)
            light = L[0, 0, rows, columns]
            away = (light - L[0, 0, y, x]) ** 2
            weights = torch.exp(-away / (0.6 * light.var(correction=0))) + 1e-6
            weights[y - rows.start, x - columns.start] = 0
            mean = (weights * got[0, :, rows, columns]).sum((1, 2)) / weights.sum()
            torch.testing.assert_close(got[0, :, y, x], mean / (1 + anchor / 4**2))


def test_photos_without_hints_keep_the_network_s_colours():
    L, ab = torch.rand(2, 1, 20, 30), torch.rand(2, 2, 20, 30)
    hints = torch.cat((torch.zeros(1, 3, 20, 30), one_hint(20, 30, 5, 5)))
    got = spread_hints(L, hints, ab)
    assert torch.equal(got[0], ab[0])
    assert (got[1] - ab[1]).abs().max() > 0.1
