"""Where photos come from, the split, what is left out, and batches."""

import pytest
import torch
from conftest import scene, square_scenes, write_photos
from PIL import Image

from colorize.config import DataConfig
from colorize.data import (
    load_photo_set,
    load_photos,
    split,
    spread,
    to_network,
)
from colorize.errors import ColorizeError

NAMES = [f"photo-{i}.jpg" for i in range(100)]


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


@pytest.mark.parametrize(
    ("count", "fraction", "held_out"), [(2, 0.01, 1), (2, 0.9, 1), (5, 0.0, 0), (1, 0.5, 0)]
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
    photos = load(tmp_path, val_fraction=0.0)
    assert len(photos.train) == 8
    assert photos.grey == ["grey-0.png", "grey-1.png", "grey-2.png"]
    assert list(photos.unreadable) == ["broken.jpg"]
    summary = photos.summary()
    assert "8 photos to train on" in summary
    assert "3 grey" in summary
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


def test_to_network_gives_scaled_lab():
    L, ab = to_network(torch.full((2, 3, 4, 4), 255, dtype=torch.uint8))
    assert L.shape == (2, 1, 4, 4)
    assert ab.shape == (2, 2, 4, 4)
    torch.testing.assert_close(L, torch.ones_like(L), atol=1e-4, rtol=0)
    torch.testing.assert_close(ab, torch.zeros_like(ab), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("count", "most", "expected"), [(10, 3, [0, 4, 9]), (2, 8, [0, 1]), (1, 8, [0]), (0, 8, [])]
)
def test_spread(count, most, expected):
    assert spread(count, most) == expected
