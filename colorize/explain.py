"""Looks inside the networks: a U-Net without a skip, what D sees, what lambda does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from colorize.checkpoint import load_checkpoint, load_generator
from colorize.config import TrainConfig
from colorize.data import Photos
from colorize.discriminator import PatchGAN
from colorize.errors import ColorizeError
from colorize.generator import Generator
from colorize.train import Trainer


@torch.no_grad()
def without_skip(generator: Generator, skip: int | None, L: Tensor) -> Tensor:
    """Scaled ab for scaled L (B, 1, H, W), with what one skip connection brings set to zero.

    Args:
        skip: 0 is the coarsest, 4 is L itself; None leaves all of them on.
    """
    if skip is None:
        return generator(L)
    branch = generator.stages[skip].from_skip
    hook = branch.register_forward_hook(lambda module, inputs, output: torch.zeros_like(output))
    try:
        return generator(L)
    finally:
        hook.remove()


def load_discriminator(run: Path) -> PatchGAN:
    """The discriminator of a run, from its checkpoint, ready to look.

    Raises:
        ColorizeError: the run had no GAN stage, or there is no checkpoint.
    """
    parts = load_checkpoint(run / "checkpoints" / "last.pt").get("parts", {})
    if "discriminator" not in parts:
        raise ColorizeError(f"{run}: has not trained a discriminator; give it GAN epochs")
    discriminator = PatchGAN()
    discriminator.load_state_dict(parts["discriminator"])
    return discriminator.eval()


def field_of_view(discriminator: nn.Module, size: int) -> tuple[int, int, int, int]:
    """Left, top, width and height of what the middle logit sees of a photo of `size`."""
    lab = torch.zeros(1, 3, size, size, requires_grad=True)
    logits = discriminator(lab)
    logits[0, 0, logits.shape[-2] // 2, logits.shape[-1] // 2].backward()
    reached = lab.grad[0].abs().sum(0) > 0
    rows, columns = reached.any(1).nonzero().flatten(), reached.any(0).nonzero().flatten()
    left, top = int(columns[0]), int(rows[0])
    return left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1


def vary_lambda(
    config: TrainConfig, photos: Photos, run: Path, values: Sequence[float]
) -> dict[float, Generator]:
    """One GAN epoch from the pretrained weights of a run, for each weight of L1."""
    trained = {}
    for value in values:
        torch.manual_seed(config.seed)
        generator = load_generator(run / "pretrained")
        changed = replace(config, gan_epochs=1, lambda_l1=value)
        Trainer(changed, photos, generator, PatchGAN()).train_gan()
        trained[value] = generator.cpu().eval()
    return trained
