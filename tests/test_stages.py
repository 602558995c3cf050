"""The stages: the right step, schedules of the right length, all state in their parts."""

import pytest
import torch
from accelerate import Accelerator

from colorize.config import TrainConfig
from colorize.discriminator import PatchGAN
from colorize.trainer import gan_stage, pretrain_stage
from colorize.training.optimizers import weight_average

CONFIG = TrainConfig(pretrain_epochs=2, gan_epochs=3, precision="fp32")


@pytest.fixture
def batch():
    return torch.rand(2, 1, 32, 32) - 0.5, torch.rand(2, 2, 32, 32) - 0.5


def test_pretraining_moves_the_generator_and_its_average(small_generator, batch):
    averaged = weight_average(small_generator, 0.9)
    stage = pretrain_stage(Accelerator(cpu=True), CONFIG, small_generator, averaged, 10)
    assert (stage.name, stage.epochs, stage.parts.keys()) == ("pretrain", 2, {"g_optimizer"})
    assert stage.step(*batch).keys() == {"l1"}
    assert averaged.n_averaged == 1
    assert stage.schedules[0].total_steps == 20


def test_the_gan_stage_keeps_all_that_has_a_state(small_generator, batch):
    averaged = weight_average(small_generator, 0.9)
    networks = (small_generator, PatchGAN(width=8), averaged)
    stage = gan_stage(Accelerator(cpu=True), CONFIG, *networks, 10)
    assert stage.step(*batch).keys() == {"d", "gan", "l1"}
    assert stage.parts.keys() == {"g_optimizer", "d_optimizer", "discriminator"}
    assert averaged.n_averaged == 1
    for schedule in stage.schedules:
        factor = schedule.lr_lambdas[0]
        assert (factor(0), factor(15), factor(30)) == (1, 1, 0)
