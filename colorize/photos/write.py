"""Any photo file out: whole, with the EXIF and resolution of the photo it was made from."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

from PIL import Image

from colorize.system.files import write_whole

# What is carried over to the result. Not the preview that a camera puts in: it has no colours.
_EXIF_TAGS = (0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x8298)  # description ... copyright
_EXIF_PARTS = (0x8769, 0x8825)  # how the photo was taken, and where
_EXIF_MOST = 60_000  # bytes; a JPEG holds little more


def result_name(photo: Path) -> Path:
    """The name of a photo's result: its own, but a GIF's 256 colours would be too few."""
    return photo.with_suffix(".png") if photo.suffix.lower() == ".gif" else photo


def save_photo(image: Image.Image, path: Path, like: Image.Image | None = None) -> None:
    """Write a photo, whole, as its suffix says.

    Args:
        like: the photo that it was made from, whose EXIF and resolution it gets.
    """
    kind = path.suffix.lower()
    if kind in (".jpg", ".jpeg", ".bmp") and image.mode != "RGB":  # else it would be copied
        image = image.convert("RGB")  # these hold no transparency
    options = {"quality": 95}
    if kind in (".jpg", ".jpeg"):
        options["subsampling"] = 0  # colour as sharp as lightness
    elif kind in (".tif", ".tiff"):
        options = {"compression": "tiff_deflate"}
    if like is not None:
        options |= _carried_over(like)
        if "exif" in options:  # which Pillow cannot put into a compressed TIFF
            options.pop("compression", None)
    # Not into the file: on a full disk Pillow leaves half a JPEG there without a word.
    image.save(encoded := BytesIO(), Image.registered_extensions()[kind], **options)
    with write_whole(path) as temporary:
        temporary.write_bytes(encoded.getbuffer())


def _carried_over(photo: Image.Image) -> dict[str, object]:
    """EXIF, without an orientation, and resolution, as options for saving."""
    options = {}
    try:
        old, new = photo.getexif(), Image.Exif()
        new.update({tag: old[tag] for tag in _EXIF_TAGS if tag in old})
        for part in _EXIF_PARTS:
            new.get_ifd(part).update(old.get_ifd(part))
        exif = new.tobytes()
        if any((len(new), *(new.get_ifd(part) for part in _EXIF_PARTS))) and len(exif) < _EXIF_MOST:
            options["exif"] = exif
        resolution = photo.info.get("dpi")
        if resolution and all(0 < float(value) < 1e5 for value in resolution):
            options["dpi"] = tuple(float(value) for value in resolution)
    except Exception:  # a photo is worth more than its damaged metadata
        return {}
    return options
