"""The batches of an epoch: every photo once, the same ones after a stop and in any process."""

import os
import socket
from collections import Counter

import pytest
import torch
from accelerate import Accelerator
from conftest import square_scenes
from hypothesis import given
from hypothesis import strategies as st
from torch import distributed, multiprocessing

from colorize.config import TrainConfig
from colorize.dataset import (
    Batches,
    Photos,
    agree,
    ahead,
    apply_gamma,
    crop_flip,
    cut_together,
    random_crops,
    random_gammas,
    shuffled,
    train_loader,
)
from colorize.system.errors import ColorizeError

SEEDS = st.integers(0, 2**40)


def test_an_epoch_shows_every_photo_in_a_new_order():
    first, second = shuffled(50, seed=0), shuffled(50, seed=1)
    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second
    assert first != sorted(first)
    assert shuffled(50, seed=0) == first


def test_repeats_show_each_photo_as_often():
    assert set(Counter(shuffled(7, seed=0, shown=21)).values()) == {3}


def test_a_short_epoch_shows_others_of_a_large_set_each_time():
    first, second = shuffled(50, seed=0, shown=20), shuffled(50, seed=1, shown=20)
    assert len(set(first)) == len(set(second)) == 20
    assert set(first) != set(second)
    assert shuffled(50, seed=0, shown=20, start=4) == first[4:]


def test_an_epoch_is_as_long_as_the_settings_say(photos):
    for shown, steps in ((4, 2), (6, 3), (20, 10), (2, 1), (None, 3)):
        batches = Batches(Accelerator(), photos, TrainConfig(batch_size=2, epoch_photos=shown))
        assert len(batches) == len(list(batches.epoch(0))) == steps


def test_loader_gives_whole_uint8_batches():
    photos = square_scenes(10, 36)
    batches = list(train_loader(photos, 4, seed=0))
    assert [tuple(b.shape) for b in batches] == [(4, 3, 36, 36)] * 2
    assert batches[0].dtype == torch.uint8
    assert len(list(train_loader(photos, 16, seed=0))) == 1


def test_crops_are_cut_from_the_photo_and_mirrored_half_of_the_time():
    y, x = torch.meshgrid(torch.arange(12), torch.arange(12), indexing="ij")
    rgb = torch.stack((y, x, y * 12 + x)).to(torch.uint8).expand(400, -1, -1, -1)
    crops = crop_flip(rgb, 8, random_crops(400, 12, 8, seed=0))
    assert crops.shape == (400, 3, 8, 8)
    step = crops[:, 1, 0, 1].int() - crops[:, 1, 0, 0].int()
    assert set(step.tolist()) == {1, -1}
    assert 150 < (step == -1).sum() < 250
    corners = {(c[0, 0, 0].item(), min(c[1, 0, 0].item(), c[1, 0, -1].item())) for c in crops}
    assert len(corners) == 25  # every place, both ends included
    assert torch.equal(crops[:, 2].int(), crops[:, 0].int() * 12 + crops[:, 1].int())


@given(st.integers(0, 60), SEEDS, st.integers(1, 4))
def test_every_repeat_is_a_whole_shuffle(count, seed, repeats):
    order = shuffled(count, seed, count * repeats)
    assert len(order) == count * repeats
    for repeat in range(repeats):
        assert sorted(order[repeat * count : (repeat + 1) * count]) == list(range(count))


@given(st.integers(1, 4), st.integers(1, 9), st.integers(0, 9), SEEDS)
def test_any_crop_is_a_piece_of_its_own_photo(count, size, spare, seed):
    side = size + spare
    rgb = torch.arange(count * 3 * side * side).view(count, 3, side, side)
    places = random_crops(count, side, size, seed)
    assert ((places[:, :2] >= 0) & (places[:, :2] <= spare)).all()
    assert (places[:, 2] == size).all()
    for photo, crop in zip(rgb, crop_flip(rgb, size, places), strict=True):
        top, left = divmod(crop[0].min().item() - photo[0, 0, 0].item(), side)
        piece = photo[:, top : top + size, left : left + size]
        assert torch.equal(crop, piece) or torch.equal(crop, piece.flip(-1))


def test_smaller_crops_are_brought_to_size():
    places = random_crops(2000, 40, 32, seed=0, min_area=0.25)
    top, left, side, _ = places.T
    assert (top.min(), left.min(), side.min(), side.max()) == (0, 0, 16, 32)
    assert (torch.maximum(top, left) + side).max() == 40
    area = (side / 32).square()  # as RandomResizedCrop draws it: all areas as often
    assert ((area > 0.5).float().mean() - 2 / 3).abs() < 0.05
    ramp = torch.arange(40).mul(6).to(torch.uint8).expand(3, 40, 40)
    for photo, (_, x, width, flip) in zip(
        crop_flip(ramp.expand(50, -1, -1, -1), 32, places[:50]), places[:50].tolist(), strict=True
    ):
        assert photo.shape == (3, 32, 32)
        values = (photo.flip(-1) if flip else photo).float()
        inside = (torch.arange(32) + 0.5) * width / 32 - 0.5 + x
        torch.testing.assert_close(values[0, 5, 3:-3], 6 * inside[3:-3], atol=1.0, rtol=0)


@pytest.mark.parametrize("min_area", [1.0, 0.3])
def test_a_whole_batch_is_cut_as_photo_by_photo(min_area):
    """Crops of full size bit for bit; of smaller ones single pixels differ, by a rounding."""
    rgb = square_scenes(12, 68).__getitems__(range(12))
    crops = random_crops(12, 68, 64, seed=3, min_area=min_area)
    assert set(crops[:, 3].tolist()) == {0, 1}
    one_by_one, together = crop_flip(rgb, 64, crops), cut_together(rgb, 64, crops)
    assert together.dtype == torch.uint8
    apart = (one_by_one.int() - together.int()).abs()
    assert apart.max() <= (0 if min_area == 1 else 1)
    assert (apart > 0).float().mean() < 0.02


@pytest.mark.parametrize("count", [0, 1, 5])
def test_batches_that_a_thread_reads_are_the_same_in_the_same_order(count):
    expected = [torch.full((2,), float(i)) for i in range(count)]
    found = list(ahead(iter(expected), torch.device("meta")))
    assert [torch.equal(*pair) for pair in zip(found, expected, strict=True)] == [True] * count


def test_the_thread_is_on_the_gpu_of_its_process(monkeypatch):
    """`accelerator.device` is "cuda" without a number, which torch refuses to begin on."""
    begun = []
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    check = torch.cuda._utils._get_device_index
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: begun.append(check(device)))
    assert list(ahead(iter([1, 2]), torch.device("cuda"))) == [1, 2]
    assert begun == [3]


def test_a_batch_that_cannot_be_read_is_no_end():
    def batches():
        yield torch.zeros(1)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        list(ahead(batches(), torch.device("meta")))


class Worker(Accelerator):
    """One of several processes, as far as batches are concerned."""

    def __init__(self, process, processes):
        super().__init__(cpu=True)
        self.place = (process, processes)

    process_index = property(lambda self: self.place[0])
    num_processes = property(lambda self: self.place[1])

    def prepare(self, loader):
        from accelerate.data_loader import prepare_data_loader

        process, processes = self.place
        return prepare_data_loader(loader, num_processes=processes, process_index=process)


def epoch(photos, batch_size, process=0, processes=1, start=0, **settings):
    config = TrainConfig(batch_size=batch_size, repeats=2, **settings)
    batches = Batches(Worker(process, processes), photos, config)
    return [torch.cat(batch, dim=1) for batch in batches.epoch(seed=3, start=start)]


def test_an_epoch_goes_on_in_its_middle_with_the_same_batches(photos):
    whole = epoch(photos, 3)
    assert len(whole) == 4
    for start in range(5):
        rest = epoch(photos, 3, start=start)
        assert len(rest) == 4 - start
        assert all(torch.equal(*pair) for pair in zip(rest, whole[start:], strict=True))


def test_zoomed_crops_go_on_in_the_middle_too(photos):
    whole, rest = (epoch(photos, 3, min_crop_area=0.5, start=start) for start in (0, 2))
    assert all(torch.equal(*pair) for pair in zip(rest, whole[2:], strict=True))
    plain = epoch(photos, 3)
    assert not any(torch.equal(*pair) for pair in zip(whole, plain, strict=True))


def test_gamma_leaves_black_white_and_the_order_of_greys():
    L = torch.linspace(-1, 1, 101).expand(4, 1, 1, -1)
    gammas = torch.tensor([0.5, 1.0, 1.7, 3.0])
    changed = apply_gamma(L, gammas)
    assert (changed.diff() > 0).all()
    assert changed[..., 0].unique().tolist() == [-1]
    assert changed[..., -1].unique().tolist() == [1]
    assert torch.allclose(changed[1], L[1], atol=1e-6)
    assert changed[:, 0, 0, 50].tolist() == pytest.approx(
        [2 * 0.5**g - 1 for g in gammas.tolist()], abs=1e-6
    )
    rounded = torch.tensor([[[[-1.000001, 1.000001]]]])
    assert apply_gamma(rounded, gammas[:1]).flatten().tolist() == [-1, 1]


def test_lightness_jitter_has_the_spread_asked_for_and_is_of_its_epoch_alone():
    logs = random_gammas(20_000, seed=5, spread=0.25).log()
    assert logs.std().item() == pytest.approx(0.25, rel=0.03)
    assert logs.mean().item() == pytest.approx(0, abs=0.01)
    assert torch.equal(random_gammas(7, 5, 0.25), random_gammas(7, 5, 0.25))
    assert not torch.equal(random_gammas(7, 5, 0.25), random_gammas(7, 6, 0.25))


def test_lightness_jitter_changes_lightness_and_nothing_else(photos):
    plain, jittered = (torch.cat(epoch(photos, 3, lightness_jitter=s)) for s in (0.0, 0.3))
    assert torch.equal(plain[:, 1:], jittered[:, 1:])
    moved = (jittered[:, :1] - plain[:, :1]).mean(dim=(1, 2, 3))
    assert len(set(moved.tolist())) == len(plain) == 12  # each photo shown, by its own gamma
    assert moved.min() < -0.02 < 0.02 < moved.max()


def test_jittered_batches_go_on_in_the_middle_too(photos):
    whole, rest = (epoch(photos, 3, lightness_jitter=0.3, start=start) for start in (0, 2))
    assert all(torch.equal(*pair) for pair in zip(rest, whole[2:], strict=True))


@pytest.mark.parametrize("jitter", [0.0, 0.3])
def test_processes_share_the_batches_of_one(photos, jitter):
    """Two of 2 photos see what one of 4 sees: no photo twice, none left out, the same crops."""
    whole = epoch(photos, 4, lightness_jitter=jitter)
    shares = [epoch(photos, 2, process, 2, lightness_jitter=jitter) for process in range(2)]
    together = [torch.cat(pair) for pair in zip(*shares, strict=True)]
    assert len(together) == 3
    assert all(torch.equal(*pair) for pair in zip(together, whole, strict=True))
    later = epoch(photos, 2, 1, 2, start=2, lightness_jitter=jitter)
    assert torch.equal(later[0], shares[1][2])


def test_what_a_network_draws_depends_on_the_step_alone(photos):
    config = TrainConfig(batch_size=3, repeats=2)
    batches = Batches(Worker(0, 1), photos, config)
    drawn = [torch.rand(()).item() for _ in batches.epoch(seed=3)]
    assert len(set(drawn)) == 4
    torch.manual_seed(99)
    assert [torch.rand(()).item() for _ in batches.epoch(seed=3, start=2)] == drawn[2:]


def compare_notes(process, port, results):
    here = {"RANK": process, "LOCAL_RANK": process, "WORLD_SIZE": 2, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in here.items()})
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "ACCELERATE_USE_CPU": "1"}
    agree("the same", "photos")
    try:
        agree(f"photos of {process}", "photos")
    except ColorizeError as error:
        results.put(str(error))
    distributed.destroy_process_group()


@pytest.mark.slow
def test_processes_with_other_photos_are_refused():
    """All of them, so that none waits for the others."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    results = multiprocessing.get_context("spawn").SimpleQueue()
    multiprocessing.spawn(compare_notes, (port, results), nprocs=2)
    line = "the processes that train together do not all have the same photos"
    assert [results.get() for _ in range(2)] == [line] * 2
    agree("alone", "photos")


def test_too_few_photos_for_so_many_processes(photos):
    batches = Batches(Worker(0, 8), photos, TrainConfig(batch_size=4))
    with pytest.raises(ColorizeError, match="6 photos are too few for 8 processes"):
        len(batches)


def test_a_share_of_the_photos_is_shown_as_old_prints_with_the_true_colors():
    photos = Photos(square_scenes(40, 34), square_scenes(1, 32), 32)
    plain = Batches(Accelerator(), photos, TrainConfig(batch_size=20))
    some = Batches(Accelerator(), photos, TrainConfig(batch_size=20, old_photo=0.3))
    pairs = list(zip(plain.epoch(5), some.epoch(5), strict=True))
    aged = 0
    for (L, ab), (old_L, old_ab) in pairs:
        assert torch.equal(ab, old_ab)
        aged += sum(not torch.equal(a, b) for a, b in zip(L, old_L, strict=True))
    assert 4 <= aged <= 22
    # A run that goes on after a stop sees the same prints.
    assert torch.equal(next(some.epoch(5, start=1))[0], pairs[1][1][0])


def test_a_batch_may_have_no_old_print():
    photos = Photos(square_scenes(8, 34), square_scenes(1, 32), 32)
    plain = Batches(Accelerator(), photos, TrainConfig(batch_size=4))
    few = Batches(Accelerator(), photos, TrainConfig(batch_size=4, old_photo=1e-6))
    for (L, _), (old_L, _) in zip(plain.epoch(5), few.epoch(5), strict=True):
        assert torch.equal(L, old_L)


def test_hints_are_given_beside_the_same_photos_and_go_on_in_the_middle(photos):
    plain, hinted = epoch(photos, 3), epoch(photos, 3, hints=True)
    assert all(torch.equal(a, b[:, :3]) for a, b in zip(plain, hinted, strict=True))
    masks = torch.cat(hinted)[:, 5]
    assert set(masks.unique().tolist()) == {0, 1}
    assert len({mask.sum().item() for mask in masks}) > 6  # another number of places each time
    rest = epoch(photos, 3, hints=True, start=2)
    assert all(torch.equal(*pair) for pair in zip(rest, hinted[2:], strict=True))


def test_processes_give_the_hints_that_one_would(photos):
    whole = epoch(photos, 4, hints=True)
    shares = [epoch(photos, 2, process, 2, hints=True) for process in range(2)]
    together = [torch.cat(pair) for pair in zip(*shares, strict=True)]
    assert all(torch.equal(*pair) for pair in zip(together, whole, strict=True))
