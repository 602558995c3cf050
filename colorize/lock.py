"""Locks between processes: one decoder a cache, one run a folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from colorize.errors import ColorizeError
from colorize.files import UNFINISHED

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_held: set[Path] = set()  # by this process


@contextmanager
def locked(folder: Path, busy: str, wait: bool = False) -> Iterator[bool]:
    """Keep other processes that ask for the same folder out until the block ends.

    The lock is the system's, on the folder itself, and goes with the process however that ends.
    (Where a file system has no locks, the filelock package leaves a file instead; that would lock a
    killed run out of its own folder.) A process may ask again for what it holds.

    Args:
        folder: one that exists.
        busy: what to say if another process holds it.
        wait: say so and wait for it.

    Returns:
        Whether it is locked: some file systems cannot.

    Raises:
        ColorizeError: another process holds it, and `wait` is false.
    """
    path = folder.resolve()
    if path in _held or fcntl is None:
        yield path in _held
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        if alone := _lock(handle, busy, wait):
            _held.add(path)
        yield alone
    finally:
        _held.discard(path)
        os.close(handle)


@contextmanager
def only_run(out: Path) -> Iterator[None]:
    """Make a run folder, or take one over, for the length of the block.

    What a killed process left unfinished in it is removed.

    Raises:
        ColorizeError: another process is at work there.
    """
    out.mkdir(parents=True, exist_ok=True)
    busy = f"{out}: another process is training there; wait for it, or give another folder"
    try:
        with locked(out, busy) as alone:
            for litter in list(out.rglob(f"{UNFINISHED}*")) if alone else ():
                shutil.rmtree(litter, ignore_errors=True)
            yield
    finally:
        with suppress(OSError):  # it holds something
            out.rmdir()


def _lock(handle: int, busy: str, wait: bool) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        if not wait:
            raise ColorizeError(busy) from error
        print(busy)
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError:  # a file system without locks
        return False
    return True
