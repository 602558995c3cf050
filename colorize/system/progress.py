"""Progress bars: a line in the shell; in a notebook a line under the cell, written in place."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

_PROCESS = os.getpid()


def bar(
    items: Iterable[Any],
    title: str,
    total: int | None = None,
    unit: str = "it",
    show: bool = True,
    initial: int = 0,
) -> tqdm:
    """Go through `items` and show how far one is, of which `initial` were done before.

    tqdm's own bar for notebooks is a widget: it needs ipywidgets in the notebook and in the
    browser, and is lost when the notebook is saved.
    """
    line = _line_of_this_cell() if show else None
    # A browser may be far from the kernel.
    interval = 0.5 if line else 0.1
    return tqdm(
        items,
        title,
        total,
        unit=unit,
        disable=not show,
        file=line,
        mininterval=interval,
        initial=initial,
    )


def say(line: str) -> None:
    """Print a line without tearing a bar that is being drawn."""
    tqdm.write(line)


class _CellLine:
    """A file for tqdm that shows the last line written to it."""

    encoding = "utf-8"  # tells tqdm that it may draw smooth bars

    def __init__(self) -> None:
        from IPython.display import display

        self._handle = display({"text/plain": ""}, raw=True, display_id=True)

    def write(self, text: str) -> None:
        if line := text.strip():
            self._handle.update({"text/plain": line}, raw=True)

    def flush(self) -> None:
        pass


_latest: tuple[int, _CellLine] | None = None  # of which cell, by its number


def _line_of_this_cell() -> _CellLine | None:
    """The line that all bars of the cell that runs now share; None outside notebooks."""
    global _latest  # noqa: PLW0603 - what a cell shows is global to the process
    if "IPython" not in sys.modules or os.getpid() != _PROCESS:  # a fork cannot write into a cell
        return None
    shell = sys.modules["IPython"].get_ipython()
    if not hasattr(shell, "kernel"):
        return None
    if _latest is None or _latest[0] != shell.execution_count:
        _latest = shell.execution_count, _CellLine()
    return _latest[1]
