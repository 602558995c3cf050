"""What notebook cells show: live views, pictures, versions of colours, short errors."""

from __future__ import annotations

import csv
import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from IPython import get_ipython
from IPython.display import Image, display
from torch import Tensor

from colorize.dataset import to_network
from colorize.evaluate import at_working_size
from colorize.pretrained import load_generator
from colorize.system.errors import ColorizeError, one_line
from colorize.viz import Figure, jpeg

_DISK = (errno.ENOSPC, errno.EROFS, errno.EIO)


def one_line_errors() -> None:
    """Let cells show what went wrong for their user in one line, without a traceback.

    Of what the system says that is a full or a failing disk; the rest may be a mistake in a cell.
    """

    def show(shell: Any, kind: type, error: Exception, trace: Any, tb_offset: Any = None) -> None:
        if isinstance(error, OSError) and error.errno not in _DISK:
            shell.showtraceback((kind, error, trace), tb_offset=tb_offset)
        else:
            # Not printed: what runs notebooks, papermill for one, looks for an error output.
            shell._showtraceback(kind, error, [one_line(error)])

    if shell := get_ipython():
        shell.set_custom_exc((ColorizeError, OSError, MemoryError, torch.OutOfMemoryError), show)


def live_view(run: Path) -> Callable[[], None]:
    """Show the curves and the latest grid of a run folder under a cell; gives what renews them.

    They are the pictures that `train_stage` writes; what an earlier run of the cell left is
    shown at once.
    """
    views: dict[str, Any] = {}

    def renew() -> None:
        samples = sorted((run / "samples").glob("*.png"), key=lambda path: path.stat().st_mtime_ns)
        for name, file in (("curves", run / "curves.png"), ("samples", (samples or [run])[-1])):
            if not file.is_file():
                continue
            if name in views:
                views[name].update(Image(file))
            else:
                views[name] = display(Image(file), display_id=True)

    renew()
    return renew


def picture(figure: Figure, dpi: int = 100) -> Image:
    """A figure as a cell shows it: sharp, and small enough for a notebook to be kept."""
    return Image(jpeg(figure, dpi), format="jpeg")


def stage_weights(run: Path) -> dict[str, Path]:
    """Weights folders of the stages that a run went through, by name, for `predictions`."""
    weights = {"L1": run / "pretrained"} if (run / "pretrained").is_dir() else {}
    if (run / "history.csv").is_file():
        with open(run / "history.csv", newline="") as file:
            if any(row["stage"] == "gan" for row in csv.DictReader(file)):
                weights["L1 + GAN"] = run / "generator"
    # Stopped before the first stage was done, or never trained.
    return weights or {"coloured": run / "generator"}


@torch.no_grad()
def predictions(rgb: Tensor, weights: dict[str, Path]) -> tuple[Tensor, dict[str, Tensor]]:
    """L of photos, and their ab by several generators and in truth, for `viz.compare`.

    Args:
        rgb: uint8 (n, 3, S, S).
        weights: name to weights folder.
    """
    L, ab = to_network(rgb)
    versions = {
        name: at_working_size(load_generator(folder))(L) for name, folder in weights.items()
    }
    return L, versions | {"truth": ab}
