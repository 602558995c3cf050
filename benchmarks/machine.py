"""How much memory a measurement took."""

from __future__ import annotations

import re
import resource
import sys
from pathlib import Path

import torch


def peak_gb(device: torch.device | str) -> float:
    """The most memory in use so far: of the GPU, or else of this process."""
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated() / 1e9
    try:
        # Not getrusage: there a process starts with what its parent once held.
        status = Path("/proc/self/status").read_text()
        return int(re.search(r"VmHWM:\s*(\d+) kB", status)[1]) * 1024 / 1e9
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
