"""What a file says beside its pixels is carried over byte by byte, or its loss is named."""

import struct
import zlib

import numpy as np
import pytest
from conftest import scene
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from colorize.photos.read import open_photo
from colorize.photos.write import save_photo

XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><dc:title>Grandmother 1931</dc:title></x:xmpmeta>'
TURNED = b'<x:xmpmeta tiff:Orientation="6"><tiff:Orientation>6</tiff:Orientation></x:xmpmeta>'
IPTC = b"\x1c\x02x\x00\x0bGrandmother\x1c\x02\x19\x00\x06family"
TEXT = "Großmutter 祖母".encode()
LATIN = "© Maß".encode("latin-1")


def raw_exif(order="<", orientation=1, more=()):
    """An EXIF block with texts in any bytes, and a maker's note that counts from its start."""
    texts = [(0x010E, 2, TEXT + b"\0"), (0x8298, 2, LATIN + b"\0"), *more]
    entries = len(texts) + 1
    place = 8 + 2 + 12 * entries + 4
    head = struct.pack(f"{order}2sHIH", b"II" if order == "<" else b"MM", 42, 8, entries)
    content = b""
    rows = [(0x0112, struct.pack(f"{order}HHIHH", 0x0112, 3, 1, orientation, 0))]
    for tag, kind, text in texts:
        rows.append((tag, struct.pack(f"{order}HHII", tag, kind, len(text), place + len(content))))
        content += text + b"\0" * (len(text) % 2)
    table = b"".join(row for _, row in sorted(rows))
    return b"Exif\0\0" + head + table + b"\0" * 4 + content


def written(tmp_path, source, target=None):
    photo = open_photo(source)
    path = tmp_path / "out" / (target or source.name)
    return path, save_photo(photo, path, like=photo)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".heic"])
def test_exif_is_kept_to_the_byte_but_for_what_turns_the_photo(tmp_path, suffix, order):
    path = tmp_path / f"a{suffix}"
    Image.fromarray(scene(0, 60, 40)).save(path, exif=raw_exif(order, 6))
    result, lost = written(tmp_path, path)
    assert lost == []
    with Image.open(result) as image:
        kept = image.info["exif"]
        assert image.size == (40, 60)
    assert kept.removeprefix(b"Exif\0\0") == raw_exif(order, 1).removeprefix(b"Exif\0\0")


@pytest.mark.parametrize(("suffix", "kept"), [(".jpg", True), (".jpeg", True), (".webp", False)])
def test_xmp_that_needs_several_segments(tmp_path, suffix, kept):
    """Where XMP is longer than a segment, a JPEG has the rest in segments of another name."""
    head = b"http://ns.adobe.com/xmp/extension/\0"
    parts = [head + bytes([i]) * 60_000 for i in range(3)]
    segments = b"".join(b"\xff\xe1" + struct.pack(">H", len(p) + 2) + p for p in parts)
    Image.fromarray(scene(0, 60, 40)).save(tmp_path / "a.jpg", xmp=XMP)
    plain = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(plain[:2] + segments + plain[2:])
    result, lost = written(tmp_path, tmp_path / "a.jpg", f"a{suffix}")
    with Image.open(result) as image:
        assert image.info["xmp"] == XMP
        found = [c for _, c in getattr(image, "applist", ()) if c.startswith(head)]
    assert found == (parts if kept else [])
    assert lost == ([] if kept else ["extended XMP"])


def test_texts_of_a_tiff_keep_their_bytes(tmp_path):
    tags = ImageFileDirectory_v2()
    tags[0x010E], tags[0x8298] = TEXT, LATIN
    tags[700], tags[33723] = XMP, IPTC
    path = tmp_path / "a.tif"
    Image.fromarray(scene(0)).save(path, tiffinfo=tags)
    for target in ("a.tif", "a.jpg"):
        result, lost = written(tmp_path, path, target)
        assert lost == []
        content = result.read_bytes()
        for text in (TEXT, LATIN, XMP, IPTC):
            assert text in content


def test_the_preview_of_a_camera_is_left_out(tmp_path):
    exif = bytearray(raw_exif()[6:])
    (count,) = struct.unpack_from("<H", exif, 8)
    struct.pack_into("<I", exif, 10 + 12 * count, len(exif))
    preview = b"\xff\xd8 a grey preview \xff\xd9"
    start = len(exif) + 2 + 24 + 4
    exif += struct.pack("<H", 2) + struct.pack("<HHII", 0x0201, 4, 1, start)
    exif += struct.pack("<HHII", 0x0202, 4, 1, len(preview)) + b"\0" * 4 + preview
    Image.fromarray(scene(0)).save(tmp_path / "a.jpg", exif=b"Exif\0\0" + exif)
    result, _ = written(tmp_path, tmp_path / "a.jpg")
    assert b"a grey preview" not in result.read_bytes()
    with Image.open(result) as image:
        assert image.getexif()[0x8298]


def jpeg_with(path, *segments):
    Image.fromarray(scene(0)).save(path)
    whole = path.read_bytes()
    added = b"".join(struct.pack(">BBH", 0xFF, m, len(c) + 2) + c for m, c in segments)
    path.write_bytes(whole[:2] + added + whole[2:])


def test_iptc_xmp_and_a_comment_of_a_jpeg(tmp_path):
    iptc = b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0" + struct.pack(">I", len(IPTC)) + IPTC
    iptc += b"\0" * (len(IPTC) % 2)
    xmp = b"http://ns.adobe.com/xap/1.0/\0"
    path = tmp_path / "a.jpg"
    jpeg_with(path, (0xE1, xmp + XMP), (0xED, iptc), (0xFE, b"scanned in 2001"))
    result, lost = written(tmp_path, path)
    assert lost == []
    with Image.open(result) as image:
        assert image.info["xmp"] == XMP
        assert image.info["photoshop"][0x0404] == IPTC
        assert image.info["comment"] == b"scanned in 2001"
    result, lost = written(tmp_path, path, "a.webp")
    assert lost == ["IPTC", "comment"]
    with Image.open(result) as image:
        assert image.info["xmp"] == XMP
    assert written(tmp_path, path, "a.bmp")[1] == ["XMP", "IPTC", "comment"]
    result, lost = written(tmp_path, path, "a.png")
    assert lost == ["IPTC"]
    with Image.open(result) as image:
        image.load()
        assert image.info["xmp"] == XMP
        assert image.info["Comment"] == "scanned in 2001"


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_xmp_does_not_turn_an_upright_photo(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    image = Image.fromarray(scene(0, 60, 40))
    if suffix == ".png":
        image.save(path)
        add_chunks(path, chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + TURNED))
    elif suffix == ".jpg":
        image.save(path)
        whole = path.read_bytes()
        xmp = b"http://ns.adobe.com/xap/1.0/\0" + TURNED
        segment = struct.pack(">BBH", 0xFF, 0xE1, len(xmp) + 2) + xmp
        path.write_bytes(whole[:2] + segment + whole[2:])
    else:
        image.save(path, xmp=TURNED)
    upright = open_photo(path)
    result, _ = written(tmp_path, path)
    again = open_photo(result)
    assert again.size == upright.size
    assert TURNED.replace(b"6", b"1") in result.read_bytes()


def chunk(kind, content):
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum


def add_chunks(path, *chunks, at_the_end=False):
    whole = path.read_bytes()
    place = len(whole) - 12 if at_the_end else 33
    path.write_bytes(whole[:place] + b"".join(chunks) + whole[place:])


@pytest.mark.parametrize("at_the_end", [False, True])
def test_texts_of_a_png_are_kept_however_large(tmp_path, at_the_end):
    path = tmp_path / "a.png"
    Image.fromarray(scene(0)).save(path)
    chunks = [
        chunk(b"tEXt", b"Title\0Grandmother"),
        chunk(b"iTXt", b"Description\0\0\0de\0\0" + TEXT),
        chunk(b"zTXt", b"Large\0\0" + zlib.compress(b"x" * 3_000_000)),
        chunk(b"iTXt", b"Large\0\1\0\0\0" + zlib.compress(b"y" * 3_000_000)),
        chunk(b"tEXt", b"Large\0" + b"z" * 2_000_000),
    ]
    add_chunks(path, *chunks, at_the_end=at_the_end)
    assert np.array_equal(np.asarray(open_photo(path)), scene(0))
    result, lost = written(tmp_path, path)
    assert lost == []
    for kept in chunks:
        assert kept in result.read_bytes()
    assert np.array_equal(np.asarray(open_photo(result)), scene(0))
    assert written(tmp_path, path, "a.jpg")[1] == ["texts"]


def test_a_large_profile_of_a_png_is_no_reason_to_refuse_it(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(scene(0)).save(path)
    add_chunks(path, chunk(b"iCCP", b"large\0\0" + zlib.compress(b"\0" * 3_000_000)))
    photo = open_photo(path)
    assert np.array_equal(np.asarray(photo), scene(0))
    assert len(photo.info["icc_profile"]) == 3_000_000


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".bmp"])
@pytest.mark.parametrize("dpi", [None, (300, 300), (72, 600)])
def test_resolution_is_as_it_was_or_none(tmp_path, suffix, dpi):
    path = tmp_path / f"a{suffix}"
    Image.fromarray(scene(0)).save(path, **({"dpi": dpi} if dpi else {}))
    if suffix == ".bmp" and not dpi:
        pytest.skip("a BMP always says one")
    result, _ = written(tmp_path, path)
    with Image.open(path) as before, Image.open(result) as after:
        if dpi:
            assert after.info["dpi"] == pytest.approx(dpi, abs=0.1)
        elif suffix == ".tif":  # Pillow makes one up where there is none
            assert 282 not in before.tag_v2
            assert 282 not in after.tag_v2
        else:
            assert "dpi" not in after.info


def test_a_resolution_that_a_jpeg_s_header_cannot_hold_stays_in_its_exif(tmp_path):
    exif = Image.Exif()
    exif[0x011A] = exif[0x011B] = 72000.0
    exif[0x0128] = 2
    Image.fromarray(scene(0)).save(tmp_path / "a.jpg", exif=exif.tobytes())
    result, _ = written(tmp_path, tmp_path / "a.jpg")
    with Image.open(result) as image:
        assert image.info["jfif_density"] == (1, 1)
        assert image.info["jfif_unit"] == 0
        assert image.getexif()[0x011A] == 72000


def test_transparency_that_a_jpeg_cannot_hold_is_named(tmp_path):
    image = Image.fromarray(scene(0)).convert("RGBA")
    assert save_photo(image, tmp_path / "a.jpg") == []  # all of it is opaque
    image.putalpha(128)
    assert save_photo(image, tmp_path / "a.jpg") == ["transparency"]
    assert save_photo(image, tmp_path / "a.png") == []


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_too_much_for_a_segment_is_named(tmp_path, name):
    path = tmp_path / "a.webp"
    Image.fromarray(scene(0)).save(path, xmp=XMP + b" " * 70_000)
    assert written(tmp_path, path, name)[1] == (["XMP"] if name == "a.jpg" else [])
