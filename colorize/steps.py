"""The two steps that training repeats: L1 for G alone, then D and G against each other.

Both take L (B, 1, H, W) and ab (B, 2, H, W), scaled to [-1, 1], and give their losses, detached.
G may get colour hints (B, 3, H, W) beside L, see `hints.py`; D sees L and ab alone.
`backward` is `Accelerator.backward`, which scales fp16 losses; a test may pass `Tensor.backward`.
`accumulate` calls `gradients` with the batch, or with parts of it that the memory can hold.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from colorize.losses import gan_loss, l1_loss
from colorize.training.memory import Accumulation, Losses

Backward = Callable[..., None]
Term = Callable[[Tensor, Tensor, Tensor], Tensor]  # a part of a loss


def pretrain_step(
    generator: nn.Module,
    optimizer: Optimizer,
    L: Tensor,
    ab: Tensor,
    backward: Backward,
    accumulate: Accumulation,
    hints: Tensor | None = None,
) -> Losses:
    """Move G towards the true colours."""

    def gradients(L: Tensor, ab: Tensor, hints: Tensor | None, share: float) -> Losses:
        loss = l1_loss(generator(*_seen(L, hints)), ab)
        backward(share * loss)
        return {"l1": loss.detach()}

    losses = accumulate(gradients, [optimizer], L, ab, hints)
    optimizer.step()
    return losses


def gan_step(
    generator: nn.Module,
    discriminator: nn.Module,
    g_optimizer: Optimizer,
    d_optimizer: Optimizer,
    L: Tensor,
    ab: Tensor,
    backward: Backward,
    accumulate: Accumulation,
    objective: str = "bce",
    lambda_l1: float = 100.0,
    hints: Tensor | None = None,
    penalty: Term | None = None,
    lambda_penalty: float = 10.0,
    features: Term | None = None,
    lambda_features: float = 0.0,
    d_alone: bool = False,
) -> Losses:
    """Move D towards telling true colours from G's, and G towards colours that pass for true.

    D looks at G's colours once for both: its own step takes what they do to its weights, G's step
    what D's weights do to them. So both learn from what the other was before the step.

    Args:
        penalty: of L, ab and G's ab, for D's loss.
        features: of L, G's ab and ab, for G's loss.
        d_alone: G stands still.
    """

    def gradients(L: Tensor, ab: Tensor, hints: Tensor | None, share: float) -> Losses:
        with torch.set_grad_enabled(not d_alone):
            fake_ab = generator(*_seen(L, hints))
        # Real and fake go through separately: in one batch, batch norm would let D tell them apart
        # by what they do to the shared statistics, and G would learn nothing from it.
        real = discriminator(torch.cat((L, ab), 1))
        fake = discriminator(torch.cat((L, fake_ab), 1))

        # D's half. `inputs` keeps its gradients out of G, and G's out of D.
        d_loss = (gan_loss(real, True, objective) + gan_loss(fake, False, objective)) / 2
        losses = {"d": d_loss}
        if penalty:
            losses["penalty"] = penalty(L, ab, fake_ab)
            d_loss = d_loss + lambda_penalty / 2 * losses["penalty"]
        backward(share * d_loss, inputs=_trained(discriminator), retain_graph=not d_alone)

        # G's half.
        losses["gan"] = gan_loss(fake, True, objective, for_discriminator=False)
        losses["l1"] = l1_loss(fake_ab, ab)
        g_loss = losses["gan"] + lambda_l1 * losses["l1"]
        if features:
            losses["features"] = features(L, fake_ab, ab)
            g_loss = g_loss + lambda_features * losses["features"]
        if not d_alone:
            backward(share * g_loss, inputs=_trained(generator))
        return {name: loss.detach() for name, loss in losses.items()}

    losses = accumulate(gradients, [g_optimizer, d_optimizer], L, ab, hints)
    # Only now: the backward passes needed the weights as they were. Under fp16, Accelerate adapts
    # the loss scale after each of the two: G's gradients are then off by its factor, in the one
    # step in a thousand in which it changes, which Adam's running means do not notice.
    d_optimizer.step()
    if not d_alone:
        g_optimizer.step()
    return losses


def _trained(network: nn.Module) -> list[nn.Parameter]:
    return [p for p in network.parameters() if p.requires_grad]


def _seen(L: Tensor, hints: Tensor | None) -> tuple[Tensor, ...]:
    """What G gets: without hints L alone, so that a network which knows none can take its place."""
    return (L,) if hints is None else (L, hints)
