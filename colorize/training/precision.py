"""Which number format to compute in on this machine."""

from __future__ import annotations

import time

import torch
from accelerate.utils import broadcast_object_list
from torch import nn

from colorize.system.device import process_state
from colorize.system.errors import ColorizeError

_WORTHWHILE = 1.3  # on a CPU bf16 must be this much faster to be worth its three digits


def pick_precision(wish: str = "auto", device: torch.device | None = None) -> str:
    """ "fp32", "bf16" or "fp16": the wish, or what suits the device.

    GPUs with bf16 use it: it has the range of float32, so a GAN's losses cannot overflow. Older
    ones (a T4) use fp16 with loss scaling. A CPU uses bf16 only if it measures faster here.
    """
    own = process_state().device
    device = device or own
    if wish == "fp16" and device.type == "cpu":
        raise ColorizeError("fp16 trains on a GPU only; on a CPU take --precision bf16 or fp32")
    if wish != "auto":
        return wish
    return broadcast_object_list([_suitable(device)])[0]  # the main process decides for all


def _suitable(device: torch.device) -> str:
    if device.type == "cuda":
        major, _ = torch.cuda.get_device_capability(device)
        return "bf16" if major >= 8 else "fp16"
    if device.type == "cpu" and _bf16_speedup() > _WORTHWHILE:
        return "bf16"
    return "fp32"


def _bf16_speedup() -> float:
    """How many times faster a convolution runs in bf16 than in float32; takes under 0.5 s."""
    # In one thread: several wait for each other wherever another process is busy, which hides
    # the difference.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _race_formats()
    finally:
        torch.set_num_threads(threads)


def _race_formats() -> float:
    conv = nn.Conv2d(64, 64, 3, padding=1).to(memory_format=torch.channels_last)
    x = torch.zeros(4, 64, 64, 64).to(memory_format=torch.channels_last)
    best = {}
    for enabled in (False, True) * 4:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            conv(x)
            start = time.perf_counter()
            for _ in range(4):
                conv(x)
            seconds = time.perf_counter() - start
        best[enabled] = min(seconds, best.get(enabled, seconds))
    return best[False] / best[True]
