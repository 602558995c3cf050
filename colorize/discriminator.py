"""The discriminators: each judges patches of a picture, with a matrix of logits or several.

All take scaled Lab (B, 3, H, W) in [-1, 1], L and ab together.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from colorize.config import (
    DISCRIMINATOR_LAYERS,
    DISCRIMINATOR_NORMS,
    DISCRIMINATOR_POOLINGS,
    SCALES,
    TrainConfig,
)
from colorize.imagenet import Features, freeze
from colorize.system.errors import ColorizeError


class PatchGAN(nn.Module):
    """The 70x70 discriminator of pix2pix (Isola et al. 2017, section 6.1.2): C64-C128-C256-C512.

    Args:
        in_channels: 3, L and ab together.
        width: channels of the first layer; they double up to eight times that.
        layers: halvings of the resolution, 1 to 5. 3 sees 70x70 pixels, 2 sees 34x34, 4 142x142.
        norm: "batch" as in the paper; "layer" (Ba et al. 2016), of each photo alone; or "spectral"
            (Miyato et al. 2018), on every convolution.

    At the defaults 2,765,633 parameters, and 30x30 logits for 256x256 pixels.
    """

    def __init__(
        self, in_channels: int = 3, width: int = 64, layers: int = 3, norm: str = "batch"
    ) -> None:
        super().__init__()
        if layers not in DISCRIMINATOR_LAYERS:
            raise ColorizeError(f"{layers} layers of a PatchGAN are not 1 to 5")
        widths = [width * min(2**i, 8) for i in range(layers + 1)]
        blocks: list[nn.Module] = [
            nn.Conv2d(in_channels, widths[0], 4, 2, 1),
            nn.LeakyReLU(0.2, inplace=True),
        ]
        for i in range(1, layers + 1):
            stride = 2 if i < layers else 1
            blocks += _block(widths[i - 1], widths[i], 4, stride, norm)
        blocks.append(nn.Conv2d(widths[-1], 1, 4, 1, 1))
        self.blocks = nn.Sequential(*blocks)
        _begin(self.blocks, norm)

    def forward(self, lab: Tensor) -> Tensor:
        """Logits (B, 1, H/2^layers - 2, W/2^layers - 2)."""
        return self.blocks(lab)


class MultiscaleGAN(nn.Module):
    """A PatchGAN for the picture and one each for its halves (pix2pixHD, Wang et al. 2018).

    Args:
        scales: how many; each sees twice as far as the one before.
        options: of each PatchGAN.
    """

    def __init__(self, scales: int = SCALES, **options: int | str) -> None:
        super().__init__()
        self.scales = nn.ModuleList(PatchGAN(**options) for _ in range(scales))

    def forward(self, lab: Tensor) -> list[Tensor]:
        """A matrix of logits for each scale, the finest first."""
        logits = []
        for patch in self.scales:
            logits.append(patch(lab))
            lab = F.avg_pool2d(lab, 2)
        return logits


class ProjectedGAN(nn.Module):
    """Judges features of a frozen ImageNet ResNet-18 (after Projected GAN, Sauer et al. 2021).

    Convolutions that stay as they were drawn mix the channels of each of three scales, and carry
    coarse ones into finer ones. So D cannot lean on the few features that tell most. Only a head
    for each scale learns.

    Args:
        width: channels of the finest scale; they double at each coarser one.
        norm: of the heads; see `PatchGAN`.

    Raises:
        ColorizeError: see `imagenet.Features`.
    """

    def __init__(self, width: int = 64, norm: str = "batch") -> None:
        super().__init__()
        self.features = Features()
        widths = [width, 2 * width, 4 * width]
        pairs = zip(self.features.widths, widths, strict=True)
        self.across = nn.ModuleList(nn.Conv2d(a, b, 1, bias=False) for a, b in pairs)
        pairs = zip(widths[1:], widths[:-1], strict=True)
        self.upwards = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1, bias=False) for a, b in pairs)
        for fixed in (self.across, self.upwards):
            for convolution in fixed:
                nn.init.kaiming_normal_(convolution.weight, nonlinearity="linear")
            freeze(fixed, saved=True)
        self.heads = nn.ModuleList(
            nn.Sequential(
                *_block(each, 4 * width, 3, 1, norm),
                nn.Conv2d(4 * width, 1, 3, padding=1),
            )
            for each in widths
        )
        _begin(self.heads, norm)

    def forward(self, lab: Tensor) -> list[Tensor]:
        """Logits at 1/4, 1/8 and 1/16 of H and W."""
        features = self.features(lab[:, :1], lab[:, 1:])
        mixed = [mix(x) for mix, x in zip(self.across, features, strict=True)]
        for i in (1, 0):
            carried = self.upwards[i](mixed[i + 1])
            mixed[i] = mixed[i] + F.interpolate(carried, mixed[i].shape[-2:], mode="bilinear")
        return [head(x) for head, x in zip(self.heads, mixed, strict=True)]


_KINDS = {
    "patch": lambda c: PatchGAN(layers=c.discriminator_layers, norm=c.discriminator_norm),
    "multiscale": lambda c: MultiscaleGAN(layers=c.discriminator_layers, norm=c.discriminator_norm),
    "projected": lambda c: ProjectedGAN(norm=c.discriminator_norm),
}


def make_discriminator(config: TrainConfig) -> nn.Module:
    """The one that settings ask for, one of `config.DISCRIMINATORS`, behind average pooling."""
    if config.discriminator not in _KINDS:
        raise ColorizeError(
            f"discriminator {config.discriminator!r} is not one of {', '.join(_KINDS)}"
        )
    pooling, discriminator = config.discriminator_pooling, _KINDS[config.discriminator](config)
    if pooling not in DISCRIMINATOR_POOLINGS:
        choices = ", ".join(map(str, DISCRIMINATOR_POOLINGS))
        raise ColorizeError(f"discriminator pooling {pooling!r} is not one of {choices}")
    return nn.Sequential(nn.AvgPool2d(pooling), discriminator) if pooling > 1 else discriminator


def _block(inputs: int, outputs: int, side: int, stride: int, norm: str) -> list[nn.Module]:
    """A convolution, its norm, and a ReLU that leaks."""
    if norm not in DISCRIMINATOR_NORMS:
        raise ColorizeError(f"norm {norm!r} is not one of {', '.join(DISCRIMINATOR_NORMS)}")
    norms = {"batch": [nn.BatchNorm2d(outputs)], "layer": [nn.GroupNorm(1, outputs)]}.get(norm, [])
    convolution = nn.Conv2d(inputs, outputs, side, stride, 1, bias=norm != "batch")
    return [convolution, *norms, nn.LeakyReLU(0.2, inplace=True)]


def _begin(network: nn.Module, norm: str) -> None:
    """First weights, and spectral norm around them."""
    network.apply(_initialise)
    if norm == "spectral":
        network.apply(_bound)


@torch.no_grad()
def _initialise(module: nn.Module) -> None:
    """Normal with deviation 0.02, as in the paper."""
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, (nn.BatchNorm2d, nn.GroupNorm)):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)


def _bound(module: nn.Module) -> None:
    """Divide a convolution's weight by an estimate of its largest singular value, as a matrix."""
    if isinstance(module, nn.Conv2d):
        spectral_norm(module)
