"""`Colorizer`: a photo in, the same photo in colour out, at its own resolution."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from colorize.checkpoint import load_generator
from colorize.color import lightness, lightness_to_grey, scale_lab, scaled_to_rgb
from colorize.data import to_network
from colorize.generator import MIN_SIDE, Generator
from colorize.metrics import to_uint8
from colorize.pixels import to_rgb, upright

# Pixels painted at a time, whatever the photo's size: what a CPU's cache holds; a GPU wants more.
_STRIP, _STRIP_ON_GPU = 2**18, 2**22
_LONGEST = 4  # times the working size, for panoramas


class Colorizer:
    """Colours photos with a trained generator.

    The photo keeps its own lightness to the pixel; only the colour comes from the network, which
    sees the photo at the working size, and is brought up to the photo's size bilinearly.

    Args:
        generator: a trained `Generator`.
        size: working size, pixels of the shorter side; None takes what it was trained at.
        device: where to compute; None takes the GPU if there is one.
        strength: of the colours; 0 leaves the photo grey, 1 is as predicted, above 1 is more.
        flip: also look at the mirrored photo, and take the mean: twice the time of the network,
            calmer colours.
    """

    def __init__(
        self,
        generator: Generator,
        size: int | None = None,
        device: str | torch.device | None = None,
        strength: float = 1.0,
        flip: bool = False,
    ) -> None:
        self.device = torch.device(
            device or torch.accelerator.current_accelerator(check_available=True) or "cpu"
        )
        self.generator = generator.to(self.device).eval()
        self.size = size or generator.working_size
        self.strength, self.flip = strength, flip

    @classmethod
    def from_pretrained(
        cls,
        weights: str | Path,
        size: int | None = None,
        device: str | torch.device | None = None,
        strength: float = 1.0,
        flip: bool = False,
    ) -> Colorizer:
        """Load weights from a folder or by their hub name; raises ColorizeError if it cannot."""
        return cls(load_generator(weights), size, device, strength, flip)

    @torch.inference_mode()
    def __call__(self, image: Image.Image) -> Image.Image:
        """Colour a PIL image of any mode: RGB of the same size, RGBA if it has transparency.

        The image is first turned upright if its EXIF says so. Colour in it is not looked at.
        """
        image = upright(image)
        has_alpha = image.has_transparency_data
        alpha = image.convert("RGBA").getchannel("A") if has_alpha else None
        rgb = to_rgb(image)
        colored = self._paint(rgb, self.predict_ab(rgb))
        if alpha is not None:
            colored.putalpha(alpha)
        return colored

    @torch.inference_mode()
    def predict_ab(self, rgb: Image.Image) -> Tensor:
        """Scaled ab (1, 2, h, w) at the working size, on the device."""
        shape = working_shape(rgb.width, rgb.height, self.size)
        small = rgb.resize(shape, Image.Resampling.BICUBIC, reducing_gap=2.0)
        L, _ = to_network(_to_tensor(np.array(small)).to(self.device))
        ab = self.generator(L).float()
        if self.flip:
            ab = (ab + self.generator(L.flip(-1)).float().flip(-1)) / 2
        return ab * self.strength

    def _paint(self, rgb: Image.Image, ab: Tensor) -> Image.Image:
        """The lightness of `rgb` with the colour of `ab`, upsampled."""
        colored = Image.new("RGB", rgb.size)
        ab = F.interpolate(ab, size=(ab.shape[-2], rgb.width), mode="bilinear")
        strip = _STRIP if self.device.type == "cpu" else _STRIP_ON_GPU
        rows = max(1, strip // rgb.width)
        for top in range(0, rgb.height, rows):
            bottom = min(top + rows, rgb.height)
            grey = np.array(rgb.crop((0, top, rgb.width, bottom)))
            L, _ = scale_lab(lightness(_to_tensor(grey).to(self.device)))
            painted = to_uint8(scaled_to_rgb(L, _stretch(ab, rgb.height, top, bottom)))[0]
            pixels = torch.stack(painted.unbind(), dim=-1).cpu().numpy()
            colored.paste(Image.fromarray(pixels), (0, top))
        return colored


def in_grey(photo: Image.Image) -> Image.Image:
    """The lightness of a PIL image of any mode, upright, as a grey of the same lightness."""
    rgb = _to_tensor(np.array(to_rgb(upright(photo))))
    return Image.fromarray(to_uint8(lightness_to_grey(lightness(rgb)))[0, 0].numpy())


def working_shape(width: int, height: int, size: int) -> tuple[int, int]:
    """(width, height) at which the network sees a photo: the shorter side is `size`.

    The longer side is kept in proportion up to four times that; panoramas beyond it shrink
    further, down to what the generator accepts.
    """
    scale = min(size / min(width, height), _LONGEST * size / max(width, height))
    return max(round(width * scale), MIN_SIDE), max(round(height * scale), MIN_SIDE)


def _stretch(ab: Tensor, height: int, top: int, bottom: int) -> Tensor:
    """Rows `top` to `bottom` of what ab (B, 2, h, W) is at `height`, bilinearly."""
    # Pixel centres correspond, as in `F.interpolate`, which has no way of asking for a part.
    at = torch.arange(top, bottom, device=ab.device) + 0.5
    at = (at * (ab.shape[-2] / height) - 0.5).clamp(0, ab.shape[-2] - 1)
    above = at.int()
    below = (above + 1).clamp(max=ab.shape[-2] - 1)
    share = (at - above).view(-1, 1)
    return ab.index_select(-2, above).lerp(ab.index_select(-2, below), share)


def _to_tensor(pixels: np.ndarray) -> Tensor:
    """uint8 (H, W, 3) to uint8 (1, 3, H, W)."""
    return torch.from_numpy(pixels).permute(2, 0, 1)[None]
