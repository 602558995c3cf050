"""One pass over the photos: means, schedules, and losses that are no numbers."""

import pytest
import torch

from colorize.epoch import Stage, epoch_seed, run_epoch
from colorize.errors import ColorizeError


class Counter:
    steps = 0

    def step(self):
        self.steps += 1


def batches(count):
    return ((torch.full((2, 1, 4, 4), float(i)), torch.zeros(2, 2, 4, 4)) for i in range(count))


def test_losses_are_averaged_and_schedules_step():
    schedule = Counter()
    stage = Stage("pretrain", 1, lambda L, ab: {"l1": L.mean()}, [schedule], {})
    means = run_epoch(stage, 0, batches(4), 4, show=False)
    assert means["l1"] == pytest.approx((0 + 1 + 2 + 3) / 4)
    assert means["photos_per_second"] > 0
    assert schedule.steps == 4


def test_a_bar_shows_losses_and_speed(capsys):
    stage = Stage("gan", 5, lambda L, ab: {"d": L.mean()}, [], {})
    run_epoch(stage, 1, batches(20), 20, show=True)
    err = capsys.readouterr().err
    assert "gan 2/5" in err
    assert "d=" in err
    assert "photos/s=" in err


def test_no_number_names_the_epoch_and_the_loss():
    stage = Stage("gan", 5, lambda L, ab: {"d": L.mean() / 0}, [], {})
    with pytest.raises(ColorizeError, match=r"gan 3/5.*'d': (nan|inf)"):
        run_epoch(stage, 2, batches(2), 2, show=False)


def test_out_of_memory_names_what_to_lower():
    def step(L, ab):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")

    with pytest.raises(ColorizeError, match=r"2 photos of 4x4.*BATCH_SIZE"):
        run_epoch(Stage("gan", 5, step, [], {}), 0, batches(1), 1, show=False)


def test_each_epoch_of_each_stage_has_an_order_of_its_own():
    seeds = {
        epoch_seed(seed, stage, epoch)
        for seed in (0, 1)
        for stage in ("pretrain", "gan")
        for epoch in range(50)
    }
    assert len(seeds) == 200
