"""Optimizers, learning-rate schedules and the weight average of the two stages."""

from __future__ import annotations

from torch import Tensor, nn
from torch.optim import Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from colorize.config import TrainConfig
from colorize.generator import Generator

# Weights that already know photos need, and stand, smaller steps than fresh ones.
_PRETRAINED_ENCODER_LR = 0.1


def pretrain_optimizer(generator: Generator, config: TrainConfig) -> Optimizer:
    """AdamW; an encoder with ImageNet weights gets a tenth of the learning rate, if none is set.

    Not so the convolution beside its stem that takes hints: it starts at zero.
    """
    rest = dict(generator.named_parameters())
    encoder = [
        rest.pop(name)
        for name in list(rest)
        if name.startswith("encoder.") and "from_hints" not in name
    ]
    lr = config.pretrain_lr
    share = config.encoder_lr
    if share is None:
        share = _PRETRAINED_ENCODER_LR if generator.encoder.pretrained else 1.0
    return AdamW(
        [{"params": encoder, "lr": share * lr}, {"params": list(rest.values()), "lr": lr}],
        weight_decay=config.weight_decay,
        fused=True,
    )


def one_cycle(optimizer: Optimizer, steps: int) -> OneCycleLR:
    """Up to each group's learning rate in the first 30 % of the steps, then down to nearly 0."""
    return OneCycleLR(optimizer, [group["lr"] for group in optimizer.param_groups], steps)


def gan_optimizer(network: nn.Module, config: TrainConfig) -> Optimizer:
    """Adam as in pix2pix, the same for both networks."""
    return Adam(network.parameters(), config.gan_lr, config.gan_betas, fused=True)


def late_decay(optimizer: Optimizer, steps: int) -> LambdaLR:
    """The full learning rate for the first half of the steps, then linearly down to 0."""
    return LambdaLR(optimizer, lambda step: min(1.0, 2.0 - 2.0 * step / steps))


def weight_average(network: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of a network's weights and batch-norm statistics.

    The decay grows with the steps, so that a short run does not average in its first, random ones.
    """

    def average(averaged: list[Tensor], current: list[Tensor], count: Tensor) -> None:
        # The model's own counter stays on the CPU: `count` is a copy on the device, slow to read.
        steps = int(model.n_averaged)
        get_ema_multi_avg_fn(min(decay, (1 + steps) / (10 + steps)))(averaged, current, count)

    model = AveragedModel(network, multi_avg_fn=average, use_buffers=True)
    return model
