"""Batch norm over the batches of all processes, so that their number does not change a run."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


def synchronize(network: nn.Module) -> None:
    """Let the batch norms of a network, in place, take their statistics over all processes.

    Four processes with 4 photos each then train as one with 16 does. Names and weights stay.
    """
    if next(network.parameters()).is_cuda:
        nn.SyncBatchNorm.convert_sync_batchnorm(network)
        return
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = _SyncBatchNorm


class _SyncBatchNorm(nn.BatchNorm2d):
    """Like `nn.SyncBatchNorm`, which runs on GPUs only. Each process has as many photos."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        values = x.float()
        mean = _Mean.apply(values.mean((0, 2, 3)))
        centred = values - mean[:, None, None]
        variance = _Mean.apply(centred.square().mean((0, 2, 3)))
        self._follow(mean.detach(), variance.detach(), x.numel() // x.shape[1])
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Move the running statistics as `nn.BatchNorm2d` does, with the unbiased variance."""
        count *= dist.get_world_size()
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * count / (count - 1), self.momentum)


class _Mean(torch.autograd.Function):
    """The mean of a tensor over the processes; so is its gradient's way back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return _mean(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return _mean(grad)


def _mean(x: Tensor) -> Tensor:
    x = x.clone()
    dist.all_reduce(x)
    return x / dist.get_world_size()
