"""Looks inside: colours nobody can know, a U-Net without a skip, what D sees, what lambda does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from colorize.color import scaled_to_rgb
from colorize.config import TrainConfig
from colorize.dataset import Photos, PhotoSet, to_network
from colorize.discriminator import PatchGAN
from colorize.generator import Generator
from colorize.metrics import to_uint8
from colorize.pretrained import load_generator
from colorize.trainer import Trainer

_ENOUGH = 1000  # photos to train on for a look


def ambiguous(photos: Photos) -> Photos:
    """The same photos, each once more in its opposite colours: a and b with the other sign.

    Of a photo in grey nobody can then tell which of the two it was.
    """
    return replace(photos, train=_with_opposites(photos.train), val=_with_opposites(photos.val))


def _with_opposites(photos: PhotoSet) -> PhotoSet:
    rgb = photos.__getitems__(range(len(photos)))
    L, ab = to_network(rgb)
    both = torch.cat((rgb, to_uint8(scaled_to_rgb(L, -ab)))).permute(0, 2, 3, 1)
    names = photos.names + [f"{name}, opposite" for name in photos.names]
    return PhotoSet(both.numpy(), np.arange(len(both)), names, photos.colorfulness * 2)


def liveliest(ab: Tensor, side: int = 9) -> list[Tensor]:
    """For each photo the square with the strongest colour, as `hints.true_hints` takes squares.

    Args:
        ab: scaled, (B, 2, H, W).
        side: of a square, pixels; at most 9.

    Returns:
        For each photo (1, 3): top, left, side.
    """
    chroma = nn.functional.avg_pool2d(ab, side, stride=1).norm(dim=1)
    places = chroma.flatten(1).argmax(1).tolist()
    return [torch.tensor([[*divmod(place, chroma.shape[-1]), side]]) for place in places]


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
    return {value: _from_pretrained(config, photos, run, value, 1)[0] for value in values}


def fresh_discriminator(
    config: TrainConfig, photos: Photos, run: Path, epochs: int = 3
) -> nn.Module:
    """A discriminator that knows no other false colours than those of a run's L1 generator."""
    unmoved = 1000.0  # a weight of L1 beside which the GAN loss is nothing
    return _from_pretrained(config, photos, run, unmoved, epochs)[1]


def _from_pretrained(
    config: TrainConfig, photos: Photos, run: Path, lambda_l1: float, epochs: int
) -> tuple[Generator, nn.Module]:
    """Train a run's pretrained generator against a new discriminator; both come back on the CPU."""
    torch.manual_seed(config.seed)
    generator = load_generator(run / "pretrained")
    discriminator = PatchGAN(norm=config.discriminator_norm)
    few = replace(photos, train=replace(photos.train, rows=photos.train.rows[:_ENOUGH]))
    changed = replace(config, gan_epochs=epochs, lambda_l1=lambda_l1, discriminator_first=0.0)
    Trainer(changed, few, generator, discriminator).train_gan()
    return generator.cpu().eval(), discriminator.cpu().eval()
