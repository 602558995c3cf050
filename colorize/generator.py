"""The generator: a U-Net over a ResNet encoder, L in, ab out, at any height and width from 32.

One that knows colour hints takes them beside L; see `hints.py`.
"""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import torchvision
from huggingface_hub import PyTorchModelHubMixin, hf_hub_download
from huggingface_hub.constants import SAFETENSORS_SINGLE_FILE
from torch import Tensor, nn

from colorize.color import L_SCALE, lightness_to_grey
from colorize.config import ENCODERS
from colorize.imagenet import MEAN, STD, imagenet_resnet
from colorize.system.errors import ColorizeError
from colorize.weights.card import CARD_NAME, bare_card
from colorize.weights.tensors import read_tensors, write_tensors

MIN_SIDE = 32  # pixels; the encoder halves five times
_WIDEST = _LARGEST = 2048  # channels of a decoder stage, pixels of the working size
_DOWNLOAD_OPTIONS = ("revision", "cache_dir", "force_download", "token", "local_files_only")
_GREY_MEAN, _GREY_STD = 0.449, 0.226  # averages of ImageNet's
# What hints are multiplied by on their way in. They are a few pixels of a photo, and ab / 110 is
# mostly under 0.2: as they are, weights that start at zero would take an age to tell.
_AB_GAIN, _MASK_GAIN = 30.0, 10.0


class Stem(nn.Module):
    """The first convolution of a ResNet, made for one grey channel.

    Turns L back into the grey that ImageNet networks are trained on, and standardises it. A second,
    constant channel carries what the three ImageNet means differ by, so that the zeros
    that the convolution pads with mean exactly what they meant in pretraining.
    """

    def __init__(self, width: int = 64, hints: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, width, 7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")
        self.from_hints = _zero_conv(width, 7, stride=2) if hints else None

    def forward(self, L: Tensor, hints: Tensor | None = None) -> Tensor:
        """Scaled L (B, 1, H, W) to features (B, width, H/2, W/2)."""
        grey = (lightness_to_grey((L + 1.0) * L_SCALE) - _GREY_MEAN) / _GREY_STD
        x = self.conv(torch.cat((grey, torch.ones_like(grey)), dim=1))
        return x if hints is None else x + self.from_hints(hints)

    @torch.no_grad()
    def fold(self, weight: Tensor) -> None:
        """Take over an ImageNet kernel (width, 3, 7, 7)."""
        mean, std = (weight.new_tensor(x).view(1, 3, 1, 1) for x in (MEAN, STD))
        grey = (weight * (_GREY_STD / std)).sum(1, keepdim=True)
        constant = (weight * ((_GREY_MEAN - mean) / std)).sum(1, keepdim=True)
        self.conv.weight.copy_(torch.cat((grey, constant), dim=1))


class Encoder(nn.Module):
    """A torchvision ResNet without its classifier, over a grey stem.

    Args:
        name: one of `config.ENCODERS`.
        hints: whether it knows colour hints.
    """

    def __init__(self, name: str = "resnet18", hints: bool = False) -> None:
        super().__init__()
        if name not in ENCODERS:
            raise ColorizeError(f"encoder {reprlib.repr(name)} is not one of {', '.join(ENCODERS)}")
        self.name = name
        self.pretrained = False  # whether `load_imagenet` was called
        resnet = torchvision.models.get_model(name, weights=None, zero_init_residual=True)
        self.stem = Stem(resnet.conv1.out_channels, hints)
        self.bn1, self.relu, self.maxpool = resnet.bn1, resnet.relu, resnet.maxpool
        self.layers = nn.ModuleList((resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4))
        self.widths = [
            self.bn1.num_features,
            *(resnet.fc.in_features // 2**i for i in (3, 2, 1, 0)),
        ]

    def forward(self, L: Tensor, hints: Tensor | None = None) -> list[Tensor]:
        """Scaled L (B, 1, H, W) to five feature maps, at 1/2, 1/4, 1/8, 1/16 and 1/32 of it."""
        x = self.relu(self.bn1(self.stem(L, hints)))
        features = [x]
        x = self.maxpool(x)
        for layer in self.layers:
            x = layer(x)
            features.append(x)
        return features

    def load_imagenet(self) -> None:
        """Load torchvision's ImageNet weights, downloaded on first use, and fold the stem.

        Raises:
            ColorizeError: they are neither on disk nor within reach.
        """
        otherwise = "train from scratch with --encoder-weights none"
        resnet = imagenet_resnet(self.name, otherwise)
        self.stem.fold(resnet.conv1.weight)
        self.bn1.load_state_dict(resnet.bn1.state_dict())
        for i, layer in enumerate(self.layers, start=1):
            layer.load_state_dict(getattr(resnet, f"layer{i}").state_dict())
        self.pretrained = True


class DecoderStage(nn.Module):
    """Bring features up to a skip connection's size and merge the two.

    The first convolution of the usual "upsample, concatenate, convolve" is split in two: its part
    for the coarse features runs before they are upsampled, at a quarter of the cost. On a CPU a
    training step is 1.3 times as fast for it; L1 was 2 % higher after three epochs on 2,400
    landscapes (0.0666 against 0.0652, one seed), and 0.5 % in a later trial.
    """

    def __init__(
        self, in_channels: int, skip_channels: int, out_channels: int, hints: bool = False
    ) -> None:
        super().__init__()
        self.from_below = _conv3x3(in_channels, out_channels)
        self.from_skip = _conv3x3(skip_channels, out_channels)
        self.from_hints = _zero_conv(out_channels, 3) if hints else None
        self.merge = nn.Sequential(
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            _conv3x3(out_channels, out_channels),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: Tensor, skip: Tensor, hints: Tensor | None = None) -> Tensor:
        """x (B, in, h, w), skip (B, skip, H, W) and hints (B, 3, H, W) to (B, out, H, W)."""
        x = F.interpolate(self.from_below(x), size=skip.shape[-2:], mode="bilinear")
        x = x + self.from_skip(skip)
        return self.merge(x if hints is None else x + self.from_hints(hints))


class Generator(nn.Module, PyTorchModelHubMixin):
    """U-Net (Ronneberger et al. 2015): grey photo in, its colours out.

    Args:
        encoder: a torchvision ResNet, one of `config.ENCODERS`. Built without its weights;
            `generator.encoder.load_imagenet()` fetches them.
        decoder_widths: channels of the five decoder stages, coarse to fine.
        working_size: pixels of the shorter side at which it was trained; the size it predicts
            at unless told otherwise.
        hints: whether it knows colour hints. They enter beside the stem and beside L at the last
            skip, through convolutions that start at zero: then hints change nothing yet.
    """

    def __init__(
        self,
        encoder: str = "resnet18",
        decoder_widths: Sequence[int] = (256, 128, 64, 32, 16),
        working_size: int = 256,
        hints: bool = False,
    ) -> None:
        super().__init__()
        _check_sizes(decoder_widths, working_size)
        if type(hints) is not bool:
            raise ColorizeError(f"hints {reprlib.repr(hints)} is neither true nor false")
        self.working_size = working_size
        self.hints = hints
        self.card = ""  # the model card that it was loaded with
        self.encoder = Encoder(encoder, hints)
        # Each stage joins the next finer features; the last joins L itself.
        skips = [*reversed(self.encoder.widths[:-1]), 1]
        inputs = [self.encoder.widths[-1], *decoder_widths[:-1]]
        with_hints = [False] * 4 + [hints]
        self.stages = nn.ModuleList(map(DecoderStage, inputs, skips, decoder_widths, with_hints))
        self.head = nn.Conv2d(decoder_widths[-1], 2, 3, padding=1)
        nn.init.normal_(self.head.weight, std=1e-3)  # start from grey, not from loud noise
        nn.init.zeros_(self.head.bias)

    def forward(self, L: Tensor, hints: Tensor | None = None) -> Tensor:
        """Predict colour.

        Args:
            L: (B, 1, H, W) float, L / 50 - 1 in [-1, 1]; H and W from 32 up, odd ones too.
            hints: (B, 3, H, W) float, ab / 110 where it is known and 0 elsewhere, and a mask of 1
                and 0; see `hints.py`. None is the same as zeros.

        Returns:
            (B, 2, H, W) float, ab / 110 in (-1, 1).

        Raises:
            ColorizeError: L is too small, or hints are given to a generator that knows none.
        """
        if hints is not None and not self.hints:
            raise ColorizeError("these weights know no colour hints; train them with --hints")
        if min(L.shape[-2:]) < MIN_SIDE:
            raise ColorizeError(
                f"the generator needs at least {MIN_SIDE}x{MIN_SIDE} pixels, got "
                f"{L.shape[-2]}x{L.shape[-1]}"
            )
        if hints is not None:
            hints = torch.cat((hints[:, :2] * _AB_GAIN, hints[:, 2:] * _MASK_GAIN), dim=1)
        *skips, x = self.encoder(L, hints)
        *stages, last = self.stages
        for stage, skip in zip(stages, reversed(skips), strict=True):
            x = stage(x, skip)
        x = last(x, L, hints)
        return torch.tanh(self.head(x))

    def _save_pretrained(self, save_directory: Path) -> None:
        """What `save_pretrained` and `push_to_hub` call: the weights, and the model card."""
        # The mixin writes what the constructor got; trained on at another size, this is another.
        self._hub_mixin_config["working_size"] = self.working_size
        if not self.hints:  # what knows none is a folder as it was before there were any
            self._hub_mixin_config.pop("hints", None)
        write_tensors(save_directory / SAFETENSORS_SINGLE_FILE, self.state_dict())
        card = self.card or bare_card(self.working_size)
        (save_directory / CARD_NAME).write_text(card, encoding="utf-8")

    @classmethod
    def _from_pretrained(
        cls, *, model_id: str, config: dict[str, Any] | None = None, **options: Any
    ) -> Generator:
        """What `from_pretrained` calls: safetensors only, and every key must fit."""
        download = {k: options.pop(k) for k in _DOWNLOAD_OPTIONS if k in options}
        device = options.pop("map_location", "cpu")
        options.pop("strict", None)
        if config is None:
            raise ColorizeError("has no config.json; give a folder of weights of this package")
        # The mixin passes on, in `options`, what the class takes, and is silent about the rest.
        if unknown := sorted(config.keys() - options.keys()):
            raise ColorizeError(
                f"config.json has unknown fields: {reprlib.repr(unknown)[1:-1]}; give weights of "
                "this package, or update it"
            )
        with torch.device("meta"):  # takes no memory
            expected = cls(**options).state_dict()
        file, card = Path(model_id) / SAFETENSORS_SINGLE_FILE, Path(model_id) / CARD_NAME
        if not file.is_file():
            file = Path(hf_hub_download(model_id, SAFETENSORS_SINGLE_FILE, **download))
            with suppress(Exception):  # a network works without its card
                card = Path(hf_hub_download(model_id, CARD_NAME, **download))
        state = read_tensors(file, expected)
        generator = cls(**options)
        generator.load_state_dict(state)
        if card.is_file():
            generator.card = card.read_text(encoding="utf-8", errors="replace")
        return generator.to(device).eval()


def _check_sizes(decoder_widths: Sequence[int], working_size: int) -> None:
    """Refuse, before memory is taken, what a damaged or a hostile config.json may say."""

    def whole(value: Any, low: int, high: int) -> bool:
        return type(value) is int and low <= value <= high  # True is an int to isinstance

    several = isinstance(decoder_widths, (list, tuple)) and len(decoder_widths) == 5
    if not several or not all(whole(width, 1, _WIDEST) for width in decoder_widths):
        given = reprlib.repr(decoder_widths)
        raise ColorizeError(f"decoder_widths {given} are not 5 whole numbers from 1 to {_WIDEST}")
    if not whole(working_size, MIN_SIDE, _LARGEST):
        given = reprlib.repr(working_size)
        raise ColorizeError(f"working_size {given} is no whole number, {MIN_SIDE} to {_LARGEST}")


def _zero_conv(out_channels: int, side: int, stride: int = 1) -> nn.Conv2d:
    """For hints. Nothing is drawn for it, so that all other weights start as they would without."""
    geometry = {"stride": stride, "padding": side // 2, "bias": False}
    conv = nn.utils.skip_init(nn.Conv2d, 3, out_channels, side, **geometry)
    nn.init.zeros_(conv.weight)
    return conv


def _conv3x3(in_channels: int, out_channels: int) -> nn.Conv2d:
    conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    return conv
