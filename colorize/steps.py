"""The two steps that training repeats: L1 for G alone, then D and G against each other.

Both take L (B, 1, H, W) and ab (B, 2, H, W), scaled to [-1, 1], and give their losses, detached.
`backward` is `Accelerator.backward`, which scales fp16 losses; a test may pass `Tensor.backward`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from colorize.losses import gan_loss, l1_loss

Losses = dict[str, Tensor]
Backward = Callable[..., None]


def pretrain_step(
    generator: nn.Module, optimizer: Optimizer, L: Tensor, ab: Tensor, backward: Backward
) -> Losses:
    """Move G towards the true colours."""
    loss = l1_loss(generator(L), ab)
    optimizer.zero_grad()
    backward(loss)
    optimizer.step()
    return {"l1": loss.detach()}


def gan_step(
    generator: nn.Module,
    discriminator: nn.Module,
    g_optimizer: Optimizer,
    d_optimizer: Optimizer,
    L: Tensor,
    ab: Tensor,
    backward: Backward,
    objective: str = "bce",
    lambda_l1: float = 100.0,
) -> Losses:
    """Move D towards telling true colours from G's, and G towards colours that pass for true.

    D looks at G's colours once for both: its own step takes what they do to its weights, G's step
    what D's weights do to them. So both learn from what the other was before the step.
    """
    fake_ab = generator(L)
    # Real and fake go through separately: in one batch, batch norm would let D tell them apart
    # by what they do to the shared statistics, and G would learn nothing from it.
    real = discriminator(torch.cat((L, ab), 1))
    fake = discriminator(torch.cat((L, fake_ab), 1))

    # The D step. `inputs` keeps its gradients out of G, and G's out of D.
    d_loss = (gan_loss(real, True, objective) + gan_loss(fake, False, objective)) / 2
    d_optimizer.zero_grad()
    backward(d_loss, inputs=_trained(discriminator), retain_graph=True)

    # The G step.
    fooling = gan_loss(fake, True, objective, for_discriminator=False)
    l1 = l1_loss(fake_ab, ab)
    g_optimizer.zero_grad()
    backward(fooling + lambda_l1 * l1, inputs=_trained(generator))

    # Only now: the backward passes needed the weights as they were. Under fp16, Accelerate adapts
    # the loss scale after each of the two: G's gradients are then off by its factor, in the one
    # step in a thousand in which it changes, which Adam's running means do not notice.
    d_optimizer.step()
    g_optimizer.step()
    return {"d": d_loss.detach(), "gan": fooling.detach(), "l1": l1.detach()}


def _trained(network: nn.Module) -> list[nn.Parameter]:
    return [p for p in network.parameters() if p.requires_grad]
