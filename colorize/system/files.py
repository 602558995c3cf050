"""Files written whole or not at all, and on the disk when that is said; those that come along."""

from __future__ import annotations

import csv
import importlib.resources
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

UNFINISHED = ".unfinished-"  # how the names of temporary folders begin
HOST = f"{socket.gethostname()}-"  # and go on


def _assets() -> Path:
    package = Path(str(importlib.resources.files("colorize")))
    inside = package / "assets"  # of an installed package; a checkout has them beside the package
    return inside if inside.is_dir() else package.parent / "assets"


ASSETS = _assets()  # photos and weights that come along; a notebook that is alone has none


def real_path(path: Path) -> Path:
    """Where a path leads, links followed; unlike `Path.resolve`, not an error where they go round
    in a circle, which it is up to Python 3.12."""
    return Path(os.path.realpath(path))


@contextmanager
def write_whole(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; move it into place if the block ends without an error.

    Whoever reads `path` sees the old file or the new one, never a part.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with folder_beside(path) as folder:
        temporary = folder / path.name
        yield temporary
        put(temporary, path)


def write_json(path: Path, values: Any) -> None:
    """Write values as indented JSON, whole."""
    with write_whole(path) as temporary:
        temporary.write_text(json.dumps(values, indent=2) + "\n")


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows as CSV, whole; what a row lacks stays empty."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    # A file's name may hold bytes that are no characters.
    text = {"encoding": "utf-8", "errors": "surrogateescape", "newline": ""}
    with write_whole(path) as temporary, open(temporary, "w", **text) as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def put(temporary: Path, path: Path, before: Path | None = None) -> None:
    """Move a file into place, so that a power cut leaves the old one or the whole new one.

    Args:
        before: where to keep the old one.
    """
    _sync(temporary)
    if before and path.exists():
        os.replace(path, before)
    os.replace(temporary, path)
    if os.name == "posix":  # the name is on the disk when its folder is
        _sync(path.parent)


def _sync(path: Path) -> None:
    # Windows syncs only what may be written, and no folders.
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def folder_beside(path: Path) -> Iterator[Path]:
    """A temporary folder on the same disk as `path`, removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix=f"{UNFINISHED}{HOST}", dir=path.parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
