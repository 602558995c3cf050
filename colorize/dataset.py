"""Photos for training: the split, what is left out, Lab as the networks see it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from colorize.cache import Decoded, decode_once
from colorize.color import rgb_to_lab, scale_lab
from colorize.config import DataConfig
from colorize.errors import ColorizeError
from colorize.sources import source_paths


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
        if self.grey:
            text += f"; {len(self.grey)} grey ones left out"
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
    train_names, val_names = split(list(paths), config.val_fraction, seed)
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
    photos = Photos(train, val, config.size, grey, unreadable)
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


def _ranked(names: Iterable[str], seed: int) -> list[str]:
    """Names in a random order that depends on nothing but the seed and the names."""
    return sorted(names, key=lambda name: hashlib.sha256(os.fsencode(f"{seed}/{name}")).digest())
