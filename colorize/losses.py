"""What the two networks minimise: GAN objectives on patch logits, and L1 on colour."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from colorize.config import OBJECTIVES
from colorize.system.errors import ColorizeError


def gan_loss(
    logits: Tensor, real: bool, objective: str = "bce", for_discriminator: bool = True
) -> Tensor:
    """How far a matrix of logits is from saying `real` (or fake) in every patch.

    Args:
        logits: (B, 1, h, w), one a patch, any float dtype; computed in float32.
        real: what the logits should say. The generator wants `real=True` of its own pictures.
        objective: "bce" (Goodfellow et al. 2014, with logits), "lsgan" (Mao et al. 2017) or
            "hinge" (Lim and Ye 2017).
        for_discriminator: the hinge differs between the two players; the others do not.

    Returns:
        A scalar, the mean over patches.
    """
    logits = logits.float()
    target = float(real)
    if objective == "bce":
        return F.binary_cross_entropy_with_logits(
            logits, logits.new_full((), target).expand_as(logits)
        )
    if objective == "lsgan":
        return (logits - target).square().mean()
    if objective == "hinge":
        if not for_discriminator:
            return -logits.mean()
        return F.relu(1.0 - logits if real else 1.0 + logits).mean()
    raise ColorizeError(f"GAN objective {objective!r} is not one of {', '.join(OBJECTIVES)}")


def l1_loss(predicted: Tensor, true: Tensor) -> Tensor:
    """Mean absolute difference of scaled ab, in float32; both (B, 2, H, W)."""
    return F.l1_loss(predicted.float(), true.float())
