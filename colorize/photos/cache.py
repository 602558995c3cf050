"""Decode each photo once: a memory map of uint8 squares in the user's cache folder."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from colorize.metrics import colorfulness
from colorize.photos.read import fit_square, open_rgb
from colorize.system.errors import ColorizeError
from colorize.system.files import HOST
from colorize.system.lock import locked, sweep
from colorize.system.progress import bar

_FORMAT = 5  # raise it when the way photos are prepared changes
_PHOTOS, _INDEX = "photos.npy", "index.json"
_BUILDING = ".building-"
_RETRY_AFTER = 60.0  # seconds; processes that train together must find the same photos


@dataclass
class Decoded:
    """The cache of one list of photos at one size."""

    array: np.ndarray  # (N, size, size, 3) uint8
    colorfulness: list[float]
    unreadable: dict[int, str]  # row -> reason; such rows are black


def cache_folder() -> Path:
    """Where decoded photos are kept unless a run says otherwise."""
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "colorize"
    with suppress(RuntimeError):  # a user of a container may have no home
        return Path.home() / ".cache" / "colorize"
    return Path(tempfile.gettempdir()) / f"colorize-{getattr(os, 'getuid', int)()}"


def decode_once(
    paths: Sequence[Path], size: int, cache: str | None = None, progress: bool = True
) -> Decoded:
    """Decode photos to (N, size, size, 3) uint8 on disk, or reuse what an earlier call decoded.

    The key is made of the paths, their sizes and times, and `size`: a changed, added or removed
    photo makes a new entry. An entry is written under a temporary name and moved into place. Of
    several processes one decodes, and the others wait for it. Where the system could not read a
    photo, as a network's drive was away, a later call tries again.
    """
    entry = Path(cache or cache_folder()) / _cache_key(paths, size)
    if (found := _read_entry(entry, len(paths), size)) is not None:
        return found
    entry.parent.mkdir(parents=True, exist_ok=True)
    busy = f"{entry.parent}: another process decodes photos; waiting for it"
    with locked(entry.parent, busy, wait=True) as alone:
        if (found := _read_entry(entry, len(paths), size)) is not None:
            return found  # that process has decoded these
        shutil.rmtree(entry, ignore_errors=True)  # a damaged entry
        if alone:
            sweep(entry.parent, _BUILDING)
        _build_entry(entry, paths, size, progress)
    return _read_entry(entry, len(paths), size)


def _build_entry(entry: Path, paths: Sequence[Path], size: int, progress: bool) -> None:
    building = Path(tempfile.mkdtemp(prefix=f"{_BUILDING}{HOST}", dir=entry.parent))
    try:
        _write_entry(building, paths, size, progress)
        building.rename(entry)
    except OSError:
        # Where nothing can be locked, another process may have been faster.
        if not entry.is_dir():
            raise
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _cache_key(paths: Sequence[Path], size: int) -> str:
    digest = hashlib.sha256(f"{_FORMAT} {size}".encode())
    for path in paths:
        try:
            stat = path.stat()
            state = f"{stat.st_size} {stat.st_mtime_ns}"
        except OSError:  # a dangling link: reported as unreadable when it is decoded
            state = "missing"
        digest.update(os.fsencode(f"\n{path.absolute()} {state}"))
    return digest.hexdigest()[:24]


def _read_entry(entry: Path, count: int, size: int) -> Decoded | None:
    """The entry if it is whole."""
    try:
        index = json.loads((entry / _INDEX).read_text())
        age = time.time() - (entry / _INDEX).stat().st_mtime
        if index["retry"] and age > _RETRY_AFTER:
            return None
        array = np.load(entry / _PHOTOS, mmap_mode="r")
        unreadable = {int(row): reason for row, reason in index["unreadable"].items()}
        decoded = Decoded(array, index["colorfulness"], unreadable)
    except (OSError, EOFError, ValueError, KeyError):  # not there, or cut short
        return None
    whole = array.shape == (count, size, size, 3) and len(decoded.colorfulness) == count
    return decoded if whole else None


def _write_entry(folder: Path, paths: Sequence[Path], size: int, progress: bool) -> None:
    header = {"descr": "|u1", "fortran_order": False, "shape": (len(paths), size, size, 3)}
    colors, unreadable, retry = [], {}, False
    # Plain writes, not a writable memory map: a full disk is then an error and not a crash.
    # Pillow lets go of the interpreter lock while it decodes and resizes, so threads are enough.
    with open(folder / _PHOTOS, "wb") as file, ThreadPoolExecutor(os.cpu_count()) as pool:
        np.lib.format.write_array_header_1_0(file, header)
        # Closed, it decodes no more: on a full disk the rest would be for nothing.
        with closing(pool.map(lambda path: _decode(path, size), paths)) as decoded:
            shown = bar(decoded, "decoding photos", len(paths), unit="photo", show=progress)
            for row, (pixels, color, error) in enumerate(shown):
                file.write(pixels.data)
                colors.append(color)
                if error:
                    unreadable[row] = str(error)
                    retry = retry or _may_pass(error)
        file.flush()
        os.fsync(file.fileno())
    index = {"colorfulness": colors, "unreadable": unreadable, "retry": retry}
    (folder / _INDEX).write_text(json.dumps(index))


def _may_pass(error: ColorizeError) -> bool:
    """Whether a photo may be readable another time though it stays as it is.

    What is wrong with the photo itself has no error number; a missing one has a key of its own.
    """
    cause = error.__cause__
    missing = (None, errno.ENOENT, errno.ELOOP)
    return isinstance(cause, MemoryError) or (
        isinstance(cause, OSError) and cause.errno not in missing
    )


def _decode(path: Path, size: int) -> tuple[np.ndarray, float, ColorizeError | None]:
    """One photo: pixels (size, size, 3), its colourfulness, and why it could not be read."""
    try:
        # Twice the size leaves the bicubic filter enough to work with.
        pixels = np.asarray(fit_square(open_rgb(path, at_least=2 * size), size))
    except ColorizeError as error:
        return np.zeros((size, size, 3), np.uint8), 0.0, error
    # A thousand pixels or more tell a photo's colourfulness, and so few that torch starts no
    # threads of its own, which would wait for those that decode.
    step = max(1, size // 32)
    sample = torch.from_numpy(pixels[::step, ::step].copy()).permute(2, 0, 1)[None]
    return pixels, float(colorfulness(sample)), None
