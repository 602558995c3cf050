"""Any photo file out: whole, with what the photo it was made from says beside its pixels."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

from PIL import Image

from colorize.photos.metadata import Metadata, add_to_jpeg, add_to_png, fits, tiff_exif
from colorize.system.files import write_whole


def result_name(photo: Path) -> Path:
    """The name of a photo's result: its own, but a GIF's 256 colours would be too few."""
    return photo.with_suffix(".png") if photo.suffix.lower() == ".gif" else photo


def save_photo(image: Image.Image, path: Path, like: Image.Image | None = None) -> list[str]:
    """Write a photo, whole, as its suffix says.

    Args:
        like: the photo that it was made from, by `open_photo`; its metadata is carried over.

    Returns:
        What is lost of the photo, because a file of this kind does not hold it.
    """
    kind = Image.registered_extensions()[path.suffix.lower()]
    lost = []
    if kind in ("JPEG", "BMP") and image.mode != "RGB":  # else it would be copied
        if image.mode == "RGBA" and image.getchannel("A").getextrema() != (255, 255):
            lost.append("transparency")
        image = image.convert("RGB")  # these hold no transparency
    options = {"TIFF": {"compression": "tiff_deflate"}}.get(kind, {"quality": 95})
    if kind == "JPEG":
        options["subsampling"] = 0  # colour as sharp as lightness
        options["xmp"] = b""  # it is added below; Pillow 11.0 would take it from `image`
    metadata = Metadata()
    if like is not None:
        metadata, left_out = fits(like.info.get("file_metadata", metadata), kind)
        lost += left_out
        options |= _options(metadata, kind)
    # Not into the file: on a full disk Pillow leaves half a JPEG there without a word.
    image.save(encoded := BytesIO(), kind, **options)
    content = encoded.getbuffer()
    if add := {"JPEG": add_to_jpeg, "PNG": add_to_png}.get(kind):
        content = add(encoded.getvalue(), metadata)
    with write_whole(path) as temporary:
        temporary.write_bytes(content)
    return lost


def _options(metadata: Metadata, kind: str) -> dict[str, object]:
    """Metadata as options for saving."""
    options: dict[str, object] = {}
    if kind == "TIFF":
        if metadata.exif or metadata.xmp or metadata.iptc:  # Pillow cannot compress it with them
            options = {"exif": tiff_exif(metadata), "compression": None}
    elif metadata.exif:
        options["exif"] = metadata.exif
    if metadata.xmp and kind in ("WEBP", "HEIF"):
        options["xmp"] = metadata.xmp
    # A JPEG's own field holds 16 bits; what EXIF says stays.
    if metadata.dpi and not (kind == "JPEG" and max(metadata.dpi) > 65535):
        options["dpi"] = metadata.dpi
    return options
