"""This project's recipe, in memory, for what is timed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from colorize.config import DataConfig, TrainConfig
from colorize.dataset import Photos, PhotoSet
from colorize.discriminator import PatchGAN
from colorize.generator import Generator
from colorize.trainer import Trainer


def photo_set(array: np.ndarray, count: int | None = None) -> PhotoSet:
    """So many photos of a uint8 array (N, S, S, 3), which may come round again, or just all."""
    rows = np.arange(len(array) if count is None else count) % len(array)
    return PhotoSet(array, rows, [str(row) for row in rows])


def spare(size: int) -> int:
    """Side of the cached photos that crops of `size` are cut from."""
    return round(size * (1 + DataConfig().crop_margin))


def make_trainer(photos: PhotoSet, size: int, batch_size: int, precision: str) -> Trainer:
    """A `Trainer` from scratch whose stages may be stepped for as long as it takes."""
    torch.manual_seed(0)
    config = TrainConfig(
        batch_size=batch_size,
        pretrain_epochs=100_000,  # what the schedules allow
        gan_epochs=100_000,
        encoder_weights="none",
        precision=precision,
    )
    parts = Photos(photos, photo_set(photos.array, 0), size)
    return Trainer(config, parts, Generator(working_size=size), PatchGAN(), progress=False)


def noise_photos(size: int, batch_size: int) -> Photos:
    """Two batches of noise: what photos show does not change what they cost."""
    shape = (2 * batch_size, spare(size), spare(size), 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    return Photos(photo_set(pixels), photo_set(pixels, 0), size)


def noise_trainer(size: int, batch_size: int, precision: str) -> Trainer:
    """One on photos of noise."""
    return make_trainer(noise_photos(size, batch_size).train, size, batch_size, precision)


def noise_batch(size: int, batch_size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Scaled L and ab of nothing in particular."""
    L, ab = (torch.rand(batch_size, n, size, size, device=device) - 0.5 for n in (1, 2))
    return L, ab


def repeat(step: Callable[..., Any], batch: tuple[Tensor, Tensor], times: int) -> None:
    for _ in range(times):
        step(*batch)


def seconds_of(run: Callable[[], Any], device: torch.device | str) -> float:
    """Wall-clock seconds of one call, the device's work included."""
    started = time.perf_counter()
    run()
    if torch.device(device).type != "cpu":
        torch.accelerator.synchronize()
    return time.perf_counter() - started
