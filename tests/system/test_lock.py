"""Locks hold between processes, go with them, and leave nothing behind."""

import errno
import os
import subprocess
import sys

import pytest

from colorize.system import lock
from colorize.system.errors import ColorizeError
from colorize.system.files import HOST, write_whole
from colorize.system.lock import locked, only_run

HOLD = """
import sys, time
from pathlib import Path
from colorize.system.lock import only_run
with only_run(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(3600)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process at work in a run folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_second_process_is_told(holder, tmp_path):
    with (
        pytest.raises(ColorizeError, match="another process is training"),
        only_run(tmp_path / "run"),
    ):
        pass
    assert (tmp_path / "run").is_dir()
    with pytest.raises(ColorizeError), only_run(tmp_path / "run"):  # and once more
        pass


def test_a_kill_frees_the_folder(holder, tmp_path):
    holder.kill()
    holder.wait()
    with only_run(tmp_path / "run"):
        assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_worker_that_was_forked_meanwhile_does_not_keep_the_folder(tmp_path):
    script = """
import os, sys
from pathlib import Path
from colorize.system.lock import only_run
read, write = os.pipe()
with only_run(Path(sys.argv[1])):
    (Path(sys.argv[1]) / "history.csv").touch()  # else the folder goes, and its lock with it
    if not os.fork():
        os.close(write)
        os.read(read, 1)  # alive as long as the other
        os._exit(0)
with only_run(Path(sys.argv[1])):
    print("again")
os.close(write)
os.wait()
"""
    command = [sys.executable, "-c", script, str(tmp_path / "run")]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("again\n", 0), done.stderr


def test_who_may_wait_waits_and_says_so(holder, tmp_path, monkeypatch):
    said = []

    def say(line):
        said.append(line)
        assert holder.poll() is None
        holder.kill()  # nothing else would let it in

    monkeypatch.setattr(lock, "print", say, raising=False)
    with locked(tmp_path / "run", "waiting for another", wait=True) as alone:
        assert alone
    assert said == ["waiting for another"]


def test_a_process_may_ask_again(tmp_path):
    with only_run(tmp_path / "run"), only_run(tmp_path / "run"):
        (tmp_path / "run" / "file").touch()
    with only_run(tmp_path / "run"):  # and once more after it let go
        pass
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["file"]


def test_what_a_killed_process_left_is_swept_and_nothing_else(tmp_path):
    run = tmp_path / "run"
    with write_whole(run / "samples" / "a.png") as temporary:
        temporary.write_text("a")
    names = (f".unfinished-{HOST}abc", ".unfinished-elsewhere-new", ".unfinished-elsewhere-old")
    for folder in (run, run / "samples"):
        for name in names:
            (folder / name).mkdir()
            (folder / name / "half.pt").touch()
        os.utime(folder / names[2], (1, 1))  # of 1970
    with only_run(run):
        left = {path.name for path in run.rglob("*")} - {"half.pt"}
        assert left == {"samples", "a.png", ".unfinished-elsewhere-new"}


def test_an_empty_folder_does_not_stay(tmp_path):
    with pytest.raises(ZeroDivisionError), only_run(tmp_path / "run"):
        raise ZeroDivisionError
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("system", ["no locks", "no fcntl"])
def test_where_nothing_can_be_locked_it_goes_on(tmp_path, monkeypatch, system):
    if system == "no fcntl":
        monkeypatch.setattr(lock, "fcntl", None)
    else:

        def flock(*_):
            raise OSError(errno.ENOSYS, "Function not implemented")

        monkeypatch.setattr(lock.fcntl, "flock", flock)
    litter = tmp_path / "run" / ".unfinished-abc"
    litter.mkdir(parents=True)
    with only_run(tmp_path / "run"):
        assert litter.exists()  # it may be in use
