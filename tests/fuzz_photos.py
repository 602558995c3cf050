"""Colour thousands of damaged photos: each comes out, or is one line, soon and in little memory.

python tests/fuzz_photos.py --files 2000
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

import numpy as np

_TESTS = Path(__file__).parent
sys.path[:0] = [str(_TESTS), str(_TESTS / "photos"), str(_TESTS.parent)]
# ruff: noqa: E402

import test_every_kind as kinds
import torch
from conftest import SMALL_WIDTHS

from benchmarks.machine import peak_gb
from colorize.folders import colorize_files
from colorize.generator import Generator
from colorize.predict import Colorizer

_SLOWEST, _MOST_MEMORY = 10.0, 2.0  # seconds of computing for a photo, GB for all


def corpus(folder: Path) -> list[tuple[str, bytes]]:
    """Small whole files of many kinds."""
    whole = []
    path = folder / "a.tif"
    for i, arguments in enumerate(kinds.tiffs()):
        if i % 7 == 0:
            gamma = 1.8 if "alpha" not in arguments[1] and i % 2 else None
            depth, kind, compression, order, planar, tiled = arguments
            kinds.write_tiff(path, depth, kind, compression, order, planar, tiled, i % 8 + 1, gamma)
            whole.append((".tif", path.read_bytes()))
    path = folder / "a.png"
    for color, bits in kinds.PNGS:
        icc = kinds.profile(1.8, "rgb" not in color)
        packed = kinds.zlib.compress
        extra = [kinds.chunk(b"iCCP", b"a\0\0" + packed(icc))]
        extra.append(kinds.chunk(b"zTXt", b"Large\0\0" + packed(b"x" * 2_000_000)))
        kinds.write_png(path, color, bits, extra)
        whole.append((".png", path.read_bytes()))
    for suffix in (".jpg", ".webp", ".bmp", ".heic", ".gif"):
        image = kinds.Image.fromarray(kinds.reference(color=True))
        exif = (
            {} if suffix in (".bmp", ".gif") else {"exif": b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"}
        )
        image.save(path.with_suffix(suffix), **exif)
        whole += [(suffix, path.with_suffix(suffix).read_bytes())] * 4
    for file in folder.iterdir():
        file.unlink()
    return whole


def mutate(content: bytes, random: np.random.Generator) -> bytes:
    """Flip tags, cut, double a part, or put large numbers where sizes are."""
    content = bytearray(content)
    kind = random.integers(6)
    head = min(300, len(content))
    if kind == 0:
        for at in random.integers(0, head, random.integers(1, 6)):
            content[at] ^= int(random.integers(1, 256))
    elif kind == 1:
        for at in random.integers(0, len(content), random.integers(1, 40)):
            content[at] ^= int(random.integers(1, 256))
    elif kind == 2:
        del content[random.integers(0, len(content)) :]
    elif kind == 3:
        at, length = random.integers(0, len(content)), random.integers(1, 200)
        content[at:at] = content[at : at + length]
    elif kind == 4:
        at = int(random.integers(0, len(content)))
        del content[at : at + int(random.integers(1, 200))]
    else:
        at = int(random.integers(0, head))
        content[at : at + 4] = random.choice(
            [b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff"]
        )
    return bytes(content)


def fuzz(folder: Path, count: int, seed: int = 0) -> str:
    """Colour so many damaged files; raises AssertionError at the first that behaves badly."""
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    whole = corpus(folder)
    torch.manual_seed(0)
    colorizer = Colorizer(Generator(decoder_widths=SMALL_WIDTHS, working_size=32), device="cpu")
    colored = failed = 0
    slowest = 0.0
    for i in range(count):
        suffix, content = whole[i % len(whole)]
        path = folder / f"{i:05d}{suffix}"
        path.write_bytes(mutate(content, random))
        start = time.process_time()  # what neighbours take does not count
        with redirect_stderr(StringIO()) as said:
            outcome = colorize_files(colorizer, [path], folder / "out")
        slowest = max(slowest, time.process_time() - start)
        results = [file for file in (folder / "out").glob("*") if file.is_file()]
        assert len(results) == outcome.colored, path
        assert outcome.colored + len(outcome.failed) == 1, path
        assert "Traceback" not in said.getvalue(), path
        assert not any("\n" in line for line in outcome.failed + outcome.notes), path
        colored, failed = colored + outcome.colored, failed + len(outcome.failed)
        for file in [path, *results]:
            file.unlink()
    memory = peak_gb("cpu")
    assert slowest < _SLOWEST, slowest
    assert memory < _MOST_MEMORY, memory
    return (
        f"{count} files: {colored} coloured, {failed} one line; slowest {slowest:.1f} s, peak "
        f"memory {memory:.2f} GB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        print(fuzz(Path(name) / "photos", args.files, args.seed))


if __name__ == "__main__":
    main()
