"""Imports run one way, light things stay light, and files keep the house rules."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import colorize

PACKAGE = Path(colorize.__file__).parent
# Bottom to top: a file imports only from files before it.
ORDER = [
    "errors",
    "progress",
    "files",
    "lock",
    "config",
    "card",
    "color",
    "losses",
    "tensors",
    "generator",
    "discriminator",
    "metrics",
    "checkpoint",
    "pixels",
    "photo",
    "cache",
    "sources",
    "data",
    "predict",
    "folders",
    "export",
    "page",
    "app",
    "evaluate",
    "perceptual",
    "device",
    "precision",
    "batches",
    "batchnorm",
    "optimizers",
    "memory",
    "steps",
    "health",
    "epoch",
    "stages",
    "train",
    "estimate",
    "explain",
    "viz",
    "report",
    "run",
    "colab",
    "views",
    "notebook",
    "signals",
    "arguments",
    "cli",
    "__init__",
    "__main__",
]
FILES = sorted(PACKAGE.glob("*.py"))


def imported(path: Path) -> set[str]:
    """Files of the package that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("colorize."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.ImportFrom) and node.module == "colorize":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            names = [a.name.split(".") for a in node.names]
            found |= {n[1] for n in names if n[0] == "colorize" and len(n) > 1}
        assert not (isinstance(node, ast.ImportFrom) and node.level), "relative import"
    return found


def test_every_file_has_its_place():
    assert sorted(ORDER) == sorted(path.stem for path in FILES)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_imports_run_one_way(path):
    below = set(ORDER[: ORDER.index(path.stem)])
    assert imported(path) <= below


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_files_are_short_and_say_what_they_hold(path):
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text))
    assert len(text.splitlines()) <= 250


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


def test_training_does_not_import_fastai():
    code = "import sys, colorize.run; print('fastai' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "False\n"


def test_public_names_are_there():
    assert {colorize.Colorizer.__name__, colorize.ColorizeError.__name__} == {
        "Colorizer",
        "ColorizeError",
    }
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = colorize.nothing
