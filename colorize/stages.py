"""The two stages of training: for each its step, its optimizers and its schedules."""

from __future__ import annotations

from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from colorize.config import TrainConfig
from colorize.epoch import Stage
from colorize.generator import Generator
from colorize.memory import Accumulation, Losses
from colorize.optimizers import gan_optimizer, late_decay, one_cycle, pretrain_optimizer
from colorize.steps import gan_step, pretrain_step


def pretrain_stage(
    accelerator: Accelerator,
    config: TrainConfig,
    generator: Generator,
    averaged: AveragedModel,
    steps_per_epoch: int,
) -> Stage:
    """L1 for the generator alone; `averaged` follows it."""
    network, optimizer = accelerator.prepare(generator, pretrain_optimizer(generator, config))
    schedule = one_cycle(optimizer.optimizer, config.pretrain_epochs * steps_per_epoch)
    accumulate = Accumulation(may_split=accelerator.num_processes == 1)

    def step(L: Tensor, ab: Tensor) -> Losses:
        losses = pretrain_step(network, optimizer, L, ab, accelerator.backward, accumulate)
        averaged.update_parameters(generator)
        return losses

    parts = {"g_optimizer": optimizer}
    return Stage("pretrain", config.pretrain_epochs, step, [schedule], parts)


def gan_stage(
    accelerator: Accelerator,
    config: TrainConfig,
    generator: Generator,
    discriminator: nn.Module,
    averaged: AveragedModel,
    steps_per_epoch: int,
) -> Stage:
    """GAN loss and L1 for the generator, GAN loss for the discriminator."""
    networks = accelerator.prepare(
        generator,
        discriminator,
        gan_optimizer(generator, config),
        gan_optimizer(discriminator, config),
    )
    _, _, g_optimizer, d_optimizer = networks
    steps = config.gan_epochs * steps_per_epoch
    schedules = [late_decay(o.optimizer, steps) for o in (g_optimizer, d_optimizer)]
    accumulate = Accumulation(may_split=accelerator.num_processes == 1)
    settings = (accelerator.backward, accumulate, config.objective, config.lambda_l1)

    def step(L: Tensor, ab: Tensor) -> Losses:
        losses = gan_step(*networks, L, ab, *settings)
        averaged.update_parameters(generator)
        return losses

    parts = {
        "g_optimizer": g_optimizer,
        "d_optimizer": d_optimizer,
        "discriminator": discriminator,
    }
    return Stage("gan", config.gan_epochs, step, schedules, parts)
