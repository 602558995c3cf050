"""Read a photo from disk: upright, 8-bit RGB, at reduced scale where that is enough."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from colorize.errors import ColorizeError, first_line

PHOTO_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp"))


def find_photos(folder: Path) -> list[Path]:
    """All photos under a folder, by suffix, sorted by their path inside it.

    Links to folders are followed, hidden files and folders are not looked at.

    Raises:
        ColorizeError: there is no such folder, or no photo in it.
    """
    if not folder.is_dir():
        raise ColorizeError(f"{folder}: no such folder; give a folder of photos")
    photos = [path for path in _files(folder) if path.suffix.lower() in PHOTO_SUFFIXES]
    if not photos:
        suffixes = " ".join(sorted(PHOTO_SUFFIXES))
        raise ColorizeError(f"{folder}: no photos in this folder or below it ({suffixes})")
    return sorted(photos, key=lambda p: p.relative_to(folder).as_posix())


def _files(folder: Path) -> Iterator[Path]:
    visited = set()
    for root, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(root)
        if real in visited:  # a link to a folder above
            folders.clear()
            continue
        visited.add(real)
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(root) / name for name in files if not name.startswith("."))


def open_photo(path: Path, at_least: int | None = None) -> Image.Image:
    """Open and decode a photo, turned the way its EXIF says.

    Args:
        path: the file.
        at_least: a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size, as long as its shorter
            side stays above this many pixels. None decodes it whole.

    Raises:
        ColorizeError: the file is missing or is not a photo that Pillow can read.
    """
    try:
        with Image.open(path) as image:
            if at_least is not None:
                image.draft(None, (at_least, at_least))
            image.load()
            ImageOps.exif_transpose(image, in_place=True)  # else even an upright one is copied
            return image
    except FileNotFoundError as error:
        raise ColorizeError(f"{path}: no such file") from error
    # Pillow's decoders raise nearly anything on damaged files (OSError, ValueError, SyntaxError,
    # struct.error, zlib.error, DecompressionBombError ...), so everything is caught here.
    except Exception as error:
        raise ColorizeError(f"{path}: cannot be read as a photo ({first_line(error)})") from error


def open_rgb(path: Path, at_least: int | None = None) -> Image.Image:
    """`open_photo` and `to_rgb`; raises ColorizeError with the file's name if either fails."""
    image = open_photo(path, at_least)
    try:
        return to_rgb(image)
    except (ValueError, OSError) as error:
        raise ColorizeError(f"{path}: mode {image.mode} cannot be read ({error})") from error


def to_rgb(image: Image.Image) -> Image.Image:
    """Any mode to 8-bit RGB. 16-bit grey is scaled down, not clipped; alpha is dropped.

    Raises:
        ValueError: a mode whose range is not known (F), or that Pillow cannot convert.
    """
    if image.mode == "F":
        raise ValueError("float pixels have no known range, save it with 8 or 16 bits")
    if image.mode.startswith("I;16") or image.mode == "I":
        grey = np.asarray(image).astype(np.float32) / 257.0
        image = Image.fromarray(grey.clip(0, 255).round().astype(np.uint8))
    return image if image.mode == "RGB" else image.convert("RGB")


def fit_square(image: Image.Image, size: int) -> Image.Image:
    """Resize (bicubic, antialiased) to cover a square of `size` pixels, and keep its middle.

    This one way of bringing photos to a size serves training, held-out measures and `evaluate`:
    the proportions are kept, what sticks out on the longer side is cut off.
    """
    return ImageOps.fit(image, (size, size), method=Image.Resampling.BICUBIC)
