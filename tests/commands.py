"""Commands in processes of their own, split off from one that has imported torch already.

Python and torch take seconds to start. What tests of stops and of full disks need is a process that
can be killed, not one that has just started.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from pathlib import Path

from conftest import PATIENCE

_SPLIT = multiprocessing.get_context("forkserver")
_SPLIT.set_forkserver_preload(["colorize.run", "colorize.folders"])


def _run(words: list[str], said: Path, environment: dict[str, str]) -> None:
    from colorize import cli

    file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(file, stream)
    sys.stdout.reconfigure(line_buffering=True)  # as in a terminal
    os.environ |= environment
    raise SystemExit(cli.main(words))


class Command:
    """`colorize WORDS ...`, started; all that it says goes to the file `said`."""

    def __init__(self, said: Path, *words: object) -> None:
        self._said = said
        arguments = ([str(word) for word in words], said, dict(os.environ))
        self._process = _SPLIT.Process(target=_run, args=arguments)
        self._process.start()

    @property
    def said(self) -> str:
        return self._said.read_text().replace("\r", "\n") if self._said.exists() else ""

    def wait(self) -> int:
        """Its exit code, once it has ended."""
        self._process.join(PATIENCE)
        assert self._process.exitcode is not None, self.said
        return self._process.exitcode

    def wait_until(self, holds) -> None:
        """While it runs."""
        deadline = time.monotonic() + PATIENCE
        while not holds():
            assert self._process.is_alive(), self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.02)

    def send_signal(self, how: int) -> None:
        os.kill(self._process.pid, how)

    def kill(self) -> None:
        self._process.kill()
        self.wait()
