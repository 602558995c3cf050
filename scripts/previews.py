"""Run the notebooks on the built-in photos, and keep the pictures of cells tagged keep_output.

The first of how_it_works.ipynb also becomes a picture for the README.

python scripts/previews.py    # fifteen minutes on a CPU; GitHub and VS Code then show the pictures
"""

from __future__ import annotations

import base64
import io
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import papermill
from embed import text_of
from PIL import Image

PROJECT = Path(__file__).parent.parent
NOTEBOOKS = PROJECT / "notebooks"
PARAMETERS = {
    "colorize": {"DATA": "builtin"},
    "how_it_works": {},
    "evaluate": {"WEIGHTS": "runs/colorize/generator"},  # of the first one
    "experiments": {"DATA": "builtin", "SIZE": 64, "PHOTOS": 160, "PRETRAIN_EPOCHS": 2},
}
WIDTH, QUALITY = 640, 70  # pixels of a kept picture, and its JPEG quality: notebooks stay small


def small(jpeg: str) -> str:
    """A picture in base 64, no wider than WIDTH."""
    image = Image.open(io.BytesIO(base64.b64decode(jpeg)))
    image.thumbnail((WIDTH, 10 * WIDTH))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY, optimize=True, progressive=True)  # a tenth smaller
    return base64.b64encode(file.getvalue()).decode()


def pictures(cell: dict[str, Any]) -> list[dict[str, Any]]:
    """The pictures among a cell's outputs, small, and without the number of the execution."""
    shown = [output.get("data", {}) for output in cell["outputs"]]
    return [
        {
            "output_type": "display_data",
            "metadata": {},
            "data": {"image/jpeg": small("".join(data["image/jpeg"]))},
        }
        for data in shown
        if "image/jpeg" in data
    ]


def pictures_of(path: Path) -> Iterator[str]:
    """What a notebook has kept, in base 64."""
    for cell in json.loads(path.read_text())["cells"]:
        yield from (output["data"]["image/jpeg"] for output in cell.get("outputs", []))


def keep(path: Path, executed: Path) -> None:
    """Take the pictures of an executed copy over into a notebook."""
    notebook = json.loads(path.read_text())
    done = {cell["id"]: cell for cell in json.loads(executed.read_text())["cells"]}
    for cell in notebook["cells"]:
        if "keep_output" in cell["metadata"].get("tags", []):
            cell["outputs"] = pictures(done[cell["id"]])
    path.write_text(text_of(notebook))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name, parameters in PARAMETERS.items():
            path, executed = NOTEBOOKS / f"{name}.ipynb", Path(folder) / f"{name}.ipynb"
            papermill.execute_notebook(
                path, executed, parameters, cwd=folder, kernel_name="python3", start_timeout=600
            )
            keep(path, executed)
            print(f"{path}: {path.stat().st_size:,} bytes")
    first = next(pictures_of(NOTEBOOKS / "how_it_works.ipynb"))
    (PROJECT / "assets" / "how_it_works.jpg").write_bytes(base64.b64decode(first))


if __name__ == "__main__":
    main()
