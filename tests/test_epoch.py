"""One pass over the photos: means, schedules, and losses that are no numbers."""

import copy

import pytest
import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer

from colorize.trainer import Progress, Stage, epoch_seed, run_epoch
from colorize.training.health import NotANumber


class Counter:
    steps = 0

    def step(self):
        self.steps += 1


def batches(count):
    return ((torch.full((2, 1, 4, 4), float(i)), torch.zeros(2, 2, 4, 4)) for i in range(count))


def test_losses_are_averaged_and_schedules_step():
    schedule = Counter()
    stage = Stage("pretrain", 1, lambda L, ab: {"l1": L.mean()}, [schedule], {})
    done = run_epoch(stage, 0, batches(4), 4, show=False)
    row = done.row(Accelerator(cpu=True))
    assert row["l1"] == pytest.approx((0 + 1 + 2 + 3) / 4)
    assert row["photos_per_second"] > 0
    assert row.keys() == {"l1", "seconds", "photos_per_second"}
    assert schedule.steps == 4


def test_a_bar_shows_losses_and_speed(capsys):
    stage = Stage("gan", 5, lambda L, ab: {"d": L.mean()}, [], {})
    run_epoch(stage, 1, batches(20), 20, show=True)
    err = capsys.readouterr().err
    assert "gan 2/5" in err
    assert "d=" in err
    assert "photos/s=" in err


def test_an_epoch_goes_on_where_it_stopped():
    stage = Stage("pretrain", 1, lambda L, ab: {"l1": L.mean()}, [], {})
    whole = run_epoch(stage, 0, batches(6), 6, show=False)
    kept = []

    def keep(done):
        if done.steps == 2:
            kept.append(copy.deepcopy(done))

    run_epoch(stage, 0, batches(6), 6, show=False, after_step=keep)
    left = list(batches(6))[2:]
    done = run_epoch(stage, 0, left, 6, show=False, done=Progress(**vars(kept[0])))
    assert (done.steps, done.photos, done.totals) == (whole.steps, whole.photos, whole.totals)
    assert done.seconds > kept[0].seconds


@pytest.mark.parametrize("bad", [3, 14, 25])
def test_no_number_names_the_epoch_the_step_and_the_loss(bad):
    """Within ten steps, though a look at every loss would wait for the device."""
    taken = []

    def step(L, ab):
        taken.append(1)
        broken = len(taken) == bad
        return {"d": torch.tensor(float("inf") if broken else 1.0), "l1": torch.tensor(0.5)}

    with pytest.raises(NotANumber, match=rf"gan 3/5, step {bad}: d is not a number"):
        run_epoch(Stage("gan", 5, step, [], {}), 2, batches(25), 25, show=False)
    assert bad <= len(taken) < bad + 10


def test_steps_that_fp16_skipped_are_counted():
    """The real scaler, Accelerate's real optimizer and a fused Adam as in training."""
    network = torch.nn.Linear(1, 1)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    optimizer = AcceleratedOptimizer(
        torch.optim.Adam(network.parameters(), 0.1, fused=True), scaler=scaler
    )

    def step(L, ab):
        optimizer.zero_grad()
        scaler.scale(network(torch.ones(1, 1)).sum()).backward()
        if L.max() == 1:
            network.weight.grad.fill_(float("inf"))
        optimizer.step()
        return {"l1": L.mean()}

    Accelerator(cpu=True)
    stage = Stage("pretrain", 1, step, [], {"g_optimizer": optimizer})
    done = run_epoch(stage, 0, batches(4), 4, show=False)
    assert done.skipped == 1
    assert run_epoch(stage, 1, batches(1), 1, show=False).skipped == 0
    assert done.row(Accelerator(cpu=True))["skipped_steps"] == 1
    assert network.weight.isfinite().all()


def test_each_epoch_of_each_stage_has_an_order_of_its_own():
    seeds = {
        epoch_seed(seed, stage, epoch)
        for seed in (0, 1)
        for stage in ("pretrain", "gan")
        for epoch in range(50)
    }
    assert len(seeds) == 200
