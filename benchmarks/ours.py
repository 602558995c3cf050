"""This project's recipe, in memory, for what is timed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from colorize.config import TrainConfig
from colorize.data import Photos, PhotoSet
from colorize.discriminator import PatchGAN
from colorize.generator import Generator
from colorize.train import Trainer


def photo_set(array: np.ndarray, count: int | None = None) -> PhotoSet:
    """The first photos of a uint8 array (N, S, S, 3), or all of them."""
    rows = np.arange(len(array) if count is None else count)
    return PhotoSet(array, rows, [str(row) for row in rows])


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


def seconds_of(run: Callable[[], Any], device: torch.device | str) -> float:
    """Wall-clock seconds of one call, the device's work included."""
    started = time.perf_counter()
    run()
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started
