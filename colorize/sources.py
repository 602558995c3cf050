"""Where photos come from: a folder, COCO, or those that other packages bring along."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from colorize.errors import ColorizeError, first_line
from colorize.photo import find_photos

# Colour photos of free licence that come with packages this one needs anyway: package, path.
_BUILTIN = (
    ("skimage", "data/astronaut.png"),
    ("skimage", "data/coffee.png"),
    ("skimage", "data/chelsea.png"),
    ("skimage", "data/rocket.jpg"),
    ("sklearn", "datasets/images/china.jpg"),
    ("sklearn", "datasets/images/flower.jpg"),
    ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
)


def builtin_photos() -> list[Path]:
    """The colour photos that scikit-image, scikit-learn and matplotlib bring along."""
    photos = []
    for package, inside in _BUILTIN:
        # find_spec instead of an import: scikit-learn takes seconds to import.
        spec = importlib.util.find_spec(package)
        path = Path(spec.origin).parent / inside if spec and spec.origin else None
        if path and path.is_file():
            photos.append(path)
    if len(photos) < 2:
        raise ColorizeError(
            "the built-in photos are missing; pip install scikit-image scikit-learn"
        )
    return photos


def coco_folder() -> Path:
    """Fastai's COCO sample (21,837 photos, 3 GB), downloaded and unpacked on first use.

    Raises:
        ColorizeError: it is not on disk and cannot be downloaded.
    """
    from fastai.data.external import URLs, untar_data  # takes seconds, so only here

    try:
        return Path(untar_data(URLs.COCO_SAMPLE)) / "train_sample"
    except Exception as error:  # fastai raises bare Exceptions beside the network's own
        raise ColorizeError(
            f"the COCO sample cannot be downloaded from {URLs.COCO_SAMPLE} "
            f"({first_line(error)}); check the network, or give a folder of photos"
        ) from error


def source_paths(source: str) -> dict[str, Path]:
    """Name to path: the name is what the split depends on, so it has no folder of this machine."""
    if source == "builtin":
        return {path.name: path for path in builtin_photos()}
    folder = coco_folder() if source == "coco" else Path(source)
    return {path.relative_to(folder).as_posix(): path for path in find_photos(folder)}
