"""The package as others install it: a wheel, in a folder of its own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from conftest import scene
from PIL import Image

PROJECT = Path(__file__).parent.parent
PARTS = ("pyproject.toml", "requirements.txt", "README.md", "LICENSE", "colorize", "assets")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder of an installed package; the wheel is built from a copy, which it litters."""
    folder = tmp_path_factory.mktemp("package")
    (folder / "copy").mkdir()
    for part in PARTS:
        copy = shutil.copytree if (PROJECT / part).is_dir() else shutil.copy
        copy(PROJECT / part, folder / "copy" / part)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    command += ["--no-build-isolation", "--wheel-dir", folder, folder / "copy"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    (wheel,) = folder.glob("*.whl")
    with ZipFile(wheel) as archive:
        archive.extractall(folder / "installed")
    return folder / "installed"


@pytest.mark.slow
def test_a_wheel_holds_the_package_and_what_it_needs_from_assets(installed):
    def names(folder, kind):
        return {str(path.relative_to(folder)) for path in folder.rglob(kind)}

    assert names(installed / "colorize", "*.py") == names(PROJECT / "colorize", "*.py")
    for kind in ("photos/*", "weights/*/*"):
        assert names(installed / "colorize" / "assets", kind) == names(PROJECT / "assets", kind)
    assert {path.name for path in installed.iterdir() if path.suffix != ".dist-info"} == {
        "colorize"
    }


@pytest.mark.slow
def test_an_installed_package_colours_and_has_its_photos(installed, tmp_path):
    Image.fromarray(scene(0, 300, 200)).convert("L").save(tmp_path / "photo.png")
    path = os.pathsep.join([str(installed), os.environ.get("PYTHONPATH", "")])

    def python(*words):
        done = subprocess.run(
            [sys.executable, *words],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "1 coloured" in python("-m", "colorize", "predict", "photo.png")
    colored = np.asarray(Image.open(tmp_path / "coloured" / "photo.png")).astype(int)
    assert np.ptp(colored, axis=2).max() > 10
    code = "from colorize.photos.sources import builtin_photos as p; print(*p(), sep='\\n')"
    photos = [Path(line) for line in python("-c", code).splitlines()]
    assert len(photos) == 7
    assert photos[-1].parent == installed / "colorize" / "assets" / "photos"
