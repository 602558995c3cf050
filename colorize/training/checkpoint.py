"""Checkpoints to resume from: written whole, checked when they are read."""

from __future__ import annotations

import hashlib
from collections.abc import Set
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import torch

from colorize.system.errors import ColorizeError
from colorize.system.files import folder_beside, put

_DIGEST_SIZE = hashlib.sha256().digest_size


def checkpoint_path(run: Path) -> Path:
    """Where a run folder keeps its last checkpoint."""
    return run / "checkpoints" / "last.pt"


def has_checkpoint(run: Path) -> bool:
    """Whether a run folder has something to go on from."""
    path = checkpoint_path(run)
    return path.exists() or _before(path).exists()


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values, whole and on the disk when this returns.

    The checkpoint that was there is kept as `previous.pt`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with folder_beside(path) as folder:
        file = folder / path.name
        with open(file, "wb") as raw:
            hashed = _Hashed(raw)
            try:
                torch.save(state, hashed)
            except RuntimeError as error:  # torch's, which does not say why it could not write
                raise hashed.error or error from None
            raw.write(hashed.digest.digest())
        put(file, path, before=_before(path))


def load_checkpoint(path: Path, keys: Set[str] = frozenset()) -> dict[str, Any]:
    """Read a checkpoint to the CPU, or the one before it if it is damaged, which is said.

    Only tensors and plain values are read, no pickled code.

    Args:
        keys: what it must hold.

    Raises:
        ColorizeError: both are missing or damaged, or lack a key.
    """
    found = [file for file in (path, _before(path)) if file.is_file()]
    if not found:
        raise ColorizeError(f"{path}: no checkpoint to resume from; start without resume")
    for file in found:
        try:
            state = _read_checkpoint(file)
        except (OSError, MemoryError) as error:  # a disk or a machine in trouble is no damage
            if isinstance(error, OSError) and not error.filename:
                error.filename = str(file)
            raise
        except Exception as error:  # zip, pickle and torch errors alike
            damage = error
            continue
        if not state.keys() >= keys:
            raise ColorizeError(f"{file}: not a checkpoint of this version; start anew")
        if file != path:
            print(f"{path}: {'damaged' if path.exists() else 'missing'}; going on from {file.name}")
            # The next one must not push out the good one.
            with suppress(FileNotFoundError):
                path.replace(path.with_name("damaged.pt"))
        return state
    raise ColorizeError(
        f"{path.parent}: no checkpoint that is not damaged; delete this folder and start again"
    ) from damage


class _Hashed:
    """A file that knows its checksum once it is written, or else why it is not."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.digest = file, hashlib.sha256()
        self.error: BaseException | None = None

    def write(self, part: bytes) -> int:
        self.digest.update(part)
        try:
            return self.file.write(part)
        except BaseException as error:  # Ctrl-C too
            self.error = error
            raise

    def flush(self) -> None:
        self.file.flush()


def _read_checkpoint(path: Path) -> dict[str, Any]:
    # Torch itself loads a file with a flipped bit without a word, and a zip's own checksums say
    # nothing of where its parts begin; what lies behind the zip does not disturb it.
    size = path.stat().st_size - _DIGEST_SIZE
    with open(path, "rb") as file:
        file.seek(max(size, 0))
        if file.read() != _digest(path, size):
            raise ValueError("the checksum is another")
    state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, dict):
        raise TypeError(f"holds a {type(state).__name__}")
    return state


def _digest(path: Path, size: int) -> bytes:
    """The checksum of the first `size` bytes of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while size > 0 and (part := file.read(min(size, 1 << 20))):
            digest.update(part)
            size -= len(part)
    return digest.digest()


def _before(path: Path) -> Path:
    return path.with_name("previous.pt")
