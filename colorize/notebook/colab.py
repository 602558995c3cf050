"""Where Colab differs from other notebooks: Google Drive, uploads, downloads."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from IPython.display import FileLink, display

from colorize.photos.sources import builtin_photos
from colorize.system.device import IN_COLAB
from colorize.system.errors import ColorizeError

_DRIVE = Path("/content/drive")


def drive_folder(name: str) -> Path:
    """A folder on the user's Google Drive, which outlives the Colab machine; asks for leave.

    Raises:
        ColorizeError: this is not Colab.
    """
    if not IN_COLAB:
        raise ColorizeError("Google Drive is within reach in Colab only; set KEEP_ON_DRIVE = False")
    from google.colab import drive

    drive.mount(str(_DRIVE))
    return _DRIVE / "MyDrive" / name


def choose_photo(path: str) -> Path:
    """The photo at `path`; without one, ask for an upload in Colab, or take a built-in photo."""
    if path:
        return Path(path)
    if IN_COLAB:
        from google.colab import files

        uploaded = list(files.upload())
        if uploaded:
            return Path(uploaded[0])
    return builtin_photos()[0]


def offer(folder: Path) -> None:
    """Let the user download a folder, zipped: in Colab at once, elsewhere by a link."""
    archive = shutil.make_archive(str(folder), "zip", folder)
    if IN_COLAB:
        from google.colab import files

        files.download(archive)
    else:
        display(FileLink(os.path.relpath(archive)))
