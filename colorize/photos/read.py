"""Read a photo from disk: upright, 8-bit RGB, at reduced scale where that is enough."""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from colorize.photos.metadata import PNG_MAGIC, file_is_tiff, png_parts, read_metadata
from colorize.photos.pixels import to_rgb, upright
from colorize.photos.tiff import check_size, read_tiff
from colorize.system.errors import ColorizeError, first_line

try:
    import pillow_heif  # an optional package
except ImportError:
    pillow_heif = None
else:
    pillow_heif.register_heif_opener()

_HEIF = (".heic", ".heif")  # read by the optional package pillow-heif
PHOTO_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", *_HEIF)
)
# Photos too, but of kinds that are not read: scans, raw files of cameras, what few programs write.
_OTHERS = """pdf djvu djv eps ps avif jxl jp2 j2k jpf jpx jxr psd psb xcf tga pbm pgm ppm pnm exr
hdr svg ico pcx hif apng jif dib dng cr2 cr3 crw nef nrw arw orf rw2 raf pef srw x3f 3fr raw erf iiq
kdc mrw rwl"""
OTHER_SUFFIXES = frozenset(f".{name}" for name in _OTHERS.split())
# Pillow knows more, and takes what a file is from its first bytes; some of it runs other programs.
_FORMATS = ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF"] + ["HEIF"] * bool(pillow_heif)
# Two gigabytes of memory are enough for these. Pillow warns already at fewer.
MOST_PIXELS = 110_000_000
warnings.simplefilter("ignore", Image.DecompressionBombWarning)


def find_photos(folder: Path, passed_over: list[str] | None = None) -> list[Path]:
    """All photos under a folder, by suffix, sorted by their path inside it.

    Links to folders are followed, hidden files and folders are not looked at.

    Args:
        passed_over: gets a line for each folder that may not be read; without it such a folder is
            an error.

    Raises:
        ColorizeError: there is no such folder, or no photo in it.
    """
    if not folder.is_dir():
        what = "is a file" if folder.is_file() else "no such folder"
        raise ColorizeError(f"{folder}: {what}; give a folder of photos")
    unread: list[str] = []
    files = list(_files(folder, unread))
    photos = [path for path in files if path.suffix.lower() in PHOTO_SUFFIXES]
    if unread and (passed_over is None or not photos):
        raise ColorizeError(unread[0])
    if not photos:
        suffixes = " ".join(sorted(PHOTO_SUFFIXES))
        raise ColorizeError(f"{folder}: no photos in this folder or below it ({suffixes})")
    if passed_over is not None:
        passed_over += [f"{line}; its photos are passed over" for line in unread]
    return sorted(photos, key=lambda p: p.relative_to(folder).as_posix())


def other_kinds(folder: Path) -> str:
    """How many photos under a folder `find_photos` does not take, and which kinds these are.

    Empty if there are none.
    """
    suffixes = [path.suffix.lower() for path in _files(folder, [])]
    others = [suffix for suffix in suffixes if suffix in OTHER_SUFFIXES]
    kinds = " ".join(sorted(set(others)))
    return f"{len(others)} left out, of kinds not read ({kinds})" if others else ""


def _files(folder: Path, unread: list[str]) -> Iterator[Path]:
    def note(error: OSError) -> None:
        unread.append(f"{error.filename}: {error.strerror}")

    visited = set()
    for root, folders, files in os.walk(folder, followlinks=True, onerror=note):
        real = os.path.realpath(root)
        if real in visited:  # a link to a folder above
            folders.clear()
            continue
        visited.add(real)
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(root) / name for name in files if not name.startswith("."))


def photo_pixels(path: Path) -> int | None:
    """How many pixels a file says it has; None if that cannot be told without decoding it."""
    try:
        if stat.S_ISREG(os.stat(path).st_mode):
            with Image.open(path, formats=_FORMATS) as image:
                return image.width * image.height
    except Exception:  # `open_photo` will say what is wrong
        return None
    return None


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
        ColorizeError: the file is missing, too large, or not a photo that can be read.

    Returns:
        A PIL image of the file's mode. `info["deep"]` tells whether it had more than 8 bits,
        `info["pages"]` how many photos are in the file, `info["file_metadata"]` is its `Metadata`,
        `info["pixels"]` how many it has at its full size.
    """
    try:
        state = os.stat(path)
        if not stat.S_ISREG(state.st_mode):
            raise ValueError("not a file")  # of a pipe nobody may ever write to the other end
        if not state.st_size:
            raise ValueError("the file is empty")
        with open(path, "rb") as file:
            return _decode(file, at_least, most_pixels or MOST_PIXELS)
    except FileNotFoundError as error:
        raise ColorizeError(f"{path}: no such file") from error
    except UnidentifiedImageError as error:
        reason = "no kind of photo that is known"
        if path.suffix.lower() in _HEIF and pillow_heif is None:
            reason = "pip install pillow-heif to read HEIC"
        raise ColorizeError(f"{path}: cannot be read as a photo ({reason})") from error
    # Decoders raise nearly anything on damaged files (OSError, ValueError, SyntaxError,
    # struct.error, zlib.error, DecompressionBombError ...), so everything is caught here.
    except Exception as error:
        reason = first_line(error)
        if "truncated" in reason.lower():  # how many bytes were left over says nothing
            reason = "the file is truncated: cut short, or damaged"
        raise ColorizeError(f"{path}: cannot be read as a photo ({reason})") from error


def as_photo(given: Image.Image | str | os.PathLike | np.ndarray) -> Image.Image:
    """What a caller may hand in as a photo, as an upright PIL image.

    Args:
        given: a PIL image of any mode, a path, or a uint8 array: (H, W), (H, W, 1), (H, W, 3), or
            (H, W, 4) with alpha.

    Raises:
        TypeError: it is something else.
        ColorizeError: the file cannot be read, or the image has no pixels.
    """
    if isinstance(given, str | os.PathLike):
        return open_photo(Path(given))
    if isinstance(given, np.ndarray) and given.dtype == np.uint8 and _has_image_shape(given):
        given = Image.fromarray(given[..., 0] if given.shape[2:] == (1,) else given)
    if not isinstance(given, Image.Image):
        what = type(given).__name__
        if hasattr(given, "shape"):
            what += f" of {given.dtype}, shape {tuple(given.shape)}"
        raise TypeError(
            f"a photo is a PIL image, a path, or a uint8 array (H, W) or (H, W, 3), not {what}"
        )
    if not all(given.size):
        raise ColorizeError(
            f"an image of {given.width}x{given.height} pixels has nothing to colour"
        )
    # Of a file that Pillow has opened and not yet decoded: it reads some of them wrong.
    file = getattr(given, "fp", None)
    if getattr(given, "format", None) in ("PNG", "TIFF") and getattr(given, "tile", ()) and file:
        place, page = file.tell(), given.tell()
        try:
            if page == 0 or given.format == "TIFF":
                return _decode(file, None, MOST_PIXELS, page)
        except Exception as error:
            raise ColorizeError(f"the image cannot be read ({first_line(error)})") from error
        finally:
            file.seek(place)
    return upright(given)


def _has_image_shape(array: np.ndarray) -> bool:
    return array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4))


def _decode(file: BinaryIO, at_least: int | None, most_pixels: int, page: int = 0) -> Image.Image:
    if file_is_tiff(file):
        image = read_tiff(file, most_pixels, page)
        image.info["pixels"] = image.width * image.height
        image.info["file_metadata"] = read_metadata(image, file)
        return image
    file, texts, profile = _parts(file)
    image = Image.open(file, formats=_FORMATS)
    check_size(image.size, most_pixels)
    pixels = image.width * image.height
    raw = image.tile[0][3] if image.format == "PNG" and image.tile else None
    if at_least is not None:
        image.draft(None, (at_least, at_least))
    image = _load(image, file)
    image.info["pixels"] = pixels
    if profile:
        image.info["icc_profile"] = profile
    if raw and "transparency" in image.info:
        image.info["transparency"] = _as_loaded(image.info["transparency"], raw)
    # Pillow cuts 16-bit colours to 8 bits while it decodes.
    image.info["deep"] = "16" in str(raw) or image.mode.startswith("I")
    # A phone's second picture is a preview, or a map of what is bright.
    image.info["pages"] = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    image.info["file_metadata"] = read_metadata(image, file, texts)
    ImageOps.exif_transpose(image, in_place=True)  # else even an upright one is copied
    return image


def _parts(file: BinaryIO) -> tuple[BinaryIO, tuple[bytes, ...], bytes | None]:
    file.seek(0)
    start = file.read(len(PNG_MAGIC))
    file.seek(0)
    return png_parts(file) if start == PNG_MAGIC else (file, (), None)


def _load(image: Image.Image, file: BinaryIO) -> Image.Image:
    """Decode; also a JPEG that lacks nothing but the two bytes at its end."""
    try:
        image.load()
    except OSError as error:
        # A number is the system's: the disk, the network.
        if image.format not in ("JPEG", "MPO") or error.errno is not None:
            raise
        if whole := _without_its_end(file):
            return whole
        raise
    return image


def _without_its_end(file: BinaryIO) -> Image.Image | None:
    file.seek(0)
    content = file.read().rstrip(b"\xff")
    # What comes after the last pixel does not matter; in a photo cut short it would.
    whole, other = (
        Image.open(BytesIO(content + more + b"\xff\xd9"), formats=["JPEG"])
        for more in (b"", b"\x5a\xa5\x3c" * 99)
    )
    with suppress(OSError):
        if np.array_equal(np.asarray(whole), np.asarray(other)):
            return whole
    return None


def _as_loaded(see_through: object, raw: object) -> object:
    """A PNG's transparent value as its pixels are after Pillow has scaled them."""
    scale = {"1": 255, "L;2": 85, "L;4": 17}.get(raw)
    if scale and isinstance(see_through, int):
        return min(see_through * scale, 255)
    if raw == "RGB;16B" and isinstance(see_through, tuple):
        return tuple(value >> 8 for value in see_through)
    return see_through


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
