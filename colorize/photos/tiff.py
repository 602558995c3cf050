"""TIFF, whose pixels come in more ways than Pillow reads rightly; tifffile reads the others."""

from __future__ import annotations

import importlib.util
import logging
import os
from itertools import islice
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageOps
from PIL.TiffImagePlugin import COMPRESSION_INFO

from colorize.photos.pixels import to_rgb
from colorize.system.errors import first_line

if TYPE_CHECKING:
    import tifffile  # takes half a second, and most photos are none

_MOST_BYTES = 2**30  # of the pixels as they lie in the file; what is made of them is smaller
_MOST_PAGES = 1000  # are counted
_ROWS = 256
# Compressions that tifffile undoes without the imagecodecs package.
_NONE, _DEFLATE, _PACKBITS = 1, (8, 32946), 32773
# Pillow's names have WebP, but it comes without.
_BY_PILLOW = set(COMPRESSION_INFO) - {50001}
_GREY, _RGB = (0, 1), 2  # photometric interpretations; 0 is grey with white at zero
_UINT, _FLOAT = 1, 3  # sample formats
_PROFILE, _RESOLUTION = 34675, (282, 283)
_KINDS = {1: "whole-number", 2: "signed", 3: "float"}

logging.getLogger("tifffile").addHandler(logging.NullHandler())  # else it writes to the terminal


def read_tiff(file: BinaryIO, most_pixels: int, page: int = 0) -> Image.Image:
    """Decode a page, upright; of a file that begins with a preview the first one of full size.

    Returns:
        Mode I;16, white at 65535, for grey of more than 8 bits; else what has 8 bits.
        `info["pages"]` counts the pages of full size, `info["deep"]` tells of more than 8 bits.

    Raises:
        ValueError: it is too large, or has pixels that cannot be read; says which.
        Exception: whatever Pillow and tifffile raise at damaged files.
    """
    import tifffile

    file.seek(0)
    with tifffile.TiffFile(file) as tiff:
        shown = tiff.pages[page]
        if page == 0 and shown.is_reduced:
            page, shown = _past_preview(tiff)
        size = (shown.imagewidth, shown.imagelength)
        check_size(size, most_pixels)
        bits = shown.bitspersample
        deep = not isinstance(bits, int) or bits > 8
        apart = shown.planarconfig == 2 and shown.samplesperpixel > 1
        foreign = page is None or shown.compression not in _BY_PILLOW
        # libtiff passes over the predictor there, and gives differences for pixels.
        foreign |= shown.compression == _PACKBITS and shown.predictor != 1
        if (deep or apart or foreign) and _tifffile_can(shown):
            image = _turned(_from_samples(_samples(shown, file), shown), shown)
        elif foreign:
            raise ValueError(_unread(shown))
        elif deep:
            image = _deep_by_pillow(file, page, shown)
        else:
            image = _by_pillow(file, page, shown)
        pages = islice(tiff.pages, _MOST_PAGES)
        image.info["pages"] = max(1, sum(not (p.is_reduced or p.is_mask) for p in pages))
    image.info["deep"] = deep
    if not all(tag in shown.tags for tag in _RESOLUTION):
        image.info.pop("dpi", None)  # Pillow makes one up
    return image


def check_size(size: tuple[int, int], most_pixels: int) -> None:
    """Raises ValueError if an image has more pixels than that, or none."""
    width, height = size
    if width * height < 1:
        raise ValueError(f"{width}x{height} pixels")
    if width * height > most_pixels:
        raise ValueError(f"{width}x{height} pixels, more than {most_pixels / 1e6:g} million")


def _past_preview(tiff: tifffile.TiffFile) -> tuple[int | None, tifffile.TiffPage]:
    """The first page of full size, and its number; inside the preview's own pages it has none."""
    for number, page in enumerate(islice(tiff.pages, _MOST_PAGES)):
        if not (page.is_reduced or page.is_mask):
            return number, page
    for page in islice(tiff.pages[0].pages or (), _MOST_PAGES):
        if not (page.is_reduced or page.is_mask):
            return None, page
    return 0, tiff.pages[0]


def _by_pillow(file: BinaryIO, number: int, page: tifffile.TiffPage) -> Image.Image:
    file.seek(0)
    try:
        image = Image.open(file, formats=["TIFF"])
        if number:
            image.seek(number)
        image.load()  # turns it as well
    except Exception as error:
        if getattr(error, "errno", None) is not None:  # the disk, the network
            raise
        raise ValueError(_unread(page, error)) from error
    return image


def _tifffile_can(page: tifffile.TiffPage) -> bool:
    plain = page.compression in (_NONE, *_DEFLATE, _PACKBITS) and page.predictor in (1, 2)
    whole = page.bitspersample in (8, 16, 32, 64) and page.fillorder == 1
    return _is_plain_photo(page) and (
        (plain and whole) or importlib.util.find_spec("imagecodecs") is not None
    )


def _is_plain_photo(page: tifffile.TiffPage) -> bool:
    """Whether its samples, decompressed, are understood."""
    return (
        page.photometric in (*_GREY, _RGB)
        and page.sampleformat in (_UINT, _FLOAT)
        and page.imagedepth == 1
    )


def _deep_by_pillow(file: BinaryIO, number: int, page: tifffile.TiffPage) -> Image.Image:
    """What only Pillow can decompress, as far as it reads it rightly."""
    bits, samples = page.bitspersample, page.samplesperpixel
    grey = page.photometric in _GREY and samples == 1
    float32 = grey and (bits, page.sampleformat) == (32, _FLOAT)
    whole = page.sampleformat == _UINT and (
        (grey and bits in (12, 16))
        or (bits == 16 and page.planarconfig == 1 and page.photometric in (_RGB, 5))
    )
    if not (float32 or whole):
        raise ValueError(_unread(page))
    image = _by_pillow(file, number, page)
    if not grey:
        return image
    upright = _grey(_to_16_bit(np.asarray(image), page), page)
    upright.info = image.info
    return upright


def _unread(page: tifffile.TiffPage, damaged: Exception | None = None) -> str:
    kind = _KINDS.get(page.sampleformat, "complex")
    names = []
    for value in (page.photometric, page.compression):
        names.append(getattr(value, "name", str(value)).lower())
    apart = ", planes apart" if page.planarconfig == 2 and page.samplesperpixel > 1 else ""
    text = f"TIFF of {page.bitspersample}-bit {kind} {names[0]}{apart}, compression {names[1]}"
    if damaged is not None:
        text += f" ({first_line(damaged)})"
    elif _is_plain_photo(page) and importlib.util.find_spec("imagecodecs") is None:
        text += "; pip install imagecodecs may help"
    return text


def _samples(page: tifffile.TiffPage, file: BinaryIO) -> np.ndarray:
    """(height, width, samples) as they lie in the file."""
    if page.nbytes > _MOST_BYTES:
        raise ValueError(f"{page.nbytes} bytes of pixels, more than {_MOST_BYTES}")
    end = file.seek(0, os.SEEK_END)
    # tifffile takes what is missing for black.
    parts = list(zip(page.dataoffsets, page.databytecounts, strict=False))
    whole = len(page.dataoffsets) == len(page.databytecounts) == np.prod(page.chunked)
    if not whole and not (page.is_contiguous and len(parts) == 1):
        raise ValueError("a part of its pixels is missing")
    if any(count <= 0 or start + count > end for start, count in parts):
        raise ValueError("it is cut short")
    try:
        # (planes, depth, height, width, chunky)
        samples = page.asarray(squeeze=False, maxworkers=1)
    except MemoryError:
        raise
    except Exception as error:  # nearly any
        raise ValueError(_unread(page, error)) from error
    planes, _, height, width, chunky = samples.shape
    if planes > 1:
        return np.moveaxis(samples.reshape(planes, height, width), 0, -1)
    return samples.reshape(height, width, chunky)


def _from_samples(samples: np.ndarray, page: tifffile.TiffPage) -> Image.Image:
    colors = 3 if page.photometric == _RGB else 1
    if samples.shape[-1] < colors:
        raise ValueError(_unread(page))
    extra = page.extrasamples
    opaque = None
    if samples.shape[-1] > colors and extra and extra[0] in (1, 2):
        opaque = _to_16_bit(samples[..., colors], page)
    planes = [_to_16_bit(samples[..., i], page) for i in range(colors)]
    if opaque is not None and extra[0] == 1:  # multiplied in
        share = np.maximum(opaque, 1) / np.float32(65535)
        planes = [np.minimum(plane / share, 65535).astype(np.uint16) for plane in planes]
    profile = page.tags.valueof(_PROFILE)
    if colors == 1:
        image = _grey(planes[0], page)
    else:
        image = Image.merge("RGB", [Image.fromarray(_to_8_bit(plane)) for plane in planes])
    if isinstance(profile, bytes):
        image.info["icc_profile"] = profile
    if opaque is not None:
        if colors == 1:  # Pillow knows no deep grey with alpha
            image = to_rgb(image).convert("L")
        image.putalpha(Image.fromarray(_to_8_bit(opaque)))
    return image


def _grey(grey: np.ndarray, page: tifffile.TiffPage) -> Image.Image:
    return Image.fromarray(65535 - grey if page.photometric == 0 else grey)


def _to_16_bit(plane: np.ndarray, page: tifffile.TiffPage) -> np.ndarray:
    """Samples (height, width) as native uint16, white at 65535."""
    if page.sampleformat == _FLOAT:
        low, high = float(plane.min()), float(plane.max())
        if not (low >= 0 and high <= 1):  # so written, NaN is refused as well
            raise ValueError(
                f"float pixels from {low:g} to {high:g} have no known range; scale them to 0 to 1, "
                "or save the photo with 8 or 16 bits"
            )
        scale = 65535.0
    elif page.bitspersample == 16:
        return plane.astype(np.uint16)
    else:
        scale = 65535 / (2.0**page.bitspersample - 1)
    deep = np.empty(plane.shape, np.uint16)
    for top in range(0, len(plane), _ROWS):  # in parts: as doubles all of it would fill the memory
        rows = slice(top, top + _ROWS)
        deep[rows] = (plane[rows].astype(np.float64) * scale).round()
    return deep


def _to_8_bit(plane: np.ndarray) -> np.ndarray:
    return (np.arange(65536) / 257).round().astype(np.uint8)[plane]


def _turned(image: Image.Image, page: tifffile.TiffPage) -> Image.Image:
    image.getexif()[ExifTags.Base.Orientation] = page.tags.valueof(ExifTags.Base.Orientation, 1)
    return ImageOps.exif_transpose(image)
