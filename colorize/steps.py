"""The three steps that training repeats: L1 for G, real or fake for D, both for G.

Each takes L (B, 1, H, W) and ab (B, 2, H, W), scaled to [-1, 1], and gives its losses, detached.
`backward` is `Accelerator.backward`, which scales fp16 losses; a test may pass `Tensor.backward`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from colorize.losses import gan_loss, l1_loss

Losses = dict[str, Tensor]
Backward = Callable[[Tensor], None]


def pretrain_step(
    generator: nn.Module, optimizer: Optimizer, L: Tensor, ab: Tensor, backward: Backward
) -> Losses:
    """Move G towards the true colours."""
    loss = l1_loss(generator(L), ab)
    optimizer.zero_grad()
    backward(loss)
    optimizer.step()
    return {"l1": loss.detach()}


def discriminator_step(
    discriminator: nn.Module,
    optimizer: Optimizer,
    L: Tensor,
    ab: Tensor,
    fake_ab: Tensor,
    backward: Backward,
    objective: str = "bce",
) -> Losses:
    """Move D towards telling true colours from G's. G is not touched: the fake is detached."""
    # Real and fake go through separately: in one batch, batch norm would let D tell them apart
    # by what they do to the shared statistics, and G would learn nothing from it.
    real = gan_loss(discriminator(torch.cat((L, ab), 1)), True, objective)
    fake = gan_loss(discriminator(torch.cat((L, fake_ab.detach()), 1)), False, objective)
    loss = (real + fake) / 2
    optimizer.zero_grad()
    backward(loss)
    optimizer.step()
    return {"d": loss.detach()}


def generator_step(
    discriminator: nn.Module,
    optimizer: Optimizer,
    L: Tensor,
    ab: Tensor,
    fake_ab: Tensor,
    backward: Backward,
    objective: str = "bce",
    lambda_l1: float = 100.0,
) -> Losses:
    """Move G towards colours that D takes for true and that are near the true ones.

    `fake_ab` is G's output for L, with its graph. D is frozen for the time being.
    """
    discriminator.requires_grad_(False)
    try:
        logits = discriminator(torch.cat((L, fake_ab), 1))
        fooling = gan_loss(logits, True, objective, for_discriminator=False)
        l1 = l1_loss(fake_ab, ab)
        optimizer.zero_grad()
        backward(fooling + lambda_l1 * l1)
        optimizer.step()
    finally:  # also when a notebook is interrupted here
        discriminator.requires_grad_(True)
    return {"gan": fooling.detach(), "l1": l1.detach()}
