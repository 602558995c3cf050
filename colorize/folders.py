"""Colour many photos: which ones, where each result goes, and how it is written."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from colorize.photos.read import PHOTO_SUFFIXES, find_photos, open_photo
from colorize.photos.write import result_name, save_photo
from colorize.predict import Colorizer, in_grey
from colorize.system.errors import ColorizeError, first_line
from colorize.system.progress import bar

_KINDS = " ".join(sorted(PHOTO_SUFFIXES))
_COMPARE_SIDE = 1200  # pixels of the longer side in a comparison
_AT_ONCE, _MOST_AT_ONCE = 8, 50_000_000  # photos, pixels that go to a GPU together
_FAILURES = (ColorizeError, OSError, ValueError, RuntimeError, MemoryError)


@dataclass
class Outcome:
    """What became of many photos; each list has a line for a photo."""

    colored: int = 0
    skipped: int = 0
    failed: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def colorize_files(
    colorizer: Colorizer,
    inputs: Sequence[Path],
    out: Path,
    overwrite: bool = False,
    compare: bool = False,
) -> Outcome:
    """Colour photos and folders of photos into the folder `out`, under the names they have.

    Photos of a folder keep their place inside it. A bad file is passed over. A GIF becomes a PNG.

    Args:
        overwrite: colour those again whose result is there already.
        compare: also write grey and coloured side by side, under `out`/compare.

    Raises:
        ColorizeError: `out` is a file.
        OSError: the disk is full.
    """
    if out.exists() and not out.is_dir():
        raise ColorizeError(f"{out}: is a file; give a folder for the results")
    outcome = Outcome()
    jobs = _plan(inputs, out, overwrite, outcome)
    for opened in _open_several(jobs, colorizer.device.type != "cpu", outcome):
        results = _color(colorizer, list(opened.values()))
        while opened:  # one by one let go of, before the next photos are opened
            target = next(iter(opened))
            _save(opened.pop(target), results.pop(0), jobs[target], target, out, compare, outcome)
    return outcome


def _save(
    image: Image.Image,
    colored: Image.Image | Exception,
    photo: Path,
    target: Path,
    out: Path,
    compare: bool,
    outcome: Outcome,
) -> None:
    """Write a result, and grey and coloured side by side if that is wanted."""
    try:
        if isinstance(colored, Exception):
            raise colored
        _check_within(out, target)
        save_photo(colored, target, like=image)
    except _FAILURES as error:
        outcome.failed.append(_line(photo, error))
        return
    outcome.colored += 1
    if image.info.get("deep"):
        outcome.notes.append(f"{photo}: has more than 8 bits a channel, its result has 8")
    if compare:
        comparison = out / "compare" / f"{target.relative_to(out)}.jpg"
        try:
            _check_within(out, comparison)
            save_photo(_side_by_side(image, colored), comparison)
        except _FAILURES as error:
            outcome.notes.append(f"coloured, but not compared: {_line(photo, error)}")


def _check_within(out: Path, path: Path) -> None:
    """Refuse to write where a link to a folder leads out of `out`; over a link itself is fine."""
    if not path.parent.resolve().is_relative_to(out.resolve()):
        raise ColorizeError(f"{path}: a link leads out of {out}; remove it, or give another --out")


def _open_several(
    jobs: dict[Path, Path], several: bool, outcome: Outcome
) -> Iterator[dict[Path, Image.Image]]:
    """Decoded photos by their target: a few at a time, or one by one."""
    opened: dict[Path, Image.Image] = {}
    for target, photo in bar(jobs.items(), "colouring", unit="photo"):
        try:
            opened[target] = open_photo(photo)
        except ColorizeError as error:
            outcome.failed.append(str(error))
            continue
        pixels = sum(image.width * image.height for image in opened.values())
        if not several or len(opened) == _AT_ONCE or pixels > _MOST_AT_ONCE:
            yield opened  # and get it back empty
    if opened:
        yield opened


def _color(colorizer: Colorizer, images: list[Image.Image]) -> list[Image.Image | Exception]:
    """Each image in colour, or the error it met: together, or one by one if that fails."""
    try:
        return colorizer.batch(images)
    except _FAILURES as error:
        if len(images) == 1:
            return [error.with_traceback(None)]
    # Not in the `except`: the error holds what the batch had taken of the memory.
    return [result for image in images for result in _color(colorizer, [image])]


def _line(photo: Path, error: Exception) -> str:
    """What went wrong with a photo; a full disk is more than that, and is raised."""
    if getattr(error, "errno", None) == errno.ENOSPC:
        raise error
    return str(error) if isinstance(error, ColorizeError) else f"{photo}: {first_line(error)}"


def _plan(inputs: Sequence[Path], out: Path, overwrite: bool, outcome: Outcome) -> dict[Path, Path]:
    """Each result that is to be made, and the photo it is made from."""
    jobs: dict[Path, Path] = {}
    photos = list(_photos(inputs, out, outcome))
    originals = {photo.resolve() for photo, _ in photos}
    photos.sort(key=lambda pair: result_name(pair[1]) != pair[1])  # who keeps its name goes first
    taken: dict[Path, Path] = {}
    for photo, inside in photos:
        target = out / result_name(inside)
        if target.resolve() in originals:
            outcome.failed.append(f"{target}: is one of the photos; give another --out")
        elif taken.setdefault(target, photo) is not photo:
            outcome.failed.append(f"{photo}: {taken[target]} would have the same name in {out}")
        elif target.suffix.lower() not in PHOTO_SUFFIXES:
            outcome.failed.append(f"{photo}: unknown kind of photo; use {_KINDS}")
        elif target.exists() and not overwrite:
            outcome.skipped += 1
        else:
            jobs[target] = photo
    return jobs


def _photos(inputs: Sequence[Path], out: Path, outcome: Outcome) -> Iterator[tuple[Path, Path]]:
    """Photos, each with its place inside the folder that was given."""
    results = out.resolve()
    for path in inputs:
        try:
            photos = find_photos(path) if path.is_dir() else [path]
        except ColorizeError as error:
            outcome.failed.append(str(error))
            continue
        # What lies in `out` came from an earlier run.
        among = path.resolve() in results.parents
        for photo in photos:
            if not (among and results in photo.resolve().parents):
                yield photo, photo.relative_to(path) if path.is_dir() else Path(photo.name)


def beside_each_other(photo: Image.Image, colored: Image.Image) -> list[Image.Image]:
    """A photo in grey and its coloured self, both RGB; what is transparent is white."""
    both = []
    for image in (in_grey(photo), colored):
        white = Image.new("RGB", image.size, "white")
        white.paste(image, mask=colored.getchannel("A") if colored.mode == "RGBA" else None)
        both.append(white)
    return both


def _side_by_side(photo: Image.Image, colored: Image.Image) -> Image.Image:
    both = beside_each_other(photo, colored)
    for image in both:
        image.thumbnail((_COMPARE_SIDE, _COMPARE_SIDE), Image.Resampling.LANCZOS)
    width, height = both[0].size
    canvas = Image.new("RGB", (2 * width + 8, height), "white")
    canvas.paste(both[0], (0, 0))
    canvas.paste(both[1], (width + 8, 0))
    return canvas
