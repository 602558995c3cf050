"""The innermost loop, one pass over the photos, and what callbacks get after it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from colorize.health import NotANumber
from colorize.memory import Losses
from colorize.progress import bar

_LOOK = 10  # steps between two looks at the losses, which wait for the device


@dataclass
class Stage:
    """What distinguishes pretraining from GAN training."""

    name: str  # "pretrain" or "gan"
    epochs: int
    step: Callable[[Tensor, Tensor], Losses]  # scaled L and ab of a batch to its losses
    schedules: list[LRScheduler]
    parts: dict[str, Any]  # what a checkpoint must hold beside the generator


@dataclass
class Progress:
    """How far an epoch is; a checkpoint in its middle keeps it."""

    steps: int = 0
    photos: int = 0
    before: int = 0  # steps that the optimizers had taken when the epoch began
    skipped: int = 0  # steps that they did not take, as fp16 gave no usable gradients
    seconds: float = 0.0
    totals: Losses = field(default_factory=dict)  # sums of the losses
    good: Tensor | int = 0  # steps after which all of them were numbers

    def add(self, losses: Losses, photos: int) -> None:
        """Count a step, without waiting for the device."""
        self.totals = {name: self.totals.get(name, 0.0) + loss for name, loss in losses.items()}
        self.good = self.good + torch.stack(list(self.totals.values())).isfinite().all()
        self.steps += 1
        self.photos += photos

    def row(self, accelerator: Accelerator) -> dict[str, float]:
        """Mean losses over the photos of all processes, seconds and speed."""
        losses = torch.stack(list(self.totals.values())).to(accelerator.device) / self.steps
        losses = accelerator.reduce(losses, "mean").tolist()
        row = {name: round(loss, 6) for name, loss in zip(self.totals, losses, strict=True)}
        row["seconds"] = round(self.seconds, 2)
        photos = self.photos * accelerator.num_processes
        row["photos_per_second"] = round(photos / self.seconds, 2)
        return row | ({"skipped_steps": self.skipped} if self.skipped else {})

    def check(self, name: str) -> None:
        """Raises NotANumber if one of the losses was NaN or infinite."""
        if int(self.good) < self.steps:
            bad = [loss for loss, total in self.totals.items() if not total.isfinite()]
            raise NotANumber(f"{name}, step {int(self.good) + 1}: {', '.join(bad)} is not a number")


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
    """What decides the order, crops and gammas of an epoch, which is counted from 0.

    Nothing that ran before matters: a resumed run sees what an unbroken one sees.
    """
    return seed * 2_000_003 + epoch + (1_000_000 if stage == "gan" else 0)


def run_epoch(
    stage: Stage,
    epoch: int,
    batches: Iterable[tuple[Tensor, Tensor]],
    steps: int,
    show: bool,
    done: Progress | None = None,
    after_step: Callable[[Progress], None] = lambda done: None,
) -> Progress:
    """Take a step a batch.

    Args:
        epoch: from 0.
        batches: pairs of scaled L (B, 1, H, W) and ab (B, 2, H, W).
        steps: how many there are in a whole epoch, for the progress bar.
        show: whether to draw the bar.
        done: what an earlier process did of this epoch; `batches` are those that are left.
        after_step: called after each step.

    Raises:
        NotANumber: a loss is NaN or infinite.
        ColorizeError: the device is out of memory.
    """
    name = f"{stage.name} {epoch + 1}/{stage.epochs}"
    done = done or Progress()
    if not done.steps:
        done.before = _steps_taken(stage) or 0
    started = time.perf_counter() - done.seconds
    with bar(batches, name, steps, unit="batch", show=show, initial=done.steps) as shown:
        for L, ab in shown:
            losses = stage.step(L, ab)
            for schedule in stage.schedules:
                schedule.step()
            done.add(losses, len(L))
            done.seconds = time.perf_counter() - started
            if done.steps % _LOOK == 0:
                done.check(name)
                values = {key: f"{loss.item():.4f}" for key, loss in losses.items()}
                speed = f"{done.photos / done.seconds:.1f}"
                shown.set_postfix(values | {"photos/s": speed}, refresh=False)
            after_step(done)
    done.check(name)  # and so waits for the device
    if (taken := _steps_taken(stage)) is not None:
        done.skipped = done.steps - (taken - done.before)
    done.seconds = time.perf_counter() - started
    return done


def _steps_taken(stage: Stage) -> int | None:
    """By the optimizer that has taken the fewest; None if they do not count.

    A fused one passes over bad gradients itself, which nobody else is told.
    """
    optimizers = [part for part in stage.parts.values() if isinstance(part, Optimizer)]
    states = [next(iter(optimizer.state.values()), {}) for optimizer in optimizers]
    return min((int(state["step"]) for state in states if "step" in state), default=None)
