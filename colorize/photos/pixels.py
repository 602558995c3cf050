"""Pixels of any mode to upright 8-bit sRGB: deep greys, palettes, CMYK, Lab, colour profiles."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageOps

_PROFILED = ("RGB", "L", "CMYK")  # modes that a colour profile may describe


def upright(image: Image.Image) -> Image.Image:
    """The image turned the way its EXIF says; itself, not a copy, if it need not be turned."""
    turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
    return ImageOps.exif_transpose(image) if turned else image


def to_rgb(image: Image.Image) -> Image.Image:
    """A PIL image of any mode to 8-bit sRGB; alpha is dropped.

    16-bit grey is scaled down, not clipped. Float pixels are taken as 0 to 1. Pixels with a colour
    profile are converted to sRGB by it.

    Raises:
        ValueError: float pixels outside 0 to 1, or a mode that Pillow cannot convert.
    """
    if image.mode == "F":
        image = _from_float(image)
    elif image.mode.startswith("I"):
        grey = np.asarray(image).astype(np.float32) / 257.0
        image = Image.fromarray(grey.clip(0, 255).round().astype(np.uint8))
    elif image.mode == "LAB":
        return ImageCms.profileToProfile(
            image, ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    elif image.mode in ("La", "RGBa"):  # alpha is multiplied in
        image = image.convert(image.mode.upper())
    if image.mode in ("1", "LA"):
        image = image.convert("L")
    elif image.mode not in _PROFILED:
        image = image.convert("RGB")
    if profile := image.info.get("icc_profile"):
        image = _by_profile(image, profile)
    return image if image.mode == "RGB" else image.convert("RGB")


def _from_float(image: Image.Image) -> Image.Image:
    grey = np.asarray(image)
    low, high = float(grey.min()), float(grey.max())
    if not (low >= 0 and high <= 1):  # so written, NaN is refused as well
        raise ValueError(
            f"float pixels from {low:g} to {high:g} have no known range; scale them to 0 to 1, or "
            "save the photo with 8 or 16 bits"
        )
    return Image.fromarray((grey * 255).round().astype(np.uint8))


def _by_profile(image: Image.Image, profile: bytes) -> Image.Image:
    """Convert to sRGB; as it is if the profile is damaged or of another kind of pixels."""
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(source).lower():
            return image
        target = ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(image, source, target, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        return image
