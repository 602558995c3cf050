"""What a photo's file says beside its pixels, byte by byte: EXIF, XMP, IPTC, comments, texts."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, fields
from io import BytesIO
from typing import BinaryIO

from PIL import ExifTags, Image

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_XMP_TEXT = b"XML:com.adobe.xmp\0"
_EXIF_TEXTS = (b"Raw profile type exif\0", b"Raw profile type APP1\0")  # ImageMagick's
_MOST_TEXT = 2**20  # bytes, unpacked, that Pillow takes in a chunk
_MOST_PROFILE = 2**24
_MOST_TEXTS = 2**26  # bytes of all, packed; the rest is lost
# A JPEG's segment holds 65,533 bytes.
_MOST_IN_SEGMENT = 65_000

_EXIF = b"Exif\0\0"
_EXTENDED_XMP = b"http://ns.adobe.com/xmp/extension/\0"
_EXIF_PARTS = (0x8769, 0x8825)  # how the photo was taken, and where
# Of a TIFF what describes the photo; the rest describes how its pixels lie in the file.
_TIFF_TAGS = (
    *(0x010D, 0x010E, 0x010F, 0x0110, 0x011D, 0x0131, 0x0132, 0x013B, 0x013C),  # name ... host
    *(0x4746, 0x4749, 0x8298, 0x9C9B, 0x9C9C, 0x9C9D, 0x9C9E, 0x9C9F),  # rating, copyright, title
    *_EXIF_PARTS,
)
_TIFF_XMP, _TIFF_IPTC = 0x02BC, 0x83BB
_ORIENTATION = re.compile(rb"""(tiff:Orientation(?:\s*=\s*["']|>\s*))[2-8]""")


@dataclass(frozen=True)
class Metadata:
    """Of one photo. Nothing in it turns the photo: its pixels are upright."""

    exif: bytes = b""  # begins with "Exif", two zeros
    xmp: bytes = b""
    iptc: bytes = b""  # records, without what surrounds them in a file
    extended_xmp: tuple[bytes, ...] = ()  # of a JPEG: segments, whole, of what was too long for one
    comment: bytes = b""
    texts: tuple[bytes, ...] = ()  # of a PNG: its chunks, whole
    dpi: tuple[float, float] | None = None

    def __bool__(self) -> bool:
        return any(getattr(self, field.name) for field in fields(self))


def read_metadata(image: Image.Image, file: BinaryIO, texts: tuple[bytes, ...] = ()) -> Metadata:
    """What is there, of an image not turned yet (but a TIFF's); what is damaged is left out."""
    kind, info = image.format, image.info
    found = {"dpi": _resolution(info.get("dpi"))}
    with suppress(Exception):  # a photo is worth more than its damaged metadata
        if kind == "TIFF" or file_is_tiff(file):
            found |= _of_tiff(file)
        else:
            found["exif"] = _of_exif(image)
    with suppress(Exception):
        found.setdefault("iptc", (info.get("photoshop") or {}).get(0x0404, b""))
    xmp = info.get("xmp") or found.get("xmp") or info.get("XML:com.adobe.xmp") or b""
    xmp = xmp.encode() if isinstance(xmp, str) else bytes(xmp)
    found["xmp"] = _ORIENTATION.sub(rb"\g<1>1", xmp)
    found["extended_xmp"] = tuple(
        content
        for name, content in getattr(image, "applist", ())
        if name == "APP1" and content.startswith(_EXTENDED_XMP)
    )
    comment = info.get("comment") or b""
    found["comment"] = comment if isinstance(comment, bytes) else b""
    return Metadata(texts=tuple(filter(None, map(_upright_text, texts))), **found)


def file_is_tiff(file: BinaryIO) -> bool:
    """Whether a file begins as a TIFF does."""
    file.seek(0)
    return file.read(4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def _resolution(dpi: object) -> tuple[float, float] | None:
    with suppress(TypeError, ValueError, ZeroDivisionError):
        across, down = (float(value) for value in dpi)
        if 0 < across < 1e6 and 0 < down < 1e6:  # so written, NaN is refused as well
            return across, down
    return None


def _of_exif(image: Image.Image) -> bytes:
    """The bytes as they are, but upright and without the preview, which has no colours."""
    raw = image.info.get("exif") or b""
    if not raw and "Raw profile type exif" in image.info:
        raw = image.getexif().tobytes()
    block = bytearray(raw.removeprefix(_EXIF))
    order = {b"II*\0": "<", b"MM\0*": ">"}[bytes(block[:4])]
    (start,) = struct.unpack_from(f"{order}I", block, 4)
    (count,) = struct.unpack_from(f"{order}H", block, start)
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind = struct.unpack_from(f"{order}HH", block, entry)
        if tag == ExifTags.Base.Orientation and kind == 3:
            struct.pack_into(f"{order}H", block, entry + 8, 1)
    end = start + 2 + 12 * count
    (preview,) = struct.unpack_from(f"{order}I", block, end)
    struct.pack_into(f"{order}I", block, end, 0)
    return _EXIF + bytes(_without_preview(block, preview, order))


def _without_preview(block: bytearray, directory: int, order: str) -> bytearray:
    """Cut it off where it is the last thing in the block, as cameras write it."""
    if not 0 < directory < len(block):
        return block
    (count,) = struct.unpack_from(f"{order}H", block, directory)
    place = {}
    for entry in range(directory + 2, directory + 2 + 12 * count, 12):
        tag, _, _, value = struct.unpack_from(f"{order}HHII", block, entry)
        place[tag] = value
    start, length = place.get(0x0201, 0), place.get(0x0202, 0)
    if start > directory and start + length + 1 >= len(block):
        del block[start:]
    return block


def _of_tiff(file: BinaryIO) -> dict[str, bytes]:
    file.seek(0)
    old = Image.Exif()
    old.load_from_fp(file)
    new = _portable(old)
    found = {"xmp": old.get(_TIFF_XMP) or b"", "iptc": old.get(_TIFF_IPTC) or b""}
    found = {name: value for name, value in found.items() if isinstance(value, bytes)}
    if len(new):
        found["exif"] = new.tobytes()
    return found


def _portable(old: Image.Exif) -> Image.Exif:
    """What describes the photo, and not how its pixels lie in a file."""
    new = Image.Exif()
    for tag in _TIFF_TAGS:
        if tag in _EXIF_PARTS:
            if part := old.get_ifd(tag):
                new.get_ifd(tag).update(_as_bytes(part))
                new[tag] = new.get_ifd(tag)  # Pillow 10 forgets the line above, 12 needs it
        elif tag in old:
            new.update(_as_bytes({tag: old[tag]}))
    return new


def _as_bytes(tags: dict[int, object]) -> dict[int, object]:
    """Pillow reads texts as Latin-1 and writes question marks for what is not ASCII."""
    return {
        tag: value.encode("latin-1") if isinstance(value, str) and not value.isascii() else value
        for tag, value in tags.items()
    }


def tiff_exif(metadata: Metadata) -> Image.Exif:
    """EXIF, XMP and IPTC as tags that Pillow writes into a TIFF."""
    old, new = Image.Exif(), Image.Exif()
    with suppress(Exception):
        old.load(metadata.exif)
        new = _portable(old)
    if metadata.xmp:
        new[_TIFF_XMP] = metadata.xmp
    if metadata.iptc:
        new[_TIFF_IPTC] = metadata.iptc
    return new


def add_to_jpeg(encoded: bytes, metadata: Metadata) -> bytes:
    """Put XMP, IPTC and a comment behind what a JPEG begins with."""
    segments = b""
    if metadata.xmp:
        segments += _segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + metadata.xmp)
    for part in metadata.extended_xmp:
        segments += _segment(0xE1, part)
    if metadata.iptc:
        odd = b"\0" * (len(metadata.iptc) % 2)
        header = struct.pack(">4sHHI", b"8BIM", 0x0404, 0, len(metadata.iptc))
        segments += _segment(0xED, b"Photoshop 3.0\0" + header + metadata.iptc + odd)
    if metadata.comment:
        segments += _segment(0xFE, metadata.comment)
    place = 2
    while encoded[place : place + 2] in (b"\xff\xe0", b"\xff\xe1"):  # JFIF and EXIF come first
        place += 2 + int.from_bytes(encoded[place + 2 : place + 4], "big")
    return encoded[:place] + segments + encoded[place:]


def _segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def add_to_png(encoded: bytes, metadata: Metadata) -> bytes:
    """Put texts, XMP and a comment behind a PNG's header."""
    texts = list(metadata.texts)
    if metadata.xmp and not any(_XMP_TEXT in text[:40] for text in texts):
        texts.append(_chunk(b"iTXt", _XMP_TEXT + b"\0\0\0\0" + metadata.xmp))
    if metadata.comment:
        texts.append(_chunk(b"tEXt", b"Comment\0" + metadata.comment.replace(b"\0", b" ")))
    header = len(PNG_MAGIC) + 25
    return encoded[:header] + b"".join(texts) + encoded[header:]


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum


def fits(metadata: Metadata, kind: str) -> tuple[Metadata, list[str]]:
    """The part that a file of a kind holds (Pillow's name of it), and names of what is lost."""
    holds = {
        "JPEG": ("exif", "xmp", "extended_xmp", "iptc", "comment", "dpi"),
        "PNG": ("exif", "xmp", "comment", "texts", "dpi"),
        "TIFF": ("exif", "xmp", "iptc", "dpi"),
        "WEBP": ("exif", "xmp"),
        "HEIF": ("exif", "xmp"),
        "BMP": ("dpi",),
    }[kind]
    kept, lost = {}, []
    names = {
        "exif": "EXIF",
        "xmp": "XMP",
        "extended_xmp": "extended XMP",
        "iptc": "IPTC",
        "dpi": "resolution",
    }
    for field in fields(metadata):
        if not (value := getattr(metadata, field.name)):
            continue
        too_long = kind == "JPEG" and isinstance(value, bytes) and len(value) > _MOST_IN_SEGMENT
        if field.name == "dpi":  # whole dots in 16 bits
            too_long = (kind == "JPEG" and max(value) > 65535) and not metadata.exif
        # PNG's texts hold XMP too.
        if field.name in holds and not too_long:
            kept[field.name] = value
        elif not (field.name == "texts" and all(_XMP_TEXT in text[:40] for text in value)):
            lost.append(names.get(field.name, field.name))
    return Metadata(**kept), lost


def png_parts(file: BinaryIO) -> tuple[BinaryIO, tuple[bytes, ...], bytes | None]:
    """Take out of a PNG what Pillow would refuse the whole photo for.

    Returns:
        The file, or a copy without such chunks; its texts, as whole chunks; its colour profile if
        that had to be taken out.
    """
    texts, left_out, profile = [], [], None
    for kind, start, length in _chunks(file):
        if kind not in (*_TEXTS, b"iCCP") or sum(map(len, texts)) + length > _MOST_TEXTS:
            continue
        file.seek(start)
        whole = file.read(length + 12)
        if kind == b"iCCP":
            if len(_unpacked(kind, whole[8:-4], _MOST_TEXT)) >= _MOST_TEXT:
                profile = _unpacked(kind, whole[8:-4], _MOST_PROFILE)
                left_out.append((start, start + length + 12))
            continue
        texts.append(whole)
        if len(_unpacked(kind, whole[8:-4], _MOST_TEXT)) >= _MOST_TEXT:
            left_out.append((start, start + length + 12))
    if left_out:
        file.seek(0)
        content = file.read()
        starts, ends = [0, *(end for _, end in left_out)], [*(s for s, _ in left_out), len(content)]
        parts = zip(starts, ends, strict=True)
        file = BytesIO(b"".join(content[start:end] for start, end in parts))
    file.seek(0)
    return file, tuple(texts), profile


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and length of a PNG's chunks."""
    start = len(PNG_MAGIC)
    while True:
        file.seek(start)
        header = file.read(8)
        if len(header) < 8 or header[4:] == b"IEND":
            return
        length = int.from_bytes(header[:4], "big")
        yield header[4:], start, length
        start += length + 12


def _unpacked(kind: bytes, content: bytes, most: int) -> bytes:
    """The text or the profile in a chunk, up to so many bytes of it; nothing if it is damaged."""
    _, _, packed = content.partition(b"\0")
    if kind == b"tEXt" or (kind == b"iTXt" and packed[:1] == b"\0"):
        return packed[:most]
    packed = packed[2:].split(b"\0", 2)[-1] if kind == b"iTXt" else packed[1:]
    with suppress(zlib.error):
        return zlib.decompressobj().decompress(packed, most)
    return b""


def _upright_text(chunk: bytes) -> bytes:
    """A text chunk that does not turn the photo; EXIF in it is kept another way."""
    kind, content = chunk[4:8], chunk[8:-4]
    if content.startswith(_EXIF_TEXTS) or chunk[-4:] != struct.pack(
        ">I", zlib.crc32(kind + content)
    ):
        return b""
    return _chunk(kind, _ORIENTATION.sub(rb"\g<1>1", content))
