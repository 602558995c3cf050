"""Colour many photos: which ones, where each result goes, and how it is written."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

from PIL import Image

from colorize.errors import ColorizeError, first_line
from colorize.files import write_whole
from colorize.photo import PHOTO_SUFFIXES, find_photos, open_photo
from colorize.predict import Colorizer, in_grey
from colorize.progress import bar

# What is carried over to the result. Not the preview that a camera puts in: it has no colours.
_EXIF_TAGS = (0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x8298)  # description ... copyright
_EXIF_PARTS = (0x8769, 0x8825)  # how the photo was taken, and where
_EXIF_MOST = 60_000  # bytes; a JPEG holds little more
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


def result_name(photo: Path) -> Path:
    """The name of a photo's result: its own, but a GIF's 256 colours would be too few."""
    return photo.with_suffix(".png") if photo.suffix.lower() == ".gif" else photo


def save_photo(image: Image.Image, path: Path, like: Image.Image | None = None) -> None:
    """Write a photo, whole, as its suffix says.

    Args:
        like: the photo that it was made from, whose EXIF and resolution it gets.
    """
    kind = path.suffix.lower()
    if kind in (".jpg", ".jpeg", ".bmp") and image.mode != "RGB":  # else it would be copied
        image = image.convert("RGB")  # these hold no transparency
    options = {"quality": 95}
    if kind in (".jpg", ".jpeg"):
        options["subsampling"] = 0  # colour as sharp as lightness
    elif kind in (".tif", ".tiff"):
        options = {"compression": "tiff_deflate"}
    if like is not None:
        options |= _carried_over(like)
        if "exif" in options:  # which Pillow cannot put into a compressed TIFF
            options.pop("compression", None)
    # Not into the file: on a full disk Pillow leaves half a JPEG there without a word.
    image.save(encoded := BytesIO(), Image.registered_extensions()[kind], **options)
    with write_whole(path) as temporary:
        temporary.write_bytes(encoded.getbuffer())


def _carried_over(photo: Image.Image) -> dict[str, object]:
    """EXIF, without an orientation, and resolution, as options for saving."""
    options = {}
    try:
        old, new = photo.getexif(), Image.Exif()
        new.update({tag: old[tag] for tag in _EXIF_TAGS if tag in old})
        for part in _EXIF_PARTS:
            new.get_ifd(part).update(old.get_ifd(part))
        exif = new.tobytes()
        if any((len(new), *(new.get_ifd(part) for part in _EXIF_PARTS))) and len(exif) < _EXIF_MOST:
            options["exif"] = exif
        resolution = photo.info.get("dpi")
        if resolution and all(0 < float(value) < 1e5 for value in resolution):
            options["dpi"] = tuple(float(value) for value in resolution)
    except Exception:  # a photo is worth more than its damaged metadata
        return {}
    return options


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
