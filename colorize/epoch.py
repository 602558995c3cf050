"""The innermost loop, one pass over the photos, and what callbacks get after it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from colorize.errors import ColorizeError
from colorize.progress import bar
from colorize.steps import Losses


@dataclass
class Stage:
    """What distinguishes pretraining from GAN training."""

    name: str  # "pretrain" or "gan"
    epochs: int
    step: Callable[[Tensor, Tensor], Losses]  # scaled L and ab of a batch to its losses
    schedules: list[LRScheduler]
    parts: dict[str, Any]  # what a checkpoint must hold beside the generator


@dataclass
class EpochReport:
    """What a callback gets after each epoch. Tensors are on the CPU, of held-out photos."""

    stage: str  # "pretrain" or "gan"
    epoch: int  # from 1
    epochs: int
    history: list[dict[str, Any]]  # a row an epoch, this one last
    L: Tensor  # (n, 1, size, size), scaled
    ab_predicted: Tensor  # (n, 2, size, size), by the averaged generator
    ab_true: Tensor


def epoch_seed(seed: int, stage: str, epoch: int) -> int:
    """What decides the order and the crops of an epoch, which is counted from 0.

    Nothing that ran before matters: a resumed run sees what an unbroken one sees.
    """
    return seed * 2_000_003 + epoch + (1_000_000 if stage == "gan" else 0)


def run_epoch(
    stage: Stage,
    epoch: int,
    batches: Iterable[tuple[Tensor, Tensor]],
    steps: int,
    show: bool,
) -> dict[str, float]:
    """Take a step a batch.

    Args:
        epoch: from 0.
        batches: pairs of scaled L (B, 1, H, W) and ab (B, 2, H, W).
        steps: how many there are, for the progress bar.
        show: whether to draw the bar.

    Returns:
        The means of the losses, `seconds` and `photos_per_second`.

    Raises:
        ColorizeError: a loss is no longer a number, or the device is out of memory.
    """
    name = f"{stage.name} {epoch + 1}/{stage.epochs}"
    totals: Losses = {}
    photos, started = 0, time.perf_counter()
    with bar(batches, name, steps, unit="batch", show=show) as shown:
        for count, (L, ab) in enumerate(shown, start=1):
            try:
                losses = stage.step(L, ab)
            except torch.OutOfMemoryError as error:
                raise ColorizeError(
                    f"{name}: out of memory with {len(L)} photos of {L.shape[-1]}x{L.shape[-2]} a "
                    "batch; take a smaller batch size (--batch-size, BATCH_SIZE) or size"
                ) from error
            for schedule in stage.schedules:
                schedule.step()
            totals = {key: totals.get(key, 0.0) + loss for key, loss in losses.items()}
            photos += len(L)
            if show and count % 10 == 0:  # reading a loss waits for the device
                speed = photos / (time.perf_counter() - started)
                values = {key: f"{loss.item():.4f}" for key, loss in losses.items()}
                shown.set_postfix(values | {"photos/s": f"{speed:.1f}"}, refresh=False)
    means = {key: round(float(total) / count, 6) for key, total in totals.items()}
    if not all(map(math.isfinite, means.values())):
        raise ColorizeError(
            f"{name}: a loss is no longer a number ({means}); the last checkpoint is from before; "
            "try a lower learning rate or --precision fp32"
        )
    seconds = time.perf_counter() - started
    return means | {"seconds": round(seconds, 2), "photos_per_second": round(photos / seconds, 2)}
