"""Where photos come from, the split, what is left out, and batches."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from conftest import FILE_NAMES, scene, square_scenes, write_photos
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from colorize.config import DataConfig
from colorize.dataset import load_photo_set, load_photos, split, spread, to_network
from colorize.system.errors import ColorizeError

NAMES = [f"photo-{i}.jpg" for i in range(100)]
SETS_OF_NAMES = st.lists(FILE_NAMES, unique=True, max_size=30)
FRACTIONS = st.floats(0.0, 0.9)
SEEDS = st.integers(0, 10**9)


def load(folder, **settings):
    return load_photos(DataConfig(source=str(folder), size=32, **settings), progress=False)


def test_split_depends_on_names_and_seed_alone():
    train, val = split(NAMES, 0.2, seed=1)
    assert split(NAMES[::-1], 0.2, seed=1) == (train, val)
    assert split(NAMES, 0.2, seed=2) != (train, val)


def test_split_is_disjoint_and_complete():
    train, val = split(NAMES, 0.2, seed=1)
    assert (len(train), len(val)) == (80, 20)
    assert sorted(train + val) == sorted(NAMES)


@given(SETS_OF_NAMES, FRACTIONS, SEEDS, st.randoms(use_true_random=False))
def test_any_names_are_divided_in_two_whatever_their_order(names, fraction, seed, random):
    train, val = split(names, fraction, seed)
    assert sorted(train + val) == sorted(names)
    assert (train, val) == (sorted(train), sorted(val))
    if 1 <= fraction * len(names) <= len(names) - 1:
        assert abs(len(val) - fraction * len(names)) <= 0.5
    assert bool(val) == (fraction > 0 and len(names) > 1)
    assert bool(train) == bool(names)
    random.shuffle(names)
    assert split(names, fraction, seed) == (train, val)


@given(SETS_OF_NAMES.filter(bool), FRACTIONS, SEEDS)
def test_another_photo_moves_at_most_one_across_the_split(names, fraction, seed):
    *names, _ = all_names = names
    before, after = (set(split(some, fraction, seed)[1]) for some in (names, all_names))
    assert len(before ^ (after & set(names))) <= 1


@given(SETS_OF_NAMES, FRACTIONS, FRACTIONS, SEEDS)
def test_who_is_held_out_still_is_when_more_are(names, one, other, seed):
    few, many = (set(split(names, fraction, seed)[1]) for fraction in sorted((one, other)))
    assert few <= many


@pytest.mark.parametrize(
    ("count", "fraction", "held_out"),
    [(2, 0.01, 1), (2, 0.9, 1), (5, 0.0, 0), (1, 0.5, 0), (7, 0.25, 2)],
)
def test_split_of_few(count, fraction, held_out):
    train, val = split(NAMES[:count], fraction, seed=0)
    assert (len(train), len(val)) == (count - held_out, held_out)


def test_split_does_not_depend_on_the_folder(tmp_path):
    for folder in ("here", "there"):
        write_photos(tmp_path / folder, 10)
    here, there = load(tmp_path / "here"), load(tmp_path / "there")
    assert here.train.names == there.train.names
    assert here.val.names == there.val.names
    assert set(here.train.names).isdisjoint(here.val.names)


def test_grey_and_unreadable_photos_are_left_out_with_a_count(tmp_path):
    write_photos(tmp_path, 8)
    grey = Image.fromarray(scene(9)).convert("L").convert("RGB")
    for i in range(3):
        grey.save(tmp_path / f"grey-{i}.png")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 no more")
    (tmp_path / "raw.cr2").touch()
    photos = load(tmp_path, val_fraction=0.0)
    assert len(photos.train) == 8
    assert photos.grey == ["grey-0.png", "grey-1.png", "grey-2.png"]
    assert list(photos.unreadable) == ["broken.jpg"]
    summary = photos.summary()
    assert "8 photos to train on" in summary
    assert "3 grey" in summary
    assert "1 left out, of kinds not read (.cr2)" in summary
    assert "1 unreadable left out: broken.jpg" in summary


def test_train_photos_have_a_margin_and_held_out_ones_do_not(tmp_path):
    write_photos(tmp_path, 6)
    photos = load(tmp_path, crop_margin=0.25)
    assert photos.train[0].shape == (3, 40, 40)
    assert photos.val[0].shape == (3, 32, 32)


def test_max_photos_is_a_seeded_choice(tmp_path):
    write_photos(tmp_path, 12)
    few = load(tmp_path, max_photos=5, val_fraction=0.2)
    assert (len(few.train), len(few.val)) == (4, 1)
    assert load(tmp_path, max_photos=5, val_fraction=0.2).train.names == few.train.names


def test_another_seed_chooses_other_photos(tmp_path):
    write_photos(tmp_path, 12)
    config = DataConfig(source=str(tmp_path), size=32, max_photos=5, val_fraction=0.0)
    chosen = {tuple(load_photos(config, seed, progress=False).train.names) for seed in range(3)}
    assert len(chosen) == 3


def test_grey_photos_are_measured_on_and_trained_on_if_wanted(tmp_path):
    """The held-out ones are what a run is judged by: none is left out for what it shows."""
    for i in range(4):
        Image.fromarray(scene(i)).convert("L").save(tmp_path / f"grey-{i}.png")
    photos = load(tmp_path, min_colorfulness=0.0, val_fraction=0.5)
    assert (len(photos.train), len(photos.val), photos.grey) == (2, 2, [])
    write_photos(tmp_path, 4)
    photos = load(tmp_path, val_fraction=0.5)
    assert len(photos.val) == 4
    assert any(name.startswith("grey") for name in photos.val.names)


def test_photos_are_known_again_by_their_names_and_about_their_colours(photos):
    def with_colors(colors, names=photos.train.names):
        train = replace(photos.train, colorfulness=colors, names=names)
        return replace(photos, train=train)

    before = with_colors([20.0] * 6).fingerprint()
    assert with_colors([20.05] * 6).match(before)  # another decoder
    assert not with_colors([20.5] * 6).match(before)
    assert not with_colors([20.0] * 6, photos.train.names[::-1]).match(before)


def test_nothing_usable_is_one_line(tmp_path):
    Image.fromarray(scene(0)).convert("L").save(tmp_path / "grey.png")
    with pytest.raises(ColorizeError, match=r"nothing to train on.*1 grey"):
        load(tmp_path, val_fraction=0.0)
    (tmp_path / "grey.png").write_bytes(b"")
    with pytest.raises(ColorizeError, match="none of its 1 photos can be read"):
        load_photo_set(str(tmp_path), 32)


def test_batches_hold_the_photos_of_the_set():
    photos = square_scenes(5, 32)
    batch = photos.__getitems__([3, 1])
    assert torch.equal(batch[0], photos[3])
    assert (batch[1].permute(1, 2, 0).numpy() == scene(1, 32, 32)).all()


@pytest.mark.parametrize(("side", "margin"), [(12, 2), (11, 1), (8, 0)])
def test_the_middle_of_a_photo_is_without_its_margin(side, margin):
    photos = square_scenes(2, side)
    expected = photos.array[1:, margin : margin + 8, margin : margin + 8]
    found = photos.middle([1], 8)
    assert (found.permute(0, 2, 3, 1).numpy() == expected).all()


def test_to_network_gives_scaled_lab():
    L, ab = to_network(torch.full((2, 3, 4, 4), 255, dtype=torch.uint8))
    assert L.shape == (2, 1, 4, 4)
    assert ab.shape == (2, 2, 4, 4)
    torch.testing.assert_close(L, torch.ones_like(L), atol=1e-4, rtol=0)
    torch.testing.assert_close(ab, torch.zeros_like(ab), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("count", "most", "expected"),
    [(10, 3, [0, 4, 9]), (8, 4, [0, 2, 5, 7]), (2, 8, [0, 1]), (1, 8, [0]), (0, 8, [])],
)
def test_spread(count, most, expected):
    assert spread(count, most) == expected


@given(st.integers(1, 200_000), st.integers(1, 50))
def test_spread_is_even_and_has_both_ends(count, most):
    found = spread(count, most)
    assert len(found) == min(count, most)
    assert found[0] == 0
    if len(found) > 1:
        assert found[-1] == count - 1
        steps = {after - before for before, after in pairwise(found)}
        assert min(steps) >= 1
        assert max(steps) - min(steps) <= 1


def test_copies_of_a_photo_stay_on_one_side_of_the_split(tmp_path):
    """Else what is held out would have been trained on."""
    write_photos(tmp_path, 10)
    for copied in (2, 7):
        content = (tmp_path / f"scene-{copied:02d}.png").read_bytes()
        for i in range(20):
            (tmp_path / f"copy-{copied}-{i}.png").write_bytes(content)
    for seed in range(5):
        config = DataConfig(source=str(tmp_path), size=32, val_fraction=0.3, min_colorfulness=0)
        photos = load_photos(config, seed, progress=False)
        for copied in (2, 7):
            sides = [
                sum(f"copy-{copied}-" in name or f"-{copied:02d}" in name for name in part.names)
                for part in (photos.train, photos.val)
            ]
            assert sorted(sides) == [0, 21]
        assert len(photos.train) + len(photos.val) == 50
        assert "40 are copies of others" in photos.summary()
