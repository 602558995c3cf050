"""Progress bars: a line in the shell; in a notebook a line under the cell, written in place.

Where standard error is no terminal but a file, a plain line now and then.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

_PROCESS = os.getpid()
_BETWEEN_LINES = 30.0  # seconds, in a file; TQDM_MININTERVAL says otherwise


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
    browser, and is lost when the notebook is saved. TQDM_DISABLE=1 hides all bars.
    """
    show = show and os.environ.get("TQDM_DISABLE", "0") in ("", "0")
    line = _line_of_this_cell() if show else None
    interval = 0.5 if line else 0.1  # a browser may be far from the kernel
    if show and line is None and not sys.stderr.isatty():
        line, interval = _PlainLines(), float(os.environ.get("TQDM_MININTERVAL", _BETWEEN_LINES))
    return tqdm(
        items,
        title,
        total,
        unit=unit,
        disable=not show,
        file=line,
        mininterval=interval,
        maxinterval=max(interval, 10.0),
        initial=initial,
    )


def say(line: str) -> None:
    """Print a line without tearing a bar that is being drawn."""
    tqdm.write(line)


class _PlainLines:
    """A file for tqdm that passes on what it shows as lines of their own."""

    encoding = "utf-8"

    def __init__(self) -> None:
        self._last = ""

    def write(self, text: str) -> None:
        line = text.strip()
        if line and line != self._last:  # tqdm draws its last line twice
            self._last = line
            print(line, file=sys.stderr, flush=True)

    def flush(self) -> None:
        pass


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
