"""Learning rates and the weight average."""

import pytest
import torch
from conftest import SMALL_WIDTHS
from torch import nn

from colorize.config import TrainConfig
from colorize.generator import Generator
from colorize.training.optimizers import (
    gan_optimizer,
    late_decay,
    one_cycle,
    pretrain_optimizer,
    weight_average,
)

CONFIG = TrainConfig(pretrain_lr=1e-2, weight_decay=0.02, gan_lr=2e-4)


def rates(optimizer, schedule, steps):
    found = []
    for _ in range(steps):
        found.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    return found


def test_a_pretrained_encoder_takes_smaller_steps(small_generator):
    fresh = pretrain_optimizer(small_generator, CONFIG)
    small_generator.encoder.pretrained = True
    pretrained = pretrain_optimizer(small_generator, CONFIG)
    assert [g["lr"] for g in fresh.param_groups] == [1e-2, 1e-2]
    assert [g["weight_decay"] for g in fresh.param_groups] == [0.02, 0.02]
    assert [g["lr"] for g in pretrained.param_groups] == pytest.approx([1e-3, 1e-2])


def test_every_parameter_is_trained(small_generator):
    optimizer = pretrain_optimizer(small_generator, CONFIG)
    trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert trained == {id(p) for p in small_generator.parameters()}


def test_the_way_in_of_hints_is_fresh_beside_a_pretrained_encoder():
    generator = Generator(decoder_widths=SMALL_WIDTHS, hints=True)
    generator.encoder.pretrained = True
    groups = pretrain_optimizer(generator, CONFIG).param_groups
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    found = {name: rates[id(p)] for name, p in generator.named_parameters()}
    assert found["encoder.stem.from_hints.weight"] == 1e-2
    assert found["stages.4.from_hints.weight"] == 1e-2
    assert found["encoder.stem.conv.weight"] == pytest.approx(1e-3)


def test_one_cycle_peaks_and_ends_near_zero(small_generator):
    small_generator.encoder.pretrained = True
    optimizer = pretrain_optimizer(small_generator, CONFIG)
    found = rates(optimizer, one_cycle(optimizer, 100), 100)
    assert max(found) == pytest.approx([1e-3, 1e-2], rel=1e-3)
    assert found.index(max(found)) in (28, 29, 30)
    assert found[-1][1] < 1e-5


def test_late_decay_holds_and_then_falls_to_zero():
    optimizer = gan_optimizer(nn.Linear(1, 1), CONFIG)
    found = [r for (r,) in rates(optimizer, late_decay(optimizer, 10), 10)]
    assert found == pytest.approx([2e-4] * 6 + [2e-4 * f for f in (0.8, 0.6, 0.4, 0.2)])
    assert optimizer.param_groups[0]["betas"] == (0.5, 0.999)


def average_after(steps, decay):
    network = nn.BatchNorm1d(1)
    averaged = weight_average(network, decay)
    for step in range(steps):
        with torch.no_grad():
            network.weight.fill_(step)
            network.running_mean.fill_(step)
        averaged.update_parameters(network)
    return averaged.module


def test_average_by_hand():
    # Weights 0, 1, 2; the decay is 0.2 at most: (1 + n) / (10 + n) is 2/11 at n = 1, 3/12 at 2.
    first = 1 * (1 - 2 / 11)
    assert average_after(3, 0.2).weight.item() == pytest.approx(first * 0.2 + 2 * 0.8, rel=1e-5)


def test_average_follows_a_short_run_closely():
    """With a flat decay of 0.998, 60 steps would leave 89 % of the first weights."""
    assert average_after(60, 0.998).weight.item() > 45


def test_batch_norm_statistics_are_averaged_too():
    module = average_after(5, 0.9)
    assert 0 < module.running_mean.item() < 4
