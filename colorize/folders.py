"""Colour many photos: which ones, where each result goes, and how it is written."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from colorize.hints import Hint
from colorize.photos.pixels import alpha, to_rgb
from colorize.photos.read import (
    PHOTO_SUFFIXES,
    find_photos,
    open_photo,
    other_kinds,
    photo_pixels,
)
from colorize.photos.write import result_name, save_photo
from colorize.predict import Colorizer, in_grey
from colorize.system.errors import ColorizeError, first_line
from colorize.system.files import folder_beside, real_path
from colorize.system.progress import bar

RESULTS = "coloured"  # the folder for results unless another is given
_KINDS = " ".join(sorted(PHOTO_SUFFIXES))
_COMPARE_SIDE = 1200  # pixels of the longer side in a comparison
_AT_ONCE, _MOST_AT_ONCE = 8, 50_000_000  # photos that go to a GPU together; pixels at a time
_GLANCE = 32  # pixels of a side at which a photo and its result are compared
_ALIKE = 5  # of 255, how far apart they may be in lightness: 1 if it is its, 40 to 80 if not
_LARGE = 12_000_000  # pixels from which on a photo keeps several threads busy by itself
_FAILURES = (ColorizeError, OSError, ValueError, RuntimeError, MemoryError)


@dataclass
class Outcome:
    """What became of many photos; each list has a line for a photo."""

    colored: int = 0
    skipped: int = 0
    compared: int = 0  # of those skipped
    failed: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __iadd__(self, other: Outcome) -> Outcome:
        self.colored += other.colored
        self.skipped += other.skipped
        self.compared += other.compared
        self.failed += other.failed
        self.notes += other.notes
        return self


def colorize_files(
    colorizer: Colorizer,
    inputs: Sequence[Path],
    out: Path,
    overwrite: bool = False,
    compare: bool = False,
    outcome: Outcome | None = None,
    hints: Sequence[Hint] | None = None,
) -> Outcome:
    """Colour photos and folders of photos into the folder `out`, under the names they have.

    Photos of a folder keep their place inside it. A bad file is passed over. A GIF becomes a PNG.
    Photos that are done are skipped; where another photo's result has the name, it fails.

    Args:
        overwrite: colour again whatever is there already.
        compare: also write grey and coloured side by side, under `out`/compare; where it is missing
            also of photos that are done.
        outcome: where to note what became of the photos; a stop leaves there what was done by then.
        hints: the same for each photo, see `Colorizer`; so for one, which is coloured again.

    Raises:
        ColorizeError: `out` is no folder, or cannot be written to.
        OSError: the disk is full.
    """
    _check_is_folder(out)
    outcome = Outcome() if outcome is None else outcome
    jobs = _plan(inputs, out, compare, outcome)
    done = {} if overwrite else _take_done(jobs, outcome)
    if hints is not None:  # who gives some wants to see what they do
        jobs, done = jobs | done, {}
    outcome.skipped += len(done)
    missing = _uncompared(done, out) if compare else {}
    if jobs or missing:
        _check_writable(out)
    if missing:
        _compare_done(missing, out, outcome)
    if not jobs:
        return outcome
    on_cpu = colorizer.device.type == "cpu"
    if on_cpu and len(jobs) > 1 and not hints and torch.get_num_threads() > 1:
        _in_threads(colorizer, jobs, out, compare, outcome)
        return outcome
    for opened in _open_several(jobs, not on_cpu, outcome):
        results = _color(colorizer, list(opened.values()), hints or ())
        while opened:  # one by one let go of, before the next photos are opened
            target = next(iter(opened))
            _save(opened.pop(target), results.pop(0), jobs[target], target, out, compare, outcome)
    return outcome


def _check_is_folder(out: Path) -> None:
    if os.path.exists(out):
        if not os.path.isdir(out):
            raise ColorizeError(f"{out}: is a file; give a folder for the results")
    elif out.suffix.lower() in PHOTO_SUFFIXES:
        raise ColorizeError(f"{out}: is the name of a photo; give a folder for the results")


def _check_writable(out: Path) -> None:
    """Before any work: whether the folder can be made, and written to; nothing stays of it."""
    nearest = next(path for path in (out, *out.parents) if os.path.exists(path))
    if not os.path.isdir(nearest):
        raise ColorizeError(f"{out}: {nearest} is a file; give another --out")
    try:
        with folder_beside(nearest / "results"):
            pass
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
        why = f"cannot be written to ({error.strerror})"
        raise ColorizeError(f"{out}: {why}; give another --out") from error


def _in_threads(
    colorizer: Colorizer, jobs: dict[Path, Path], out: Path, compare: bool, outcome: Outcome
) -> None:
    """Colour on a CPU, a photo a thread: threads that share a photo wait for the slowest of them,
    which beside another busy process is most of the time."""
    threads, room = torch.get_num_threads(), _Room(_MOST_AT_ONCE)

    def color(job: tuple[Path, Path]) -> Outcome:
        target, photo = job
        part = Outcome()
        pixels = photo_pixels(photo) or _MOST_AT_ONCE
        with room.taken(_MOST_AT_ONCE if pixels > _LARGE else pixels):
            torch.set_num_threads(threads if pixels > _LARGE else 1)  # of this thread alone
            if image := _open(photo, part):
                _save(image, *_color(colorizer, [image]), photo, target, out, compare, part)
        return part

    try:
        # Closed, it begins no more of them: after a stop the rest would be for nothing.
        with (
            ThreadPoolExecutor(threads) as pool,
            closing(pool.map(color, jobs.items())) as parts,
        ):
            for part in bar(parts, "colouring", len(jobs), unit="photo"):
                outcome += part
    finally:
        torch.set_num_threads(threads)


class _Room:
    """How much may be in work at a time; what does not fit waits, the largest until it is alone."""

    def __init__(self, size: int) -> None:
        self.size = self.free = size
        self.changed = threading.Condition()

    @contextmanager
    def taken(self, share: int) -> Iterator[None]:
        share = min(share, self.size)
        with self.changed:
            self.changed.wait_for(lambda: self.free >= share)
            self.free -= share
        try:
            yield
        finally:
            with self.changed:
                self.free += share
                self.changed.notify_all()


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
        lost = save_photo(colored, target, like=image)
    except _FAILURES as error:
        outcome.failed.append(_line(photo, error))
        return
    outcome.colored += 1
    if image.mode == "1":
        outcome.notes.append(f"{photo}: has only black and white, no greys to tell colours by")
    if image.info.get("deep"):
        outcome.notes.append(f"{photo}: has more than 8 bits a channel, its result has 8")
    if (pages := image.info.get("pages", 1)) > 1:
        outcome.notes.append(f"{photo}: the first of {pages} pages is coloured")
    if lost:
        outcome.notes.append(f"{photo}: its result does not hold its {', '.join(lost)}")
    if compare:
        try:
            _compare(image, colored, _comparison(target, out), out)
        except _FAILURES as error:
            outcome.notes.append(f"coloured, but not compared: {_line(photo, error)}")


def _comparison(target: Path, out: Path) -> Path:
    return out / "compare" / f"{target.relative_to(out)}.jpg"


def _uncompared(done: dict[Path, Path], out: Path) -> dict[Path, Path]:
    """Those done without a comparison; not what a link elsewhere brings, as nothing goes there."""
    return {
        target: photo
        for target, photo in done.items()
        if not os.path.exists(_comparison(target, out)) and _is_within(out, target)
    }


def _compare_done(done: dict[Path, Path], out: Path, outcome: Outcome) -> None:
    for target, photo in bar(done.items(), "comparing", unit="photo"):
        try:
            _compare(open_photo(photo), open_photo(target), _comparison(target, out), out)
        except _FAILURES as error:
            outcome.notes.append(f"not compared: {_line(photo, error)}")
        else:
            outcome.compared += 1


def _compare(image: Image.Image, colored: Image.Image, comparison: Path, out: Path) -> None:
    _check_within(out, comparison)
    save_photo(_side_by_side(image, colored), comparison)


def _is_within(out: Path, path: Path) -> bool:
    return real_path(path.parent).is_relative_to(real_path(out))


def _check_within(out: Path, path: Path) -> None:
    """Refuse to write where a link to a folder leads out of `out`; over a link itself is fine."""
    if not _is_within(out, path):
        raise ColorizeError(f"{path}: a link leads out of {out}; remove it, or give another --out")


def _open_several(
    jobs: dict[Path, Path], several: bool, outcome: Outcome
) -> Iterator[dict[Path, Image.Image]]:
    """Decoded photos by their target: a few at a time, or one by one."""
    opened: dict[Path, Image.Image] = {}
    for target, photo in bar(jobs.items(), "colouring", unit="photo"):
        if not (image := _open(photo, outcome)):
            continue
        opened[target] = image
        pixels = sum(image.width * image.height for image in opened.values())
        if not several or len(opened) == _AT_ONCE or pixels > _MOST_AT_ONCE:
            yield opened  # and get it back empty
    if opened:
        yield opened


def _open(photo: Path, outcome: Outcome) -> Image.Image | None:
    try:
        return open_photo(photo)
    except ColorizeError as error:
        outcome.failed.append(str(error))
    return None


def _color(
    colorizer: Colorizer, images: list[Image.Image], hints: Sequence[Hint] = ()
) -> list[Image.Image | Exception]:
    """Each image in colour, or the error it met: together, or one by one if that fails."""
    try:
        return colorizer.batch(images, [hints] * len(images))
    except _FAILURES as error:
        if len(images) == 1:
            return [error.with_traceback(None)]
    # Not in the `except`: the error holds what the batch had taken of the memory.
    return [result for image in images for result in _color(colorizer, [image], hints)]


def _line(photo: Path, error: Exception) -> str:
    """What went wrong with a photo; a full disk is more than that, and is raised."""
    if getattr(error, "errno", None) == errno.ENOSPC:
        raise error
    if isinstance(error, ColorizeError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:  # all of it has a number and a hidden name
        return f"{photo}: its result cannot be written ({error.strerror})"
    return f"{photo}: {first_line(error)}"


def _plan(inputs: Sequence[Path], out: Path, compare: bool, outcome: Outcome) -> dict[Path, Path]:
    """Each result that there is to be, and the photo it is made from."""
    jobs: dict[Path, Path] = {}
    given = {
        os.path.abspath(photo): (photo, place) for photo, place in _photos(inputs, out, outcome)
    }
    photos = list(given.values())  # each once
    originals = {real_path(photo) for photo, _ in photos}
    into_itself = _is_their_folder(out, inputs)
    line_of_folder = f"{out}: is the folder of the photos; give another --out"
    photos.sort(key=lambda pair: result_name(pair[1]) != pair[1])  # who keeps its name goes first
    taken: dict[Path, Path] = {}
    for photo, inside in photos:
        target = out / result_name(inside)
        files = [target, _comparison(target, out)] if compare else [target]
        if over := next((file for file in files if real_path(file) in originals), None):
            line = f"{over}: is one of the photos; give another --out"
            if into_itself and real_path(photo).is_relative_to(real_path(out)):
                line = line_of_folder
            if line not in outcome.failed:  # a folder into itself is one line, not one a photo
                outcome.failed.append(line)
        elif into_itself:  # then nothing at all is written there, nor looked at
            continue
        elif (first := _taker(taken, files, photo)) is not photo:
            if real_path(first) != real_path(photo):
                outcome.failed.append(f"{photo}: {first} would have the same name in {out}")
        elif line := _fault(photo, target):
            outcome.failed.append(line)
        else:
            jobs[target] = photo
    if into_itself and line_of_folder not in outcome.failed:
        outcome.failed.append(line_of_folder)
    return jobs


def _is_their_folder(out: Path, inputs: Sequence[Path]) -> bool:
    """Whether the folder for results is one that was given, or the one a given photo lies in."""
    folders = (path if os.path.isdir(path) else path.parent for path in inputs if _is_there(path))
    return any(real_path(folder) == real_path(out) for folder in folders)


def _taker(taken: dict[Path, Path], files: Sequence[Path], photo: Path) -> Path:
    """Which photo has one of these names in the results; if none has, now this one."""
    first = next((taken[file] for file in files if file in taken), photo)
    if first is photo:
        taken.update(dict.fromkeys(files, photo))
    return first


def _fault(photo: Path, target: Path) -> str:
    """Why a photo is not even opened; empty if it is."""
    if not _is_there(photo):
        return f"{photo}: no such file"
    if photo.suffix.lower() == ".pdf":
        return f"{photo}: is a PDF, no photo; save its pages as PNG or JPEG"
    if target.suffix.lower() not in PHOTO_SUFFIXES:
        return f"{photo}: unknown kind of photo; use {_KINDS}"
    if os.path.isdir(target):
        return f"{photo}: {target} is a folder; remove it, or give another --out"
    return ""


def _take_done(jobs: dict[Path, Path], outcome: Outcome) -> dict[Path, Path]:
    """Take out of the jobs those whose name is taken; gives those of them that are done."""
    done: dict[Path, Path] = {}
    for target in filter(os.path.exists, list(jobs)):
        # Else no whole result is there; or no photo, which is said when it is to be coloured.
        with suppress(*_FAILURES):
            ours = _is_result(target, photo := jobs[target])
            del jobs[target]
            if ours:
                done[target] = photo
            else:
                outcome.failed.append(
                    f"{photo}: {target} is of another photo; give another --out, or --overwrite"
                )
    return done


def _is_result(result: Path, photo: Path) -> bool:
    """Whether a file may be a photo's result, and is not that of another of the same name."""
    images = [open_photo(path, at_least=_GLANCE) for path in (photo, result)]
    if images[0].info["pixels"] != images[1].info["pixels"]:
        return False
    side = (_GLANCE, _GLANCE)
    small = [to_rgb(image).resize(side, Image.Resampling.BOX) for image in images]
    before, after = (np.asarray(in_grey(image), np.float32) for image in small)
    opaque = alpha(images[0])  # what cannot be seen need not have been kept
    share = 1 if opaque is None else np.asarray(opaque.resize(side)) / 255
    return bool((abs(before - after) * share).mean() <= _ALIKE)


def _is_there(photo: Path) -> bool:
    try:
        os.lstat(photo)
    except OSError as error:  # what else it may be, `open_photo` tells
        return not isinstance(error, FileNotFoundError)
    return True


def _photos(inputs: Sequence[Path], out: Path, outcome: Outcome) -> Iterator[tuple[Path, Path]]:
    """Photos, each with its place inside the folder that was given."""
    results = real_path(out)
    for path in inputs:
        if not os.path.isdir(path):  # unlike `Path.is_dir` no error where that may not be known
            yield path, Path(path.name)
            continue
        if others := other_kinds(path):
            outcome.notes.append(f"{path}: {others}")
        try:
            photos = find_photos(path, outcome.failed)
        except ColorizeError as error:
            outcome.failed.append(str(error))
            continue
        # What lies in `out` came from an earlier run.
        among = real_path(path) in results.parents
        for photo in photos:
            inside = photo.relative_to(path)
            if among and results in real_path(photo).parents:
                continue
            if RESULTS in inside.parts[:-1]:
                earlier = path.joinpath(*inside.parts[: inside.parts.index(RESULTS) + 1])
                line = f"{earlier}: passed over, it looks like results; give it by name if not"
                if line not in outcome.notes:
                    outcome.notes.append(line)
                continue
            yield photo, inside


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
