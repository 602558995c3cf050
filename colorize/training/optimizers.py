"""Optimizers, learning-rate schedules and the weight average of the two stages."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import torch
from torch import Tensor, nn
from torch.optim import Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR
from torch.optim.swa_utils import AveragedModel

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
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    return Adam(trained, config.gan_lr, config.gan_betas, fused=True)


def late_decay(optimizer: Optimizer, steps: int) -> LambdaLR:
    """The full learning rate for the first half of the steps, then linearly down to 0."""
    return LambdaLR(optimizer, lambda step: min(1.0, 2.0 - 2.0 * step / steps))


def weight_average(network: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of a network's weights and batch-norm statistics.

    The decay grows with the steps, so that a short run does not average in its first, random ones.
    """
    return _WeightAverage(network, decay)


class _WeightAverage(AveragedModel):
    """Torch's average, updated in two calls that a GPU need not be waited for.

    Torch's own update copies its counter to the GPU, which waits for all that was begun there, and
    takes the batch norms' counters one by one.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__(network, use_buffers=True)
        self.decay = decay

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """One step more."""
        steps = int(self.n_averaged)  # stays on the CPU
        decay = min(self.decay, (1 + steps) / (10 + steps)) if steps else 0.0
        pairs = list(zip(_tensors(self.module), _tensors(model), strict=True))
        numbers = [pair for pair in pairs if pair[0].is_floating_point()]
        counters = [pair for pair in pairs if not pair[0].is_floating_point()]
        torch._foreach_lerp_(*map(list, zip(*numbers, strict=True)), 1 - decay)
        if counters:
            torch._foreach_copy_(*map(list, zip(*counters, strict=True)))
        self.n_averaged += 1


def _tensors(network: nn.Module) -> Iterator[Tensor]:
    return chain(network.parameters(), network.buffers())
