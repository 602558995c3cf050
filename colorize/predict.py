"""`Colorizer`: a photo in, the same photo in colour out, at its own resolution."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

from colorize.checkpoint import load_generator, write_whole
from colorize.color import lightness, scale_lab, scaled_to_rgb
from colorize.data import to_network
from colorize.errors import ColorizeError, first_line
from colorize.generator import MIN_SIDE, Generator
from colorize.metrics import to_uint8
from colorize.photo import PHOTO_SUFFIXES, find_photos, open_photo, to_rgb
from colorize.progress import bar

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
    """

    def __init__(
        self,
        generator: Generator,
        size: int | None = None,
        device: str | torch.device | None = None,
    ) -> None:
        self.device = torch.device(
            device or torch.accelerator.current_accelerator(check_available=True) or "cpu"
        )
        self.generator = generator.to(self.device).eval()
        self.size = size or generator.working_size

    @classmethod
    def from_pretrained(
        cls,
        weights: str | Path,
        size: int | None = None,
        device: str | torch.device | None = None,
    ) -> Colorizer:
        """Load weights from a folder or by their hub name; raises ColorizeError if it cannot."""
        return cls(load_generator(weights), size, device)

    @torch.inference_mode()
    def __call__(self, image: Image.Image) -> Image.Image:
        """Colour a PIL image of any mode: RGB of the same size, RGBA if it has transparency.

        The image is first turned upright if its EXIF says so. Colour in it is not looked at.
        """
        image = ImageOps.exif_transpose(image)
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
        return self.generator(L).float()

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


def colorize_files(colorizer: Colorizer, inputs: Sequence[Path], out: Path) -> list[str]:
    """Colour photos and folders of photos into the folder `out`, under the names they have.

    Photos of a folder keep their place inside it. A bad file is passed over.

    Returns:
        A line for each photo that failed.

    Raises:
        ColorizeError: `out` is a file.
    """
    if out.exists() and not out.is_dir():
        raise ColorizeError(f"{out}: is a file; give a folder for the results")
    failed: list[str] = []
    jobs: dict[Path, Path] = {}  # target -> photo
    originals: set[Path] = set()
    for path in inputs:
        try:
            photos = find_photos(path) if path.is_dir() else [path]
            results = out.resolve()
            if path.resolve() in results.parents:  # what is in `out` came from an earlier run
                photos = [photo for photo in photos if results not in photo.resolve().parents]
        except ColorizeError as error:
            failed.append(str(error))
            continue
        for photo in photos:
            originals.add(photo.resolve())
            target = out / (photo.relative_to(path) if path.is_dir() else photo.name)
            if target in jobs:
                failed.append(f"{photo}: {jobs[target]} would have the same name in {out}")
            else:
                jobs[target] = photo
    for target, photo in bar(jobs.items(), "colouring", unit="photo"):
        try:
            if target.resolve() in originals:
                raise ColorizeError(f"{target}: is one of the photos; give another --out")
            _save(colorizer(open_photo(photo)), target)
        except ColorizeError as error:
            failed.append(str(error))
        except (OSError, ValueError, RuntimeError) as error:
            if getattr(error, "errno", None) == errno.ENOSPC:
                raise
            failed.append(f"{photo}: {first_line(error)}")
    return failed


def _save(image: Image.Image, path: Path) -> None:
    """Write a coloured photo, whole, as its suffix says."""
    if path.suffix.lower() not in PHOTO_SUFFIXES:
        raise ColorizeError(
            f"{path}: unknown kind of photo; use {' '.join(sorted(PHOTO_SUFFIXES))}"
        )
    if path.suffix.lower() in (".jpg", ".jpeg", ".bmp"):
        image = image.convert("RGB")  # these hold no transparency
    with write_whole(path) as temporary:
        image.save(temporary, quality=95)


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
