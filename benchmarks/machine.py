"""What a figure was measured on."""

from __future__ import annotations

import os
import platform
import re
import resource
import subprocess
import sys
from pathlib import Path

import torch


def describe() -> str:
    """The processor, its cores, the GPU if any, and the versions that matter."""
    parts = [f"{_processor()}, {cores()} cores, {torch.get_num_threads()} threads"]
    if torch.cuda.is_available():
        parts.append(torch.cuda.get_device_name())
    parts += [f"torch {torch.__version__}", f"Python {platform.python_version()}"]
    return "; ".join(parts)


def commit() -> str:
    """The commit that is measured, with a plus if files differ from it."""
    try:
        changed = _git("status", "--porcelain", ":/", ":!results.json")
        return _git("rev-parse", "--short", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


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


def _git(*arguments: str) -> str:
    here = Path(__file__).parent
    result = subprocess.run(
        ["git", *arguments], cwd=here, check=True, capture_output=True, text=True
    )
    return result.stdout.strip()


def cores() -> int:
    """Those that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    name = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), "")
    flags = next((x.split(":")[1].split() for x in lines if x.startswith("flags")), [])
    units = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags]
    return f"{name or platform.machine()} ({' '.join(units) or 'no vector units known'})"
