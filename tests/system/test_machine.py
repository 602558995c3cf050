"""What a figure was measured on."""

import shutil
import subprocess
from pathlib import Path

from colorize.system import machine


def git(folder, *words):
    told = subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True)
    return told.stdout.strip()


def test_the_commit_is_that_of_this_code(tmp_path, monkeypatch):
    code = tmp_path / "machine.py"
    shutil.copy(machine.__file__, code)
    monkeypatch.setattr(machine, "__file__", str(code))
    assert machine.commit() == "unknown"  # no checkout
    git(tmp_path, "init", "-q")
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    git(tmp_path, *who, "commit", "-q", "--allow-empty", "-m", "somebody else's")
    assert machine.commit() == "unknown"  # a checkout that the code only lies in
    git(tmp_path, "add", "machine.py")
    git(tmp_path, *who, "commit", "-q", "-m", "ours")
    short = git(tmp_path, "rev-parse", "--short", "HEAD")
    assert machine.commit() == short
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "results.json").touch()  # what a measurement writes
    assert machine.commit() == short
    code.write_text(Path(code).read_text() + "#")
    assert machine.commit() == f"{short}+"


def test_the_machine_is_described():
    told = machine.describe()
    assert f"{machine.cores()} cores" in told
    assert "torch" in told
