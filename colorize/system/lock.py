"""Locks between processes: one decoder a cache, one run a folder."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from colorize.system.errors import ColorizeError
from colorize.system.files import HOST, UNFINISHED, real_path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_DAY = 24 * 3600  # seconds
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
    path = real_path(folder)
    if path in _held or fcntl is None:
        yield path in _held
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        if alone := _lock(handle, busy, wait):
            _held.add(path)
        yield alone
    finally:
        if path in _held:  # closing alone would leave it to workers that were forked meanwhile
            _held.discard(path)
            fcntl.flock(handle, fcntl.LOCK_UN)
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
    with locked(out, busy) as alone:
        try:
            if alone:
                sweep(out, f"**/{UNFINISHED}")
            yield
        finally:
            with suppress(OSError):  # it holds something
                out.rmdir()


def sweep(folder: Path, name: str) -> None:
    """Remove temporary folders that a killed process left.

    On a network's disk a lock may hold on one machine only, so those of others stay for a day.

    Args:
        name: how their names begin, or where they may lie and that; this machine's name is next.
    """
    start = Path(name).name
    for litter in list(folder.glob(f"{name}*")):
        with suppress(OSError):  # gone meanwhile
            if (
                litter.name.startswith(f"{start}{HOST}")
                or time.time() - litter.stat().st_mtime > _DAY
            ):
                shutil.rmtree(litter, ignore_errors=True)


def _lock(handle: int, busy: str, wait: bool) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        if not wait:
            raise ColorizeError(busy) from error
        if os.environ.get("LOCAL_RANK", "0") == "0":  # of several processes one speaks
            print(busy)
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError:  # a file system without locks
        return False
    return True
