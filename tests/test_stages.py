"""The stages: the right step, schedules of the right length, all state in their parts."""

import pytest

from colorize.config import TrainConfig
from colorize.discriminator import PatchGAN
from colorize.trainer import Trainer

CONFIG = TrainConfig(pretrain_epochs=2, gan_epochs=3, batch_size=2, ema_decay=0.9, precision="fp32")


@pytest.fixture
def trainer(photos, small_generator):
    return Trainer(CONFIG, photos, small_generator, PatchGAN(width=8))


@pytest.fixture
def batch(trainer):
    """On the device."""
    return next(trainer.batches.epoch(seed=0))


def test_pretraining_moves_the_generator_and_its_average(trainer, batch):
    stage = trainer.pretrain_stage()
    assert (stage.name, stage.epochs, stage.parts.keys()) == ("pretrain", 2, {"g_optimizer"})
    assert stage.step(*batch).keys() == {"l1"}
    assert trainer.averaged.n_averaged == 1
    assert stage.schedules[0].total_steps == 2 * 3


def test_the_gan_stage_keeps_all_that_has_a_state(trainer, batch):
    stage = trainer.gan_stage()
    assert stage.step(*batch).keys() == {"d", "gan", "l1"}
    assert stage.parts.keys() == {"g_optimizer", "d_optimizer", "discriminator"}
    assert trainer.averaged.n_averaged == 1
    for schedule in stage.schedules:
        factor = schedule.lr_lambdas[0]
        assert (factor(0), factor(4.5), factor(9)) == (1, 1, 0)
