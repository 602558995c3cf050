"""Pixels of any mode to upright 8-bit sRGB: deep greys, palettes, CMYK, Lab, colour profiles."""

from __future__ import annotations

from functools import lru_cache
from io import BytesIO

import numpy as np
import torch
from PIL import ExifTags, Image, ImageCms, ImageOps

from colorize.color import encode

_PROFILED = ("RGB", "L", "CMYK")  # modes that a colour profile may describe
_OFF = 2  # 8-bit steps that a profile may be away from sRGB and count as it


def upright(image: Image.Image) -> Image.Image:
    """The image turned the way its EXIF says; itself, not a copy, if it need not be turned."""
    turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
    return ImageOps.exif_transpose(image) if turned else image


def alpha(image: Image.Image) -> Image.Image | None:
    """How opaque each pixel is, as an L image; None if the image knows no transparency."""
    if not image.has_transparency_data:
        return None
    see_through = image.info.get("transparency")
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        return image.getchannel(len(image.getbands()) - 1)
    if image.mode in ("1", "L") or image.mode.startswith("I"):  # Pillow compares some of them wrong
        grey = np.asarray(image.convert("L") if image.mode == "1" else image)
        return Image.fromarray(np.where(grey == see_through, 0, 255).astype(np.uint8))
    return image.convert("RGBA").getchannel("A")


def to_rgb(image: Image.Image) -> Image.Image:
    """A PIL image of any mode to 8-bit sRGB; alpha is dropped.

    Deep grey is scaled down, not clipped: mode I;16 has white at 65535; mode I too, or at 255 if
    nothing in it is lighter. Float pixels are taken as 0 to 1. Pixels with a colour profile, or
    with a PNG's gamma, are converted to sRGB by it.

    Raises:
        ValueError: pixels of no known range, or a mode that Pillow cannot convert.
    """
    profile = image.info.get("icc_profile")
    gamma = None if profile or "srgb" in image.info else image.info.get("gamma")
    if image.mode == "LAB":
        return ImageCms.profileToProfile(
            image, ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    if image.mode == "F" or image.mode.startswith("I"):
        image = _deep(image)
    elif image.mode in ("La", "RGBa"):  # alpha is multiplied in
        image = image.convert(image.mode.upper())
    if image.mode in ("1", "LA"):
        image = image.convert("L")
    elif image.mode not in (*_PROFILED, "I;16"):
        image = image.convert("RGB")
    if profile and profile[16:20] == b"GRAY" and image.mode == "RGB" and _is_grey(image):
        image = image.convert("L")  # Pillow opens deep grey with alpha, for one, as colours
    if profile and (transform := _transform(profile, image.mode)):
        image = ImageCms.applyTransform(image, transform)
    if image.mode == "I;16":
        curve = _by_gamma(65536, gamma) if gamma else np.arange(65536) / 257
        image = Image.fromarray(curve.round().astype(np.uint8)[np.asarray(image)])
    elif gamma and image.mode != "CMYK":
        curve = _by_gamma(256, gamma).round().astype(int).tolist()
        image = image.point(curve * len(image.getbands()))
    return image if image.mode == "RGB" else image.convert("RGB")


def _is_grey(image: Image.Image) -> bool:
    red, green, blue = (channel.tobytes() for channel in image.split())
    return red == green == blue


def _deep(image: Image.Image) -> Image.Image:
    """Grey of whole or float numbers as I;16, in the machine's own byte order."""
    grey = np.asarray(image)
    low, high = float(grey.min()), float(grey.max())
    white = {"F": 1.0, "I": 255.0 if high <= 255 else 65535.0}.get(image.mode, 65535.0)
    if not (low >= 0 and high <= white):  # so written, NaN is refused as well
        kind = "float pixels" if image.mode == "F" else "pixels"
        raise ValueError(
            f"{kind} from {low:g} to {high:g} have no known range; scale them to 0 to "
            f"{white:g}, or save the photo with 8 or 16 bits"
        )
    if white != 65535:
        grey = (grey * (65535 / white)).round()
    return Image.fromarray(grey.astype(np.uint16))


def _by_gamma(count: int, gamma: float) -> np.ndarray:
    """8-bit sRGB, unrounded, of `count` even steps of a PNG whose gAMA is so."""
    steps = np.linspace(0, 1, count)
    if abs(gamma * 2.2 - 1) < 0.05:  # what writers put there who mean sRGB
        return 255 * steps
    linear = torch.from_numpy(steps ** (1 / min(max(gamma, 0.1), 10)))
    return 255 * encode(linear).numpy()


@lru_cache(maxsize=16)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """To sRGB; None if the profile is sRGB's own, damaged, or of another kind of pixels."""
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        # What lcms makes of a curve to be fast is too coarse for 16 bits.
        flags = ImageCms.Flags.NOOPTIMIZE if mode == "I;16" else ImageCms.Flags.NONE
        transform = ImageCms.buildTransform(
            source, ImageCms.createProfile("sRGB"), mode, "RGB", flags=flags
        )
    except (ImageCms.PyCMSError, OSError):
        return None
    if mode == "RGB":
        levels = np.linspace(0, 255, 9).round().astype(np.uint8)
        colors = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(27, 27, 3)
        seen = np.asarray(ImageCms.applyTransform(Image.fromarray(colors), transform))
        if np.abs(seen.astype(int) - colors).max() <= _OFF:
            return None
    return transform
