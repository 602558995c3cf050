"""What a figure was measured on: the processor, versions, the commit."""

from __future__ import annotations

import os
import platform
import subprocess
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
    """The commit of this code, with a plus if files differ from it; "unknown" without a checkout.

    A virtual environment may lie in somebody else's checkout, so the code has to belong to it.
    """
    try:
        _git("ls-files", "--error-unmatch", __file__)
        changed = _git("status", "--porcelain", ":/", ":(top,exclude)benchmarks/results.json")
        return _git("rev-parse", "--short", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


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
