"""Where photos come from: a folder, COCO, or those that other packages bring along."""

from __future__ import annotations

import importlib.resources
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from colorize.photos.read import find_photos, other_kinds
from colorize.system.errors import ColorizeError, first_line
from colorize.system.files import ASSETS, HOST
from colorize.system.lock import locked, sweep

_UNPACKING = ".unpacking-"
# Colour photos of free licence: of packages that this one needs anyway, and of its own.
_BUILTIN = (
    ("skimage", "data/astronaut.png"),
    ("skimage", "data/coffee.png"),
    ("skimage", "data/chelsea.png"),
    ("skimage", "data/rocket.jpg"),
    ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
)
_OWN = ("dandelions.jpg", "fig.jpg")


def builtin_photos() -> list[Path]:
    """Colour photos that scikit-image and matplotlib bring along, and two of this project.

    A notebook that is alone has no more than the others.
    """
    photos = [Path(importlib.resources.files(package) / inside) for package, inside in _BUILTIN]
    photos += [ASSETS / "photos" / name for name in _OWN]
    photos = [photo for photo in photos if photo.is_file()]
    if len(photos) < 2:
        raise ColorizeError("the built-in photos are missing; pip install scikit-image matplotlib")
    return photos


def coco_folder() -> Path:
    """Fastai's COCO sample (21,837 photos, 3 GB), downloaded and unpacked on first use.

    Raises:
        ColorizeError: it is not on disk and cannot be downloaded, or not unpacked.
    """
    from fastai.data.external import URLs, fastai_path, untar_data  # takes seconds, so only here

    archive = None
    try:
        archive = fastai_path("archive") / Path(URLs.COCO_SAMPLE).name
        with _unpacking_within(fastai_path("data")):
            folder = Path(untar_data(URLs.COCO_SAMPLE)) / "train_sample"
    except ColorizeError:
        raise
    except Exception as error:  # fastai raises bare Exceptions beside the network's own
        reason = first_line(error)
        if archive and archive.exists():
            # A number is the disk's: it is full, or not ours to write to.
            again = "" if getattr(error, "errno", None) else "; delete it to download it again"
            raise ColorizeError(f"{archive} cannot be unpacked ({reason}){again}") from error
        raise ColorizeError(
            f"the COCO sample cannot be downloaded from {URLs.COCO_SAMPLE} "
            f"({reason}); check the network, or give a folder of photos"
        ) from error
    if not folder.is_dir():
        raise ColorizeError(
            f"{folder}: not in what was unpacked; delete {folder.parent} and {archive}, or give a "
            "folder of photos"
        )
    return folder


@contextmanager
def _unpacking_within(folder: Path) -> Iterator[None]:
    """While this lasts, archives are unpacked in a temporary folder in `folder`, nowhere else.

    That is the disk where the photos go. From another they would be copied there one by one, and
    what a stop left half copied would be taken for the whole from then on.
    """
    if not hasattr(tarfile, "data_filter") and not (folder / "coco_sample").exists():
        raise ColorizeError(
            "this Python unpacks archives without a look at where their files go; update it "
            "(3.10.12, 3.11.4, or later), or give a folder of photos"
        )
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, f"{folder}: another process fetches photos; waiting for it", wait=True):
        sweep(folder, _UNPACKING)
        before = tempfile.tempdir, vars(tarfile.TarFile).get("extraction_filter")
        with tempfile.TemporaryDirectory(prefix=f"{_UNPACKING}{HOST}", dir=folder) as place:
            tempfile.tempdir = place
            tarfile.TarFile.extraction_filter = staticmethod(_plain_files)
            try:
                yield
            finally:
                tempfile.tempdir, tarfile.TarFile.extraction_filter = before


def _plain_files(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo | None:
    """Files and folders that stay in `folder`; others raise `tarfile.FilterError`.

    Links are left out. Photos need none, and some Pythons follow them out (CVE-2025-4517).
    """
    member = tarfile.data_filter(member, folder)
    return None if member.issym() or member.islnk() else member


def source_paths(source: str) -> dict[str, Path]:
    """Name to path: the name is what the split depends on, so it has no folder of this machine."""
    if source == "builtin":
        return {path.name: path for path in builtin_photos()}
    folder = coco_folder() if source == "coco" else Path(source)
    return {path.relative_to(folder).as_posix(): path for path in find_photos(folder)}


def source_other_kinds(source: str) -> str:
    """`other_kinds` of a source that is a folder of the user's."""
    return "" if source in ("coco", "builtin") else other_kinds(Path(source))
