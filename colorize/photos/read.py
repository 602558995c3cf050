"""Read a photo from disk: upright, 8-bit RGB, at reduced scale where that is enough."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from colorize.photos.pixels import to_rgb
from colorize.system.errors import ColorizeError, first_line

try:
    import pillow_heif  # an optional package
except ImportError:
    pillow_heif = None
else:
    pillow_heif.register_heif_opener()

_HEIF = (".heic", ".heif")  # read by the optional package pillow-heif
PHOTO_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", *_HEIF)
)
# Pillow knows more, and takes what a file is from its first bytes; some of it runs other programs.
_FORMATS = ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF"] + ["HEIF"] * bool(pillow_heif)
# Two gigabytes of memory are enough for these. Pillow warns already at fewer.
MOST_PIXELS = 110_000_000
warnings.simplefilter("ignore", Image.DecompressionBombWarning)


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


def open_photo(
    path: Path, at_least: int | None = None, most_pixels: int | None = None
) -> Image.Image:
    """Open and decode a photo, turned the way its EXIF says.

    Args:
        path: the file.
        at_least: a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size, as long as its shorter
            side stays above this many pixels. None decodes it whole.
        most_pixels: larger ones are refused before they are decoded (default: MOST_PIXELS).

    Raises:
        ColorizeError: the file is missing, too large, or not a photo that Pillow can read.

    Returns:
        A PIL image of the file's mode; `info["deep"]` tells whether it had more than 8 bits.
    """
    try:
        with Image.open(path, formats=_FORMATS) as image:
            if image.width * image.height > (limit := most_pixels or MOST_PIXELS):
                raise ValueError(
                    f"{image.width}x{image.height} pixels, more than {limit / 1e6:g} million"
                )
            # Pillow cuts 16-bit colours to 8 bits while it decodes.
            deep = any("16" in str(tile.args) for tile in getattr(image, "tile", ()))
            if at_least is not None:
                image.draft(None, (at_least, at_least))
            image.load()
            ImageOps.exif_transpose(image, in_place=True)  # else even an upright one is copied
            image.info["deep"] = deep or image.mode.startswith("I")
            return image
    except FileNotFoundError as error:
        raise ColorizeError(f"{path}: no such file") from error
    except UnidentifiedImageError as error:
        reason = "no kind of photo that is known"
        if path.suffix.lower() in _HEIF and pillow_heif is None:
            reason = "pip install pillow-heif to read HEIC"
        raise ColorizeError(f"{path}: cannot be read as a photo ({reason})") from error
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


def fit_square(image: Image.Image, size: int) -> Image.Image:
    """Resize (bicubic, antialiased) to cover a square of `size` pixels, and keep its middle.

    This one way of bringing photos to a size serves training, held-out measures and `evaluate`:
    the proportions are kept, what sticks out on the longer side is cut off.
    """
    return ImageOps.fit(image, (size, size), method=Image.Resampling.BICUBIC)
