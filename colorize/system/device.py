"""What machine this is: processes, GPUs, advice where there are none, how much fits at a time."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from accelerate import PartialState

IN_COLAB = "google.colab" in sys.modules
_GB_FOR_16 = 8  # GPU memory that a GAN step on 16 photos of 256x256 surely fits


def process_state() -> PartialState:
    """This process among those that train together, as `accelerate launch` arranged them."""
    # Predicting needs none of it, and whoever colours one photo waits for what is imported.
    from accelerate import PartialState
    from accelerate.utils import parse_flag_from_env

    # PartialState alone does not ask whether they are to use CPUs; each would train for itself.
    return PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))


def of_several() -> bool:
    """Whether this process trains together with others.

    It starts nothing to find out: a kernel that has asked Accelerate is the only process to it, and
    so would be each that is forked from it.
    """
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and process_state().num_processes > 1


def describe_device() -> str:
    """What the training will run on; without a GPU, how to get one."""
    # With several GPUs, asking for more than their number would start CUDA in this process, and no
    # other could then be forked from it to use them.
    if count := torch.cuda.device_count():
        if count > 1:
            return f"{count} GPUs; set GPUS = {count} to train on all of them"
        return f"a GPU: {torch.cuda.get_device_name()}"
    if torch.backends.mps.is_available():
        return "the GPU of this Mac"
    where = "in Colab: Runtime, Change runtime type, T4 GPU" if IN_COLAB else "take another machine"
    return (
        f"no GPU, {os.cpu_count()} CPU cores. Training on COCO would take many hours here, so "
        f'DATA = "auto" means the built-in photos: minutes. For a GPU, {where}.'
    )


def has_gpu() -> bool:
    """Whether training on many photos is worth trying."""
    return torch.cuda.device_count() > 0 or torch.backends.mps.is_available()


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """A CPU tensor on the device. Nobody waits for what the device still has to do before."""
    # Only from pinned memory does a GPU take a copy while the CPU goes on.
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def suit_batch_size(size: int) -> int:
    """Photos of `size` a step that suit this machine: 4 to 32, a power of two."""
    memory = 4.0  # GB: what a laptop can spare
    if torch.cuda.device_count() == 1:
        memory = torch.cuda.get_device_properties(0).total_memory / 1e9
    elif torch.cuda.device_count() > 1:
        memory = 15.0  # Kaggle's pair of T4; see describe_device
    fits = 16 * memory / _GB_FOR_16 * (256 / size) ** 2
    return max(4, min(32, 2 ** int(torch.tensor(fits).log2())))
