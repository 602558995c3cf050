"""Photos for training: the split, what is left out, Lab as the networks see it."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset
from torchvision.transforms.v2.functional import InterpolationMode, resized_crop

from colorize.aging import aged_lightness
from colorize.color import rgb_to_lab, scale_lab
from colorize.config import DataConfig, TrainConfig
from colorize.hints import random_squares, true_hints
from colorize.photos.cache import Decoded, decode_once
from colorize.photos.sources import source_other_kinds, source_paths
from colorize.system.device import of_several, send
from colorize.system.errors import ColorizeError

if TYPE_CHECKING:
    from accelerate import Accelerator  # predicting needs none of it


def split(names: Sequence[str], val_fraction: float, seed: int) -> tuple[list[str], list[str]]:
    """Divide names into (train, val), both sorted.

    Depends on the seed and the names alone, not on their order. With two names or more and a
    fraction above 0, each part gets at least one.
    """
    ranked = _ranked(names, seed)
    count = round(len(ranked) * val_fraction)
    if val_fraction > 0:
        count = min(max(count, 1), len(ranked) - 1)
    return sorted(ranked[count:]), sorted(ranked[:count])


@dataclass
class PhotoSet(Dataset):
    """Decoded square photos, as many rows of one array in the cache."""

    array: np.ndarray  # (all rows, size, size, 3) uint8, usually a memory map
    rows: np.ndarray  # which of them belong to the set
    names: list[str]  # a name for each of `rows`
    colorfulness: list[float] = field(default_factory=list)  # likewise, if known

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Tensor:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> Tensor:
        """Several at once: uint8 (B, 3, size, size), a view of channels-last memory."""
        batch = self.array[self.rows[list(indices)]]
        return torch.from_numpy(np.ascontiguousarray(batch)).permute(0, 3, 1, 2)

    def part(self, first: int, step: int) -> PhotoSet:
        """Every so many-th photo of the set, from one on: the share of one of several processes."""
        chosen = slice(first, None, step)
        return PhotoSet(
            self.array, self.rows[chosen], self.names[chosen], self.colorfulness[chosen]
        )

    def middle(self, indices: Sequence[int], size: int) -> Tensor:
        """The same, without the margin that training photos have: uint8 (B, 3, size, size)."""
        margin = (self.array.shape[1] - size) // 2
        inside = slice(margin, margin + size)
        return self.__getitems__(indices)[:, :, inside, inside]


@dataclass
class Photos:
    """What a run trains and measures on, and what was left out."""

    train: PhotoSet  # a margin larger than `size`, for random crops
    val: PhotoSet  # at `size`
    size: int
    grey: list[str] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)  # name -> reason
    copies: int = 0  # photos that are there under another name too
    others: str = ""  # what is there of kinds that are not read

    def fingerprint(self) -> dict[str, Any]:
        """What a checkpoint keeps, to know these photos again: their names and mean colour."""
        names = json.dumps([self.train.names, self.val.names])
        colors = [*self.train.colorfulness, *self.val.colorfulness]
        return {
            "names": hashlib.sha256(names.encode()).hexdigest(),
            "colorfulness": fmean(colors) if colors else 0.0,
        }

    def match(self, fingerprint: dict[str, Any]) -> bool:
        """Whether a fingerprint is of these photos, give or take another JPEG decoder."""
        own = self.fingerprint()
        near = abs(own["colorfulness"] - fingerprint["colorfulness"]) < 0.1
        return near and own["names"] == fingerprint["names"]

    def summary(self) -> str:
        """One or two lines for people: how many photos, and which were left out."""
        text = f"{len(self.train)} photos to train on, {len(self.val)} held out"
        if self.copies:
            text += f"; {self.copies} are copies of others, on the same side of the split"
        if self.grey:
            text += f"; {len(self.grey)} grey ones left out"
        if self.others:
            text += f"; {self.others}"
        if self.unreadable:
            names = ", ".join(list(self.unreadable)[:5])
            more = len(self.unreadable) - 5
            names += f" and {more} more" if more > 0 else ""
            text += f"; {len(self.unreadable)} unreadable left out: {names}"
        return text


def load_photos(config: DataConfig, seed: int = 0, progress: bool = True) -> Photos:
    """Find, split and decode the photos that a run uses.

    Raises:
        ColorizeError: nothing found, nothing readable, or nothing in colour.
    """
    paths = _choose(source_paths(config.source), config.max_photos, seed)
    same = _copies(paths)
    firsts = [name for name in paths if name not in same]
    train_names, val_names = split(firsts, config.val_fraction, seed)
    held_out = set(val_names)
    for copy, first in same.items():
        (val_names if first in held_out else train_names).append(copy)
    train_names.sort()
    val_names.sort()
    spare = round(config.size * (1 + config.crop_margin))
    unreadable: dict[str, str] = {}

    def decoded(names: list[str], size: int, least_color: float) -> tuple[PhotoSet, list[str]]:
        files = decode_once([paths[name] for name in names], size, config.cache, progress)
        unreadable.update({names[row]: reason for row, reason in files.unreadable.items()})
        readable = [row for row in range(len(names)) if row not in files.unreadable]
        kept = [row for row in readable if files.colorfulness[row] >= least_color]
        grey = sorted(set(readable) - set(kept))
        return _photo_set(files, kept, names), [names[row] for row in grey]

    train, grey = decoded(train_names, spare, config.min_colorfulness)
    val, _ = decoded(val_names, config.size, 0.0)
    others = source_other_kinds(config.source)
    photos = Photos(train, val, config.size, grey, unreadable, len(same), others)
    if not len(train):
        raise ColorizeError(f"{config.source}: nothing to train on: {photos.summary()}")
    return photos


def load_photo_set(
    folder: str, size: int, cache: str | None = None, max_photos: int | None = None
) -> tuple[PhotoSet, list[str]]:
    """All readable photos of a folder, to measure on, and a line for each unreadable one.

    With `max_photos` a choice of so many, always the same.

    Raises:
        ColorizeError: no such folder, or no photo in it that can be read.
    """
    paths = _choose(source_paths(folder), max_photos, seed=0)
    files = decode_once(list(paths.values()), size, cache)
    kept = [row for row in range(len(paths)) if row not in files.unreadable]
    if not kept:
        raise ColorizeError(f"{folder}: none of its {len(paths)} photos can be read")
    return _photo_set(files, kept, list(paths)), list(files.unreadable.values())


def to_network(rgb: Tensor) -> tuple[Tensor, Tensor]:
    """uint8 RGB (B, 3, H, W) to scaled L (B, 1, H, W) and ab (B, 2, H, W), on its device."""
    return scale_lab(rgb_to_lab(rgb))


def spread(count: int, most: int) -> list[int]:
    """Up to `most` indices, evenly over a set whose order is by name."""
    return torch.linspace(0, max(count - 1, 0), min(most, count)).round().long().tolist()


def _photo_set(files: Decoded, rows: list[int], names: list[str]) -> PhotoSet:
    colors = [files.colorfulness[row] for row in rows]
    return PhotoSet(files.array, np.array(rows, int), [names[row] for row in rows], colors)


def _choose(paths: dict[str, Path], most: int | None, seed: int) -> dict[str, Path]:
    """A seeded choice of photos; all of them for None."""
    return {name: paths[name] for name in _ranked(paths, seed)[:most]} if most else paths


def _copies(paths: dict[str, Path]) -> dict[str, str]:
    """Names of files that hold what one before them in the alphabet does, and that one's name."""
    by_size: dict[int, list[str]] = {}
    for name in sorted(paths):
        with suppress(OSError):  # reported as unreadable when it is decoded
            if (state := paths[name].stat()) and stat.S_ISREG(state.st_mode) and state.st_size:
                by_size.setdefault(state.st_size, []).append(name)
    same, seen = {}, {}
    for name in (name for names in by_size.values() if len(names) > 1 for name in names):
        with suppress(OSError):
            content = hashlib.sha256(paths[name].read_bytes()).digest()
            if (first := seen.setdefault(content, name)) != name:
                same[name] = first
    return same


def _ranked(names: Iterable[str], seed: int) -> list[str]:
    """Names in a random order that depends on nothing but the seed and the names."""
    return sorted(names, key=lambda name: hashlib.sha256(os.fsencode(f"{seed}/{name}")).digest())


def agree(value: str, what: str) -> None:
    """Raises ColorizeError if the processes that train together differ in something."""
    from accelerate.utils import gather_object

    if of_several() and len(set(gather_object([value]))) > 1:
        raise ColorizeError(f"the processes that train together do not all have the same {what}")


class Batches:
    """Training batches on the device; each process of several has its share of them.

    What a batch holds depends on the seed of its epoch and on its number, on nothing that ran
    before. Two processes of B photos together see what one process of 2 B would.
    """

    def __init__(self, accelerator: Accelerator, photos: Photos, config: TrainConfig) -> None:
        self.accelerator, self.photos, self.config = accelerator, photos, config
        agree(photos.fingerprint()["names"], "photos, or not all can read them")
        self.shown = config.epoch_photos or len(photos.train) * config.repeats
        if min(config.batch_size, self.shown) == 1 and photos.size == 32:
            raise ColorizeError("batch norm needs a batch of 2 or more, or photos larger than 32")

    def __len__(self) -> int:
        """Steps of an epoch."""
        if not (steps := len(self._loader(seed=0))):
            raise ColorizeError(
                f"{len(self.photos.train)} photos are too few for "
                f"{self.accelerator.num_processes} processes; lower --batch-size"
            )
        return steps

    def epoch(self, seed: int, start: int = 0) -> Iterator[tuple[Tensor, ...]]:
        """L (B, 1, H, W) and ab (B, 2, H, W), both scaled, from the step `start` on.

        With `config.hints` also the hints (B, 3, H, W).
        """
        shown, size = self.shown, self.photos.size
        whole = self.photos.train.array.shape[1]
        crops = random_crops(shown, whole, size, seed, self.config.min_crop_area)
        gammas = random_gammas(shown, seed, self.config.lightness_jitter)
        squares = (
            random_squares(shown, size, seed, self.config.hint_share) if self.config.hints else ()
        )
        processes, process = self.accelerator.num_processes, self.accelerator.process_index
        loader = self._loader(seed, start * processes)
        for step, rgb in enumerate(ahead(loader, self.accelerator.device), start):
            first = (step * processes + process) * self.config.batch_size
            torch.manual_seed(seed + 1_000_003 * first)  # for what ages photos
            places = torch.arange(first, first + len(rgb)) % shown
            cut = crop_flip(rgb, size, crops[places])
            L, ab = to_network(cut)
            if share := self.config.old_photo:
                old = (torch.rand(len(cut)) < share).nonzero().flatten()
                if len(old):
                    old = send(old, cut.device)
                    L[old] = aged_lightness(cut[old])
            if self.config.lightness_jitter:
                L = apply_gamma(L, gammas[places])
            if squares:
                yield L, ab, true_hints(ab, [squares[place] for place in places.tolist()])
            else:
                yield L, ab

    def _loader(self, seed: int, start: int = 0) -> DataLoader:
        config = self.config
        pin = self.accelerator.device.type == "cuda"
        order = (config.batch_size, seed, self.shown, start)
        return self.accelerator.prepare(train_loader(self.photos.train, *order, pin))


def ahead(batches: Iterable[Tensor], device: torch.device) -> Iterator[Tensor]:
    """The same batches. A thread reads and sends the next one while a GPU works on this one."""
    if device.type == "cpu":  # reading is a five-thousandth of a step, and the cores are busy
        yield from batches
        return
    here = (None, ())
    if device.type == "cuda":  # a thread begins on the first GPU; and `device` may have no number
        here = (torch.cuda.set_device, (torch.cuda.current_device(),))
    coming = iter(batches)
    with ThreadPoolExecutor(1, "batches", *here) as thread:
        following = thread.submit(next, coming, None)
        while (batch := following.result()) is not None:
            following = thread.submit(next, coming, None)
            yield batch


def random_crops(count: int, whole: int, size: int, seed: int, min_area: float = 1.0) -> Tensor:
    """Where to cut an epoch's photos, in the order in which they are shown.

    Args:
        whole: side of a photo.
        size: side of the largest crop.
        min_area: of the smallest crop, as a share of the largest one's.

    Returns:
        (count, 4) on the CPU: top, left, side, and whether to mirror.
    """
    random = torch.Generator().manual_seed(seed)
    areas = min_area + (1 - min_area) * torch.rand(count, 1, generator=random)
    sides = (size * areas.sqrt()).round().long()
    corners = torch.rand(count, 2, generator=random, dtype=torch.float64)
    corners = (corners * (whole - sides + 1)).long()
    flips = torch.randint(2, (count, 1), generator=random)
    return torch.cat((corners, sides, flips), dim=1)


def random_gammas(count: int, seed: int, spread: float) -> Tensor:
    """How an epoch's photos change in lightness, in the order in which they are shown.

    Args:
        seed: the epoch's.
        spread: standard deviation of the logarithms.

    Returns:
        (count,) float32 above 0 on the CPU; 1 changes nothing.
    """
    random = torch.Generator().manual_seed(seed + 500_000)  # not what decides the crops
    return torch.exp(spread * torch.randn(count, generator=random))


def apply_gamma(L: Tensor, gammas: Tensor) -> Tensor:
    """Make photos darker (gamma above 1) or lighter; black and white stay.

    Args:
        L: scaled, (B, 1, H, W) in [-1, 1]; so is what comes out.
        gammas: (B,) on the CPU, see `random_gammas`.
    """
    share = ((L + 1) / 2).clamp(0, 1)  # of white; rounding may leave it a little
    return 2 * share ** send(gammas, L.device).view(-1, 1, 1, 1) - 1


def crop_flip(rgb: Tensor, size: int, crops: Tensor) -> Tensor:
    """Cut a square out of each photo of a batch, bring it to `size` if it is smaller, mirror some.

    Args:
        rgb: (B, 3, S, S), any device; uint8 if a crop is smaller than `size`.
        crops: (B, 4) on the CPU, see `random_crops`.
    """
    if rgb.device.type != "cpu":
        return cut_together(rgb, size, crops)
    cut = []  # a CPU copies rows of bytes faster than it multiplies
    for photo, (top, left, side, flip) in zip(rgb, crops.tolist(), strict=True):
        crop = resized_crop(photo, top, left, side, side, [size, size], InterpolationMode.BICUBIC)
        cut.append(crop.flip(-1) if flip else crop)
    return torch.stack(cut)


def cut_together(rgb: Tensor, size: int, crops: Tensor) -> Tensor:
    """`crop_flip` of uint8 photos in a few calls a batch, where calls cost more than arithmetic.

    Columns, then rows, are sums of others: two matrix products. Their weights are the bicubic ones
    of torchvision's antialiased resizing, which for a crop of `size` itself are 0 and 1. As there,
    what lies between the two is rounded to bytes.
    """
    top, left, side, flip = send(crops, rgb.device).T
    rows = _bicubic(top, side, size, rgb.shape[-2])
    columns = _bicubic(left, side, size, rgb.shape[-1])
    columns = torch.where(flip.bool().view(-1, 1, 1), columns.flip(1), columns)
    narrow = (rgb.float() @ columns.mT[:, None]).round().clamp(0, 255)
    return (rows[:, None] @ narrow).round().clamp(0, 255).to(rgb.dtype)


def _bicubic(first: Tensor, side: Tensor, size: int, whole: int) -> Tensor:
    """Weights (B, size, whole) that bring `side` of `whole` pixels, from `first` on, to `size`.

    Keys, "Cubic convolution interpolation", 1981, with a = -1/2; pixels beside the crop count for
    nothing. `first` and `side` are (B,), and no side is above `size`.
    """
    new, old = (torch.arange(n, device=side.device) + 0.5 for n in (size, whole))
    start, end = first[:, None], (first + side)[:, None]
    centers = start + new * (side[:, None] / size)
    away = (old - centers[..., None]).abs().clamp(max=2)
    near = (1.5 * away - 2.5) * away * away + 1
    far = ((2.5 - 0.5 * away) * away - 4) * away + 2
    inside = (old > start) & (old < end)
    weights = torch.where(away < 1, near, far) * inside[:, None]
    return weights / weights.sum(-1, keepdim=True)


def shuffled(count: int, seed: int, shown: int | None = None, start: int = 0) -> list[int]:
    """A random order that depends on the seed alone; the trainer gives a new seed each epoch.

    Args:
        shown: how many to show; all of them once if None. Of more than there are, each comes again
            when all others have been: pays for tiny sets, where each look is another crop.
        start: how many to leave out at the beginning, as they were shown before a stop.
    """
    random = torch.Generator().manual_seed(seed)
    shown = count if shown is None else shown
    orders = [
        torch.randperm(count, generator=random) for _ in range(0, max(shown, 1), max(count, 1))
    ]
    return torch.cat(orders)[start:shown].tolist()


def train_loader(
    photos: PhotoSet,
    batch_size: int,
    seed: int,
    shown: int | None = None,
    start: int = 0,
    pin: bool = False,
) -> DataLoader:
    """Shuffled uint8 batches (B, 3, S, S) from batch `start` on, in pinned memory for a GPU.

    A last, smaller batch is left out, as batch norm would read too much into it, unless it is the
    only one.
    """
    shown = len(photos) if shown is None else shown
    order = shuffled(len(photos), seed, shown, start * batch_size)
    batches = BatchSampler(order, batch_size, drop_last=shown >= batch_size)
    # A batch is one fancy index into the memory map: no worker processes, nothing to collate.
    return DataLoader(photos, batch_sampler=batches, collate_fn=_as_it_is, pin_memory=pin)


def _as_it_is(batch: Tensor) -> Tensor:
    return batch
