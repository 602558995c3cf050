"""The PatchGAN discriminator: a matrix of logits, each judging one 70x70 patch."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from colorize.config import DISCRIMINATOR_NORMS
from colorize.system.errors import ColorizeError


class PatchGAN(nn.Module):
    """The 70x70 discriminator of pix2pix (Isola et al. 2017, section 6.1.2): C64-C128-C256-C512.

    Args:
        in_channels: 3, L and ab together.
        width: channels of the first layer; they double up to eight times that.
        layers: halvings of the resolution. 3 sees 70x70 pixels, 2 sees 34x34, 4 sees 142x142.
        norm: "batch" as in the paper, or "spectral" (Miyato et al. 2018) on every convolution.

    At the defaults 2,765,633 parameters, and 30x30 logits for 256x256 pixels.
    """

    def __init__(
        self, in_channels: int = 3, width: int = 64, layers: int = 3, norm: str = "batch"
    ) -> None:
        super().__init__()
        if norm not in DISCRIMINATOR_NORMS:
            raise ColorizeError(f"norm {norm!r} is not one of {', '.join(DISCRIMINATOR_NORMS)}")
        batch = norm == "batch"
        widths = [width * min(2**i, 8) for i in range(layers + 1)]
        blocks: list[nn.Module] = [
            nn.Conv2d(in_channels, widths[0], 4, 2, 1),
            nn.LeakyReLU(0.2, inplace=True),
        ]
        for i in range(1, layers + 1):
            stride = 2 if i < layers else 1
            blocks += [
                nn.Conv2d(widths[i - 1], widths[i], 4, stride, 1, bias=not batch),
                *([nn.BatchNorm2d(widths[i])] if batch else []),
                nn.LeakyReLU(0.2, inplace=True),
            ]
        blocks.append(nn.Conv2d(widths[-1], 1, 4, 1, 1))
        self.blocks = nn.Sequential(*blocks)
        self.apply(_initialise)
        if not batch:
            self.apply(_bound)

    def forward(self, lab: Tensor) -> Tensor:
        """Judge scaled Lab (B, 3, H, W) in [-1, 1]: logits (B, 1, H/8 - 2, W/8 - 2)."""
        return self.blocks(lab)


@torch.no_grad()
def _initialise(module: nn.Module) -> None:
    """Normal with deviation 0.02, as in the paper."""
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)


def _bound(module: nn.Module) -> None:
    """Divide a convolution's weight by an estimate of its largest singular value, as a matrix."""
    if isinstance(module, nn.Conv2d):
        spectral_norm(module)
