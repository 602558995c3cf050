"""`Colorizer`: a photo in, the same photo in colour out, at its own resolution."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from colorize.color import lightness, lightness_to_grey, scale_lab, scaled_to_rgb
from colorize.config import SMOOTHNESS
from colorize.dataset import to_network
from colorize.generator import MIN_SIDE, Generator
from colorize.hints import Hint, checked, place_hints, spread_hints
from colorize.metrics import to_uint8
from colorize.photos.pixels import alpha, to_rgb
from colorize.photos.read import as_photo
from colorize.pretrained import load_generator

# Pixels painted at a time, whatever the photo's size: what a CPU's cache holds; a GPU wants more.
_STRIP, _STRIP_ON_GPU = 2**18, 2**22
_LONGEST = 4  # times the working size, for panoramas
# A variance of scaled L below which a difference in lightness is grain, and says nothing of colour.
_GRAIN = 0.03
# A step in scaled L, two units of L*, over which neighbours have a third of their say on colour.
_EDGE = 0.04


class Colorizer:
    """Colours photos with a trained generator.

    The photo keeps its own lightness to the pixel; only the colour comes from the network, which
    sees the photo at the working size. There its colours are made to agree where lightness does,
    see `smooth`, and brought up to the photo's size along the photo's own edges, see `color_map`.

    A process that has used it must not fork and use it in the child, which would wait for threads
    that it has not got: start child processes with "spawn", or call torch.set_num_threads(1) first.

    Args:
        generator: a trained `Generator`.
        size: working size, pixels of the shorter side; None takes what it was trained at.
        device: where to compute; None takes the GPU if there is one.
        strength: of the colours; 0 leaves the photo grey, 1 is as predicted, above 1 is more.
        flip: also look at the mirrored photo, and take the mean: twice the time of the network,
            calmer colours.
        smoothness: how much neighbours of the same lightness agree in colour; 0 leaves the
            network's colours as they are.
    """

    def __init__(
        self,
        generator: Generator,
        size: int | None = None,
        device: str | torch.device | None = None,
        strength: float = 1.0,
        flip: bool = False,
        smoothness: float = SMOOTHNESS,
    ) -> None:
        self.device = torch.device(
            device or torch.accelerator.current_accelerator(check_available=True) or "cpu"
        )
        self.generator = generator.to(self.device).eval()
        self.size = size or generator.working_size
        if min(strength, smoothness) < 0:
            raise ValueError(f"strength {strength} and smoothness {smoothness} must not be below 0")
        self.strength, self.flip, self.smoothness = strength, flip, smoothness

    @classmethod
    def from_pretrained(
        cls,
        weights: str | Path | None = None,
        size: int | None = None,
        device: str | torch.device | None = None,
        strength: float = 1.0,
        flip: bool = False,
        smoothness: float = SMOOTHNESS,
    ) -> Colorizer:
        """Load weights from a folder or by their hub name; None takes those that come along.

        Raises:
            ColorizeError: it cannot, see `pretrained.load_generator`.
        """
        return cls(load_generator(weights), size, device, strength, flip, smoothness)

    def __call__(self, image: Image.Image, hints: Sequence[Hint] = ()) -> Image.Image:
        """Colour a PIL image of any mode: RGB of the same size, RGBA if it has transparency.

        The image is first turned upright if its EXIF says so. Colour in it is not looked at. A
        path is opened first; a uint8 array is (H, W), (H, W, 3), or (H, W, 4) with alpha.

        Args:
            hints: what the network cannot know: (x, y, colour) in pixels of the upright photo, the
                colour as "#a03020", a name, or (160, 48, 32). Its lightness does not count.

        Raises:
            TypeError: it is something else.
            ColorizeError: the file cannot be read, or there are no pixels; a hint lies outside the
                photo or has no colour, or the weights know none.
            ValueError: pixels of no known range, see `photos.pixels.to_rgb`.
        """
        return self.batch([image], [hints])[0]

    @torch.inference_mode()
    def batch(
        self, images: Sequence[Image.Image], hints: Sequence[Sequence[Hint]] | None = None
    ) -> list[Image.Image]:
        """Colour images, each with its hints; those of one shape share a pass of the network."""
        images = [as_photo(image) for image in images]
        hints = [[] for _ in images] if hints is None else hints
        if len(hints) != len(images):
            raise ValueError(f"{len(images)} images, but hints of {len(hints)}; give [] for none")
        given = [checked(some, image.size) for some, image in zip(hints, images, strict=True)]
        alphas = [alpha(image) for image in images]
        photos = [to_rgb(image) for image in images]
        alike = defaultdict(list)
        for i, photo in enumerate(photos):
            alike[working_shape(photo.width, photo.height, self.size)].append(i)
        colored: dict[int, Image.Image] = {}
        for shape, members in alike.items():
            small = [_shrink(photos[i], shape) for i in members]
            L, _ = to_network(torch.cat(small).to(self.device))
            placed = None
            if any(given[i] for i in members):
                pairs = zip(members, L.split(1), strict=True)
                placed = torch.cat([place_hints(given[i], photos[i].size, one) for i, one in pairs])
            maps = color_map(L, self.predict_ab(L, placed)).split(1)
            colored |= {i: self._paint(photos[i], m) for i, m in zip(members, maps, strict=True)}
        for i, opaque in enumerate(alphas):
            if opaque is not None:
                colored[i].putalpha(opaque)
        return [colored[i] for i in range(len(images))]

    def predict_ab(self, L: Tensor, hints: Tensor | None = None) -> Tensor:
        """Scaled L (B, 1, h, w), hints (B, 3, h, w) if any, to scaled ab (B, 2, h, w).

        Hints also go to the network, which makes of them what it has learnt: a blue roof lets it
        see a sky. Then each is brought up to the edges around it, see `spread_hints`.
        """
        seen = (L,) if hints is None else (L, hints)
        ab = self.generator(*seen).float()
        if self.flip:
            mirrored = (x.flip(-1) for x in seen)
            ab = (ab + self.generator(*mirrored).float().flip(-1)) / 2
        ab = smooth(L, ab, self.smoothness)
        if hints is not None:
            ab = spread_hints(L, hints, ab)
        return ab * self.strength

    def _paint(self, rgb: Image.Image, color: Tensor) -> Image.Image:
        """The lightness of `rgb` with the colour of a `color_map`."""
        painted = Image.new("RGB", rgb.size)
        color = F.interpolate(color, size=(color.shape[-2], rgb.width), mode="bilinear")
        strip = _STRIP if self.device.type == "cpu" else _STRIP_ON_GPU
        rows = max(1, strip // rgb.width)
        for top in range(0, rgb.height, rows):
            bottom = min(top + rows, rgb.height)
            grey = np.array(rgb.crop((0, top, rgb.width, bottom)))
            L, _ = scale_lab(lightness(to_tensor(grey).to(self.device)))
            flat, slope = _stretch(color, rgb.height, top, bottom).split(2, dim=1)
            pixels = to_uint8(scaled_to_rgb(L, torch.addcmul(flat, slope, L)))[0]
            pixels = torch.stack(pixels.unbind(), dim=-1).cpu().numpy()
            painted.paste(Image.fromarray(pixels), (0, top))
        return painted


def in_grey(photo: Image.Image) -> Image.Image:
    """The lightness of a PIL image of any mode, upright, as a grey of the same lightness."""
    rgb = to_tensor(np.array(to_rgb(as_photo(photo))))
    return Image.fromarray(to_uint8(lightness_to_grey(lightness(rgb)))[0, 0].numpy())


def working_shape(width: int, height: int, size: int) -> tuple[int, int]:
    """(width, height) at which the network sees a photo: the shorter side is `size`.

    The longer side is kept in proportion up to four times that; panoramas beyond it shrink
    further, down to what the generator accepts.
    """
    scale = min(size / min(width, height), _LONGEST * size / max(width, height))
    return max(round(width * scale), MIN_SIDE), max(round(height * scale), MIN_SIDE)


def smooth(L: Tensor, ab: Tensor, smoothness: float = SMOOTHNESS) -> Tensor:
    """Let neighbours agree in colour, the more the less they differ in lightness.

    What may have any colour gets patches of several from a GAN, whose borders are nowhere in the
    photo. This takes the x with the least sum of (x - ab)^2 over pixels, and of smoothness *
    exp(-|dL| / 0.04) * dx^2 over neighbours: weighted least squares, as in Farbman et al.,
    "Edge-preserving decompositions for multi-scale tone and detail manipulation", 2008, with
    lightness for a guide. Means over the photo stay.

    Args:
        L: scaled, (B, 1, h, w), at the working size.
        ab: scaled, (B, 2, h, w).
        smoothness: 0 gives ab itself.

    Returns:
        Scaled ab, (B, 2, h, w).
    """
    if not smoothness:
        return ab
    along, down = (smoothness * torch.exp(-L.diff(dim=dim).abs() / _EDGE) for dim in (3, 2))

    def normal(x: Tensor) -> Tensor:
        """The left side of the normal equations."""
        x_along, x_down = along * x.diff(dim=3), down * x.diff(dim=2)
        return (
            x
            + F.pad(x_along, (1, 0))
            - F.pad(x_along, (0, 1))
            + F.pad(x_down, (0, 0, 1, 0))
            - F.pad(x_down, (0, 0, 0, 1))
        )

    # Chebyshev iteration, for eigenvalues from 1 to 1 + 8 * smoothness: so many steps leave less
    # than a hundredth. Conjugate gradients would leave less, but blow up what the network rounds
    # otherwise on a GPU, or in a batch.
    half = 4 * smoothness
    x, residual = ab, ab - normal(ab)
    step, rate = residual / (1 + half), half / (1 + half)
    for _ in range(math.ceil(8 * math.sqrt(smoothness))):
        x, residual = x + step, residual - normal(step)
        before, rate = rate, 1 / (2 * (1 + half) / half - rate)
        step = rate * before * step + 2 * rate / half * residual
    return x


def color_map(L: Tensor, ab: Tensor) -> Tensor:
    """Colour as a line in lightness, so that it follows edges that the working size has lost.

    He, Sun and Tang, "Guided image filtering", 2010, fit ab = flat + slope * L around each pixel,
    which also blurs what was sharp. Here the slope serves only what the photo's L has beyond L at
    the working size: there, ab itself comes out.

    Args:
        L: scaled, (B, 1, h, w), at the working size.
        ab: scaled, (B, 2, h, w).

    Returns:
        flat and slope, (B, 4, h, w); upsampled bilinearly, flat + slope * L is a photo's scaled ab.
    """

    def mean(x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)

    covariance = mean(L * ab) - mean(L) * mean(ab)
    variance = mean(L.square()) - mean(L).square()
    slope = mean(covariance / (variance + _GRAIN))
    return torch.cat((ab - slope * L, slope), dim=1)


def _shrink(photo: Image.Image, shape: tuple[int, int]) -> Tensor:
    small = photo.resize(shape, Image.Resampling.BICUBIC, reducing_gap=2.0)
    return to_tensor(np.array(small))


def _stretch(ab: Tensor, height: int, top: int, bottom: int) -> Tensor:
    """Rows `top` to `bottom` of what ab (B, 2, h, W) is at `height`, bilinearly."""
    # Pixel centres correspond, as in `F.interpolate`, which has no way of asking for a part.
    at = torch.arange(top, bottom, device=ab.device) + 0.5
    at = (at * (ab.shape[-2] / height) - 0.5).clamp(0, ab.shape[-2] - 1)
    above = at.int()
    below = (above + 1).clamp(max=ab.shape[-2] - 1)
    share = (at - above).view(-1, 1)
    return ab.index_select(-2, above).lerp(ab.index_select(-2, below), share)


def to_tensor(pixels: np.ndarray) -> Tensor:
    """uint8 (H, W, 3) to uint8 (1, 3, H, W)."""
    return torch.from_numpy(pixels).permute(2, 0, 1)[None]
