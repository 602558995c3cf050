"""Every kind of file comes out as the same photo: compression, depth, byte order, layout, tags.

Files are made here with Pillow and tifffile, and where neither writes a kind, byte by byte.
`python tests/photos/test_every_kind.py` prints what was tried, and the mean |dL| of each.
"""

import importlib.util
import itertools
import re
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageCms

from colorize.color import lightness
from colorize.photos.cache import decode_once
from colorize.photos.pixels import alpha, to_rgb
from colorize.photos.read import as_photo, fit_square, open_photo, open_rgb
from colorize.system.errors import ColorizeError

WIDTH, HEIGHT = 24, 17  # neither a whole number of tiles nor of strips
MOST = 0.5  # of mean |dL|; a result has 8 bits
IMAGECODECS = importlib.util.find_spec("imagecodecs") is not None


def reference(color=False):
    """A grey ramp (17, 24) with a bright block at the top left, uint8; or a colour photo."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    grey = (20 + 6 * x + 4 * y).astype(np.uint8)
    grey[:6, :8] = 230
    if not color:
        return grey
    photo = np.stack([grey, np.roll(grey, 3, 1) // 2 + 40, 250 - grey], axis=-1)
    photo[:6, :8] = (230, 180, 120)
    return photo


def L(pixels):
    rgb = torch.from_numpy(np.array(Image.fromarray(pixels).convert("RGB")))
    return lightness(rgb.permute(2, 0, 1)[None])


def off(image, wanted):
    """Mean |dL| of an upright photo."""
    assert image.size == (wanted.shape[1], wanted.shape[0])
    return float((L(np.asarray(image)) - L(wanted)).abs().mean())


def turn(pixels, orientation):
    """Pixels as a camera held that way stores them: `orientation` tells how to get them back."""
    back = {
        1: lambda p: p,
        2: lambda p: p[:, ::-1],
        3: lambda p: p[::-1, ::-1],
        4: lambda p: p[::-1],
        5: lambda p: p.swapaxes(0, 1),
        6: lambda p: np.rot90(p, 1),
        7: lambda p: p[::-1, ::-1].swapaxes(0, 1),
        8: lambda p: np.rot90(p, -1),
    }
    return np.ascontiguousarray(back[orientation](pixels))


def profile(gamma, grey=False, name="a curve"):
    """A colour profile of sRGB's primaries, or of grey, with a power for a curve."""
    whole = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    curve = struct.pack(">4sIIHH", b"curv", 0, 1, round(gamma * 256), 0)
    tags = {}
    for i in range(int.from_bytes(whole[128:132], "big")):
        tag, start, size = struct.unpack_from(">4sII", whole, 132 + 12 * i)
        tags[tag] = bytes(whole[start : start + size])
    kept = (b"rXYZ", b"gXYZ", b"bXYZ", b"wtpt", b"cprt", b"chad")
    tags = {tag: content for tag, content in tags.items() if tag in kept}
    text = name.encode("utf-16-be")
    tags[b"desc"] = struct.pack(">4sIII2s2sII", b"mluc", 0, 1, 12, b"en", b"US", len(text), 28)
    tags[b"desc"] += text
    for channel in (b"kTRC",) if grey else (b"rTRC", b"gTRC", b"bTRC"):
        tags[channel] = curve
    if grey:
        tags = {tag: tags[tag] for tag in tags if not tag.endswith(b"XYZ")}
        whole[16:20] = b"GRAY"
    table, content = struct.pack(">I", len(tags)), b""
    start = 132 + 12 * len(tags)
    for tag, data in tags.items():
        table += struct.pack(">4sII", tag, start + len(content), len(data))
        content += data + b"\0" * (-len(data) % 4)
    made = whole[:128] + table + content
    made[0:4] = struct.pack(">I", len(made))
    return bytes(made)


def encoded(grey, gamma):
    """sRGB values 0 to 1 as those that mean the same under another power."""
    linear = np.where(grey <= 0.04045, grey / 12.92, ((grey + 0.055) / 1.055) ** 2.4)
    return linear ** (1 / gamma)


DEPTHS = ("u8", "u16", "u32", "f16", "f32", "f64")
COMPRESSIONS = {
    "none": None,
    "deflate": "zlib",
    "deflate, predictor": "zlib",
    "packbits": "packbits",
    "lzw": "lzw",
}
KINDS = ("grey", "grey, white is zero", "grey, alpha", "rgb", "rgb, alpha", "rgb, multiplied alpha")


def write_tiff(
    path, depth, kind, compression, order="<", planar=False, tiled=False, orientation=1, gamma=None
):
    """Write the reference as such a TIFF; gives what its pixels should be, and its alpha."""
    photo = reference(kind.startswith("rgb"))
    values = photo / 255.0
    if gamma:
        values = encoded(values, gamma)
    opaque = None
    if "alpha" in kind:
        opaque = np.full((HEIGHT, WIDTH), 204, np.uint8)
        if "multiplied" in kind:
            values = values * 0.8
        values = values if values.ndim == 3 else values[..., None]
        values = np.concatenate([values, np.full((HEIGHT, WIDTH, 1), 0.8)], axis=-1)
    if kind == "grey, white is zero":
        values = 1 - values
    if depth.startswith("f"):
        stored = values.astype(f"f{int(depth[1:]) // 8}")
    else:
        bits = int(depth[1:])
        stored = (values * (2.0**bits - 1)).round().astype(f"u{bits // 8}")
    stored = turn(stored, orientation)
    if planar and stored.ndim == 3:
        stored = np.moveaxis(stored, -1, 0)
    options = {"extrasamples": ["assocalpha" if "multiplied" in kind else "unassalpha"]}
    photometric = "miniswhite" if "zero" in kind else "rgb" if photo.ndim == 3 else "minisblack"
    extratags = [(274, 3, 1, orientation, True)]
    if gamma:
        icc = profile(gamma, grey=photo.ndim == 2)
        extratags.append((34675, 7, len(icc), icc, True))
    tifffile.imwrite(
        path,
        stored.astype(stored.dtype.newbyteorder(order)),
        byteorder=order,
        photometric=photometric,
        planarconfig=("separate" if planar else "contig") if stored.ndim == 3 else None,
        compression=COMPRESSIONS[compression],
        predictor=2 if "predictor" in compression else None,
        tile=(16, 16) if tiled else None,
        rowsperstrip=None if tiled else 5,
        extratags=extratags,
        metadata=None,
        **(options if opaque is not None else {}),
    )
    return photo, opaque


def tiffs():
    """The product, without what cannot be written: names and arguments."""
    product = itertools.product(DEPTHS, KINDS, COMPRESSIONS, "<>", (False, True), (False, True))
    for depth, kind, compression, order, planar, tiled in product:
        if "predictor" in compression and depth.startswith("f"):
            continue
        if compression in ("lzw", "packbits") and not IMAGECODECS:
            continue  # Pillow writes them below
        if planar and kind in ("grey", "grey, white is zero"):
            continue
        yield depth, kind, compression, order, planar, tiled


def grouped():
    """One test a depth and kind: each tries all layouts."""
    groups = {}
    for depth, kind, *layout in tiffs():
        groups.setdefault((depth, kind), []).append(layout)
    return groups


def tried(path, wanted, opaque=None):
    """|dL| of the worst way to read a file, or the line that it ends in."""
    try:
        image = open_rgb(path)
    except ColorizeError as error:
        return str(error)
    with Image.open(path) if can_pillow_open(path) else as_photo(path) as lazy:
        other = as_photo(lazy)
        assert off(to_rgb(other), wanted) == pytest.approx(off(image, wanted), abs=1e-6)
        if opaque is not None:
            seen = np.asarray(alpha(other)).astype(int)
            assert np.abs(seen - opaque).max() <= 1
    return off(image, wanted)


def can_pillow_open(path):
    try:
        with Image.open(path):
            return True
    except Image.UnidentifiedImageError:
        return False


def check(result, name=""):
    """Right pixels, or one line that names format and depth."""
    if isinstance(result, str):
        assert re.search(r"TIFF of \d+-bit [\w-]+ .*compression", result), (name, result)
    else:
        assert result < MOST, (name, result)


@pytest.mark.parametrize(("depth", "kind"), grouped())
def test_tiffs_of_every_layout(tmp_path, depth, kind):
    for i, layout in enumerate(grouped()[depth, kind]):
        path = tmp_path / f"{i}.tif"
        wanted, opaque = write_tiff(path, depth, kind, *layout)
        result = tried(path, wanted, opaque)
        assert not isinstance(result, str), (layout, result)  # all of these can be read
        check(result, layout)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("depth", ["u8", "u16", "f32"])
def test_tiffs_of_every_orientation(tmp_path, depth, orientation):
    product = itertools.product(KINDS, ("none", "deflate"), "<>", (False, True))
    for i, (kind, compression, order, tiled) in enumerate(product):
        path = tmp_path / f"{i}.tif"
        wanted, opaque = write_tiff(
            path, depth, kind, compression, order, tiled=tiled, orientation=orientation
        )
        result = tried(path, wanted, opaque)
        assert not isinstance(result, str), (kind, result)
        check(result, (kind, compression, order, tiled))


@pytest.mark.parametrize("gamma", [1.0, 1.8, 2.2])
@pytest.mark.parametrize("depth", ["u16", "u32", "f32"])
@pytest.mark.parametrize("kind", ["grey", "grey, white is zero", "grey, alpha", "rgb"])
def test_deep_tiffs_by_their_profile(tmp_path, depth, kind, gamma):
    path = tmp_path / "a.tif"
    wanted, opaque = write_tiff(path, depth, kind, "none", gamma=gamma)
    check(tried(path, wanted, opaque), (depth, kind, gamma))


LIBTIFF = ("tiff_lzw", "packbits", "tiff_adobe_deflate", "raw")


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "I;16", "I", "F"])
def test_tiffs_that_pillow_writes(tmp_path, mode):
    for compression, orientation in itertools.product(LIBTIFF, range(1, 9)):
        photo = reference(mode in ("RGB", "RGBA", "CMYK"))
        stored = turn(photo, orientation)
        if mode == "1":
            stored, photo = (((p > 120) * 255).astype(np.uint8) for p in (stored, photo))
            image = Image.fromarray(stored).convert("1")
        elif mode in ("I;16", "I"):
            white, kind = (65535, np.uint16) if mode == "I;16" else (2**31 - 1, np.int32)
            image = Image.fromarray((stored / 255 * white).astype(kind))
        elif mode == "F":
            image = Image.fromarray((stored / 255).astype(np.float32))
        else:
            image = Image.fromarray(stored).convert(mode)
        path = tmp_path / "a.tif"
        image.save(path, compression=compression, tiffinfo={274: orientation})
        result = tried(path, photo)
        if mode == "I":  # signed: which value is white?
            assert "signed" in result
        else:
            assert not isinstance(result, str), (compression, result)
        check(result, (mode, compression, orientation))


def chunk(kind, content):
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum


PNG_COLORS = {"grey": 0, "rgb": 2, "palette": 3, "grey, alpha": 4, "rgb, alpha": 6}


def write_png(path, color, bits, extra=(), gamma=None, end=()):
    """A PNG, byte by byte; gives what its pixels should be."""
    photo = reference(color.startswith("rgb"))
    if bits < 8:  # to what so few bits can say
        step = 255 // (2**bits - 1)
        photo = ((photo / step).round() * step).astype(np.uint8)
    values = encoded(photo / 255.0, gamma) if gamma else photo / 255.0
    samples = (values * (2**bits - 1)).round().astype(int).reshape(HEIGHT, WIDTH, -1)
    if "alpha" in color:
        opaque = np.full((HEIGHT, WIDTH, 1), round(0.8 * (2**bits - 1)))
        samples = np.concatenate([samples, opaque], axis=-1)
    rows = b""
    for row in samples.reshape(HEIGHT, -1):
        text = "".join(f"{value:0{bits}b}" for value in row)
        text += "0" * (-len(text) % 8)
        rows += b"\0" + int(text, 2).to_bytes(len(text) // 8, "big")
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, bits, PNG_COLORS[color], 0, 0, 0)
    chunks = [chunk(b"IHDR", header), *extra]
    if color == "palette":
        greys = np.linspace(0, 255, 2**bits).astype(np.uint8)
        chunks.append(chunk(b"PLTE", np.repeat(greys, 3).tobytes()))
    chunks += [chunk(b"IDAT", zlib.compress(rows)), *end, chunk(b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    return photo


PNGS = [
    (color, bits)
    for color, depths in {
        "grey": (1, 2, 4, 8, 16),
        "palette": (1, 2, 4, 8),
        "rgb": (8, 16),
        "grey, alpha": (8, 16),
        "rgb, alpha": (8, 16),
    }.items()
    for bits in depths
]


@pytest.mark.parametrize(("color", "bits"), PNGS)
@pytest.mark.parametrize(
    "curve", ["none", "gAMA 1", "gAMA 0.45", "profile 1.8", "linear sRGB", "sRGB wins"]
)
def test_pngs_of_every_depth_and_curve(tmp_path, color, bits, curve):
    if curve == "sRGB wins":
        extra, gamma = [chunk(b"sRGB", b"\0"), chunk(b"gAMA", struct.pack(">I", 100_000))], None
    elif curve.startswith("gAMA"):
        gamma = 1.0 if curve == "gAMA 1" else None
        extra = [chunk(b"gAMA", struct.pack(">I", 100_000 if gamma else 45_455))]
    elif curve == "none":
        extra, gamma = [], None
    else:
        gamma = 1.0 if "linear" in curve else 1.8
        icc = profile(gamma, "rgb" not in color and color != "palette", "linear sRGB")
        extra = [chunk(b"iCCP", b"a\0\0" + zlib.compress(icc))]
    if bits < 8 and gamma:
        pytest.skip("few bits cannot say the photo in another curve")
    path = tmp_path / "a.png"
    wanted = write_png(path, color, bits, extra, gamma)
    opaque = 204 if "alpha" in color else None
    result = tried(path, wanted, opaque)
    assert not isinstance(result, str)
    # Eight linear bits are few in the dark.
    assert result < (0.6 if gamma == 1.0 and (bits == 8 or "rgb" in color) else MOST)


@pytest.mark.parametrize(("color", "bits"), [p for p in PNGS if p[0] in ("grey", "rgb")])
def test_one_value_of_a_png_is_transparent(tmp_path, color, bits):
    photo = reference(color == "rgb")
    top = 2**bits - 1
    value = (photo[0, 0] / (255 // top if bits < 8 else 255) * (1 if bits < 8 else top)).round()
    value = np.atleast_1d(value).astype(int).tolist()
    path = tmp_path / "a.png"
    transparent = chunk(b"tRNS", struct.pack(f">{len(value)}H", *value))
    wanted = write_png(path, color, bits, [transparent])
    seen = np.asarray(alpha(as_photo(path)))
    clear = (wanted == wanted[0, 0]).reshape(HEIGHT, WIDTH, -1).all(-1)
    assert np.array_equal(seen == 0, clear)
    assert 48 <= clear.sum() < HEIGHT * WIDTH
    with Image.open(path) as image:
        assert np.array_equal(np.asarray(alpha(as_photo(image))), seen)
    check(tried(path, wanted))


@pytest.mark.parametrize(
    "suffix", [".jpg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".heic"]
)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_format_is_upright(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    wanted = reference(color=True)
    image = Image.fromarray(turn(wanted, orientation))
    path = tmp_path / f"a{suffix}"
    if suffix == ".bmp":
        image, exif = Image.fromarray(wanted), None
    options = {"lossless": True} if suffix == ".webp" else {"quality": 100, "subsampling": 0}
    if suffix == ".tif":
        options = {}
    image.save(path, **options, **({"exif": exif.tobytes()} if exif else {}))
    result = tried(path, wanted)
    assert result < (2.0 if suffix == ".heic" else 1.0)


def test_training_reads_the_same_pixels(tmp_path):
    """The cache that `train` and `evaluate` read holds what `predict` reads."""
    paths = []
    for depth, kind in itertools.product(DEPTHS, KINDS):
        paths.append(tmp_path / f"{depth}-{kind}.tif")
        write_tiff(paths[-1], depth, kind, "none", orientation=6)
    for color, bits in PNGS:
        paths.append(tmp_path / f"{color}-{bits}.png")
        write_png(paths[-1], color, bits, [chunk(b"gAMA", struct.pack(">I", 100_000))], 1.0)
    decoded = decode_once(paths, 16, str(tmp_path / "cache"), progress=False)
    assert not decoded.unreadable
    for path, square in zip(paths, decoded.array, strict=True):
        assert np.array_equal(square, np.asarray(fit_square(open_rgb(path), 16))), path


def bare_tiff(
    bits, photometric, data, sample_format=1, samples=1, order="<", compression=1, predictor=1
):
    """A TIFF of one strip, byte by byte, for what no library writes."""
    tags = {256: WIDTH, 257: HEIGHT, 258: bits, 259: compression, 262: photometric, 277: samples}
    tags |= {278: HEIGHT, 279: len(data), 317: predictor, 339: sample_format}
    start = 8 + 2 + 12 * (len(tags) + 1) + 4
    tags[273] = start
    entries = b""
    for tag, value in sorted(tags.items()):
        entries += struct.pack(f"{order}HHI", tag, 4, 1) + struct.pack(f"{order}I", value)
    header = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, 8)
    return header + struct.pack(f"{order}H", len(tags)) + entries + b"\0" * 4 + data


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("bits", [10, 12, 14, 24])
@pytest.mark.parametrize("photometric", [0, 1])
def test_odd_depths_are_right_or_named(tmp_path, bits, photometric, order):
    values = (reference() / 255.0 * (2**bits - 1)).round().astype(int)
    if photometric == 0:
        values = 2**bits - 1 - values
    rows = b""
    for row in values:
        text = "".join(f"{value:0{bits}b}" for value in row)
        text += "0" * (-len(text) % 8)
        rows += int(text, 2).to_bytes(len(text) // 8, "big")
    path = tmp_path / "a.tif"
    path.write_bytes(bare_tiff(bits, photometric, rows, order=order))
    result = tried(path, reference())
    check(result, (bits, photometric))
    if isinstance(result, str):
        assert f"{bits}-bit" in result
    elif not IMAGECODECS:
        assert bits == 12


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("compression", sorted({*map(int, tifffile.COMPRESSION), 60_000}))
def test_no_compression_is_an_unclear_error(tmp_path, compression, bits):
    (tmp_path / "a.tif").write_bytes(bare_tiff(bits, 1, b"\x9c\x03" * 99, compression=compression))
    result = tried(tmp_path / "a.tif", reference())
    if isinstance(result, str):
        damaged = compression == 1 and "cut short" in result
        assert damaged or f"TIFF of {bits}-bit whole-number minisblack, compression " in result
    else:  # nothing tells a decoder that this is no fax
        assert compression in range(2, 5) or compression in (32771, 32773, 32809)


@pytest.mark.parametrize("photometric", [3, 4, 6, 8, 32803, 34892])
def test_imagecodecs_is_not_named_where_it_does_not_help(tmp_path, photometric):
    data = np.zeros((HEIGHT, WIDTH, 3), "u2").tobytes()
    (tmp_path / "a.tif").write_bytes(bare_tiff(16, photometric, data, samples=3))
    result = tried(tmp_path / "a.tif", reference())
    assert "TIFF of 16-bit" in result
    assert "pip install" not in result


@pytest.mark.parametrize("depth", ["u1", "u2"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("inside", [False, True])
def test_a_preview_ahead_of_the_photo_is_not_taken_for_it(tmp_path, depth, channels, inside):
    photo = reference(channels == 3)
    stored = photo if depth == "u1" else photo.astype("u2") * 257
    options = {"photometric": "rgb" if channels == 3 else "minisblack", "metadata": None}
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        tiff.write(stored[::4, ::4], subfiletype=1, subifds=1 if inside else None, **options)
        tiff.write(stored, **options)
    assert tried(tmp_path / "a.tif", photo) < MOST
    assert open_photo(tmp_path / "a.tif").info["pages"] == 1


@pytest.mark.parametrize(("sample_format", "what"), [(2, "signed"), (5, "complex"), (6, "complex")])
def test_numbers_without_a_white_are_named(tmp_path, sample_format, what):
    data = np.zeros((HEIGHT, WIDTH), "u2" if sample_format == 2 else "u4").tobytes()
    bits = 16 if sample_format == 2 else 32
    (tmp_path / "a.tif").write_bytes(bare_tiff(bits, 1, data, sample_format))
    result = tried(tmp_path / "a.tif", reference())
    assert f"{bits}-bit {what}" in result


def test_packed_differences_are_not_taken_for_pixels(tmp_path):
    """Only tifffile writes PackBits with a predictor, and libtiff passes over it."""
    photo = reference()
    packed = b""
    for row in np.diff(photo, axis=1, prepend=np.zeros_like(photo[:, :1])):
        for start in range(0, len(row), 128):
            part = row[start : start + 128].tobytes()
            packed += bytes([len(part) - 1]) + part
    path = tmp_path / "a.tif"
    path.write_bytes(bare_tiff(8, 1, packed, compression=32773, predictor=2))
    check(tried(path, photo), "packbits, predictor")


@pytest.mark.skipif(IMAGECODECS, reason="it reads them")
@pytest.mark.parametrize(("compression", "predictor"), [(50001, 1), (32773, 3)])
def test_what_libtiff_lacks_it_is_not_asked_for(tmp_path, capfd, compression, predictor):
    """It has no WebP and says so on the terminal; it passes over the predictor of PackBits."""
    bits, form = (8, 1) if predictor == 1 else (32, 3)
    data = b"".join(b"\x7f" + bytes(128) for _ in range(WIDTH * HEIGHT * bits // 8 // 128 + 1))
    path = tmp_path / "a.tif"
    path.write_bytes(bare_tiff(bits, 1, data, form, compression=compression, predictor=predictor))
    result = tried(path, reference())
    assert f"TIFF of {bits}-bit" in result
    assert "pip install imagecodecs" in result
    assert capfd.readouterr().err == ""


def test_a_part_that_is_missing_is_not_taken_for_black(tmp_path):
    path = tmp_path / "a.tif"
    for kind, compression in itertools.product(("grey", "rgb"), ("none", "deflate")):
        for depth in ("u8", "u16"):
            write_tiff(path, depth, kind, compression)
            whole = path.read_bytes()
            path.write_bytes(whole[: int(len(whole) * 0.8)])
            with pytest.raises(ColorizeError):
                open_rgb(path)


def table():
    """Rows of what was tried: kinds, how many files, the worst |dL|."""
    import tempfile

    rows = {}
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "a.tif"
        for depth, kind, *layout in tiffs():
            wanted, opaque = write_tiff(path, depth, kind, *layout)
            rows.setdefault(f"TIFF {depth} {kind}", []).append(tried(path, wanted, opaque))
        for depth, kind, orientation in itertools.product(("u8", "u16", "f32"), KINDS, range(1, 9)):
            wanted, _ = write_tiff(path, depth, kind, "none", orientation=orientation)
            rows.setdefault(f"TIFF {depth} {kind}, turned", []).append(tried(path, wanted))
        for depth, kind, gamma in itertools.product(("u16", "f32"), ("grey", "rgb"), (1.0, 1.8)):
            wanted, _ = write_tiff(path, depth, kind, "none", gamma=gamma)
            rows.setdefault(f"TIFF {depth} {kind}, profile {gamma}", []).append(tried(path, wanted))
        path = Path(name) / "a.png"
        for (color, bits), gamma in itertools.product(PNGS, (None, 1.0)):
            if gamma and bits < 8:
                continue
            extra = [chunk(b"gAMA", struct.pack(">I", 100_000))] if gamma else []
            wanted = write_png(path, color, bits, extra, gamma)
            kind = f"PNG {bits} bits {color}{', gAMA 1' if gamma else ''}"
            rows.setdefault(kind, []).append(tried(path, wanted))
    return rows


if __name__ == "__main__":
    for name, results in table().items():
        numbers = [result for result in results if not isinstance(result, str)]
        refused = len(results) - len(numbers)
        mean, worst = f"{np.mean(numbers):.3f}", f"{max(numbers):.3f}"
        sys.stdout.write(f"| {name} | {len(results)} | {refused} | {mean} | {worst} |\n")
