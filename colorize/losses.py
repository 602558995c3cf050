"""What the two networks minimise: GAN objectives on logits, L1 on colour, and features.

A GAN objective is a function of a matrix of logits (B, 1, h, w), one a patch, in float32; of what
they should say, true or false; and of whether it is D who minimises, or else G, who wants true of
its own pictures. It gives the mean over patches.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from colorize.imagenet import Features
from colorize.system.errors import ColorizeError


def bce(logits: Tensor, real: bool, for_discriminator: bool) -> Tensor:
    """Binary cross-entropy with logits (Goodfellow et al. 2014)."""
    return F.binary_cross_entropy_with_logits(
        logits, logits.new_full((), float(real)).expand_as(logits)
    )


def lsgan(logits: Tensor, real: bool, for_discriminator: bool) -> Tensor:
    """Least squares (Mao et al. 2017)."""
    return (logits - float(real)).square().mean()


def hinge(logits: Tensor, real: bool, for_discriminator: bool) -> Tensor:
    """D is content with a margin of 1 (Lim and Ye 2017)."""
    if not for_discriminator:
        return -logits.mean()
    return F.relu(1.0 - logits if real else 1.0 + logits).mean()


def wasserstein(logits: Tensor, real: bool, for_discriminator: bool) -> Tensor:
    """D parts true from false as far as its slope allows; wants `gradient_penalty` beside it."""
    return -logits.mean() if real else logits.mean()


_OBJECTIVES = {"bce": bce, "lsgan": lsgan, "hinge": hinge, "wgan-gp": wasserstein}


def gan_loss(
    logits: Tensor | Sequence[Tensor],
    real: bool,
    objective: str = "bce",
    for_discriminator: bool = True,
) -> Tensor:
    """How far logits are from saying `real` (or fake) in every patch.

    Args:
        logits: (B, 1, h, w), one a patch, any float dtype; computed in float32. Or one such matrix
            for each scale of a discriminator.
        real: what the logits should say. The generator wants `real=True` of its own pictures.
        objective: one of `config.OBJECTIVES`.
        for_discriminator: the hinge differs between the two players; the others do not.

    Returns:
        A scalar, the mean over patches, and over scales.
    """
    if objective not in _OBJECTIVES:
        raise ColorizeError(f"GAN objective {objective!r} is not one of {', '.join(_OBJECTIVES)}")
    loss = _OBJECTIVES[objective]
    losses = [loss(scale.float(), real, for_discriminator) for scale in _scales(logits)]
    return sum(losses) / len(losses)


def gradient_penalty(discriminator: nn.Module, L: Tensor, ab: Tensor, fake_ab: Tensor) -> Tensor:
    """How far D's slope is from 1 between true and false colours (Gulrajani et al. 2017, WGAN-GP).

    The slope is that of a photo's score, the mean of its logits, in its ab, on a random point of
    the line between both; L is given, and is no direction to go in.

    Args:
        discriminator: bare, that is outside of any autocast: the penalty is a gradient's gradient,
            and bf16 keeps two digits of it. No batch norm: it ties a photo's score to the others.
        L, ab, fake_ab: (B, 1, H, W) and twice (B, 2, H, W), scaled. G gets no gradient.

    Returns:
        A scalar, the mean over photos of (slope - 1)^2, to be put into D's loss.
    """
    share = torch.rand(len(L), 1, 1, 1, device=L.device)
    between = torch.lerp(fake_ab.detach().float(), ab.float(), share).requires_grad_()
    logits = _scales(discriminator(torch.cat((L.float(), between), 1)))
    score = sum(scale.flatten(1).mean(1) for scale in logits) / len(logits)
    (slope,) = torch.autograd.grad(score.sum(), between, create_graph=True)
    return (slope.flatten(1).norm(dim=1) - 1.0).square().mean()


def l1_loss(predicted: Tensor, true: Tensor) -> Tensor:
    """Mean absolute difference of scaled ab, in float32; both (B, 2, H, W)."""
    return F.l1_loss(predicted.float(), true.float())


class FeatureLoss(nn.Module):
    """How differently an ImageNet ResNet-18 sees two colourings (after Johnson et al. 2016).

    Raises:
        ColorizeError: see `imagenet.Features`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = Features()

    def forward(self, L: Tensor, predicted: Tensor, true: Tensor) -> Tensor:
        """Mean absolute difference of features, and mean of that over the layers 1 to 3.

        Args:
            L, predicted, true: (B, 1, H, W) and twice ab, (B, 2, H, W), all scaled.
        """
        with torch.no_grad():
            wanted = self.features(L, true)
        found = self.features(L, predicted)
        losses = [l1_loss(ours, theirs) for ours, theirs in zip(found, wanted, strict=True)]
        return sum(losses) / len(losses)


def _scales(logits: Tensor | Sequence[Tensor]) -> Sequence[Tensor]:
    return [logits] if isinstance(logits, Tensor) else logits
