"""A long fuzz of damaged photos; `test_folders.py` has a short one. See `fuzz_photos.py`."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_damaged_photos_come_out_or_give_one_line():
    """In a process of its own, whose peak memory is that of the photos."""
    script = Path(__file__).with_name("fuzz_photos.py")
    words = [sys.executable, str(script), "--files", "2000"]
    result = subprocess.run(words, check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.startswith("2000 files: ")
