"""Networks that know ImageNet: their weights, and what a frozen one of them sees in colours."""

from __future__ import annotations

from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_eval

from colorize.color import lab_to_rgb, unscale_lab
from colorize.system.errors import ColorizeError, first_line

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's RGB in [0, 1]


def imagenet_resnet(name: str, otherwise: str) -> nn.Module:
    """A torchvision ResNet with its ImageNet weights, downloaded on first use.

    Args:
        otherwise: what to do without them, for the error.

    Raises:
        ColorizeError: they are neither on disk nor within reach.
    """
    weights = torchvision.models.get_model_weights(name).DEFAULT
    resnet = torchvision.models.get_model(name, weights=None)
    try:
        state = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
        resnet.load_state_dict(state)
    except Exception as error:  # the network's, the disk's, or a damaged file's
        file = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
        what = f"delete the damaged {file}" if file.exists() else f"put {weights.url} at {file}"
        raise ColorizeError(
            f"no ImageNet weights for {name} ({first_line(error)}); {what}, or {otherwise}"
        ) from error
    return resnet


class Features(nn.Module):
    """What a frozen ImageNet ResNet-18 sees in a picture, after its layers 1, 2 and 3.

    Raises:
        ColorizeError: its weights are neither on disk nor within reach.
    """

    def __init__(self) -> None:
        super().__init__()
        resnet = imagenet_resnet(
            "resnet18", "leave out --lambda-features and --discriminator projected"
        )
        _fold_batch_norms(resnet.eval())
        self.stem = nn.Sequential(resnet.conv1, resnet.relu, resnet.maxpool)
        self.layers = nn.ModuleList((resnet.layer1, resnet.layer2, resnet.layer3))
        self.widths = [resnet.fc.in_features // 2**i for i in (3, 2, 1)]
        for name, values in (("mean", MEAN), ("std", STD)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1))
        freeze(self, saved=False)

    def forward(self, L: Tensor, ab: Tensor) -> list[Tensor]:
        """Scaled L (B, 1, H, W) and ab (B, 2, H, W) to features at 1/4, 1/8 and 1/16 of H and W.

        Differentiable in ab. Colours outside sRGB are not clipped: there a gradient must lead back.
        """
        x = self.stem((lab_to_rgb(unscale_lab(L, ab), clip=False) - self.mean) / self.std)
        features = []
        for layer in self.layers:
            x = layer(x)
            features.append(x)
        return features


def freeze(network: nn.Module, saved: bool) -> None:
    """Make weights buffers, in place: they move with the network, and nothing trains them.

    Args:
        saved: whether they belong to the network's `state_dict`.
    """
    for module in network.modules():
        tensors = dict(module.named_parameters(recurse=False))
        for name in tensors:
            delattr(module, name)
        tensors |= dict(module.named_buffers(recurse=False))
        for name, tensor in tensors.items():
            module.register_buffer(name, tensor.detach(), persistent=saved)


def _fold_batch_norms(network: nn.Module) -> None:
    """Put each batch norm, which no batch moves any more, into the convolution before it."""
    for module in list(network.modules()):
        before = ("", None)
        for name, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, before[0], fuse_conv_bn_eval(before[1], child))
                setattr(module, name, nn.Identity())
            before = (name, child)
