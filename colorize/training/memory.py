"""A batch that is too large for the device's memory goes through the networks in parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import repeat
from typing import TypeAlias

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from torch import Tensor
from torch.optim import Optimizer

from colorize.system.errors import ColorizeError
from colorize.system.progress import say

Losses: TypeAlias = dict[str, Tensor]
# What a step takes of some photos, and the share of the batch that they are, to their losses; adds
# to the gradients.
Gradients: TypeAlias = Callable[..., Losses]


class Accumulation:
    """Adds up a batch's gradients: of all of it at once or, if that does not fit, of parts.

    The optimizers then step as often as before, and as far: only batch norm sees fewer photos at
    a time, and its running statistics also follow a try that failed.

    Args:
        may_split: False for one of several processes, which cannot change its mind alone.
    """

    def __init__(self, may_split: bool = True) -> None:
        self.parts, self.may_split = 1, may_split

    def __call__(
        self, gradients: Gradients, optimizers: Sequence[Optimizer], *batch: Tensor | None
    ) -> Losses:
        """Clear the optimizers' gradients and compute those of a batch; gives its losses.

        Args:
            batch: L (B, 1, H, W), and what else `gradients` wants, with a row a photo, or None.

        Raises:
            ColorizeError: a single photo does not fit, or the batch may not be split.
        """
        while True:
            for optimizer in optimizers:
                optimizer.zero_grad()
            try:
                return self._in_parts(gradients, batch)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                self._split(batch[0])
            # Not in the `except`: the error holds what the step had taken of the memory.
            clear_device_cache(garbage_collection=True)

    def _in_parts(self, gradients: Gradients, batch: Sequence[Tensor | None]) -> Losses:
        totals: Losses = {}
        chunks = [repeat(None) if x is None else x.chunk(self.parts) for x in batch]
        for some in zip(*chunks, strict=False):  # None has no end
            share = len(some[0]) / len(batch[0])
            for name, loss in gradients(*some, share).items():
                totals[name] = totals.get(name, 0.0) + share * loss
        return totals

    def _split(self, L: Tensor) -> None:
        count, (height, width) = len(L), L.shape[-2:]
        if self.parts >= count:
            raise ColorizeError(
                f"out of memory with a single photo of {width}x{height}; take a smaller size "
                "(--size, SIZE)"
            ) from None
        if not self.may_split:
            raise ColorizeError(
                f"out of memory with {count} photos of {width}x{height} in one of several "
                "processes; take a smaller batch size (--batch-size, BATCH_SIZE)"
            ) from None
        self.parts *= 2
        say(
            f"out of memory: from now on a batch of {count} photos goes in {self.parts} parts, "
            "whose gradients are added up"
        )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device's memory is full."""
    known = isinstance(error, torch.OutOfMemoryError) or should_reduce_batch_size(error)
    # The first is unknown to older Accelerates; the second is cuDNN's, without room to work in.
    others = ("MPS backend out of memory", "unable to find an engine to execute")
    return known or any(text in str(error) for text in others)
