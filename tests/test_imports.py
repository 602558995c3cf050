"""Light things stay light, and files keep the house rules."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import colorize

PACKAGE = Path(colorize.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_files_say_what_they_hold(path):
    assert ast.get_docstring(ast.parse(path.read_text()))


def test_matplotlib_is_imported_in_viz_alone():
    users = [
        p.stem
        for p in FILES
        if "import matplotlib" in p.read_text() or "from matplotlib" in p.read_text()
    ]
    assert users == ["viz"]


def test_importing_the_package_is_quiet_and_light():
    code = "import sys, colorize; print(sorted(m for m in ('torch', 'fastai') if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.slow
def test_training_does_not_import_fastai():
    code = "import sys, colorize.run; print('fastai' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "False\n"


def test_a_photo_waits_for_nothing_that_it_does_not_need(tmp_path):
    """What colours a JPEG imports nothing that serves training, tables, drawings or TIFFs."""
    code = """
import sys
import numpy as np
from PIL import Image
from pathlib import Path
from colorize.folders import colorize_files
from colorize.generator import Generator
from colorize.predict import Colorizer

out = sys.argv[1]
Image.fromarray(np.full((40, 40), 99, np.uint8)).save(f"{out}/a.jpg")
generator = Generator(decoder_widths=(8, 8, 8, 8, 8), working_size=32)
assert colorize_files(Colorizer(generator), [Path(out, "a.jpg")], Path(out, "o")).colored == 1
heavy = "accelerate fastai gradio matplotlib onnx pandas scipy skimage tifffile transformers"
print([name for name in heavy.split() if name in sys.modules])
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"


def test_public_names_are_there():
    assert {"Colorizer", "ColorizeError"} <= {*dir(colorize)}
    assert {colorize.Colorizer.__name__, colorize.ColorizeError.__name__} == {
        "Colorizer",
        "ColorizeError",
    }
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = colorize.nothing
