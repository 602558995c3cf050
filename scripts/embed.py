"""Write the set-up cell, which carries the package, and the Colab badge into the notebooks.

python scripts/embed.py            # after any change of the package
python scripts/embed.py --check    # exit code 1 if a notebook is stale
"""

from __future__ import annotations

import argparse
import base64
import bz2
import io
import json
import re
import sys
import zipfile
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT = Path(__file__).parent.parent
TAG = "setup"
SETUP = """\
# @title Set-up: run me. Nothing needs to be installed by hand. {{ display-mode: "form" }}
import base64, bz2, importlib.util, io, pathlib, subprocess, sys, tempfile  # noqa
import warnings, zipfile  # noqa

CARRIED = "{carried}"  # noqa: E501
NEEDED = "accelerate fastai huggingface_hub matplotlib numpy PIL=pillow safetensors"
NEEDED += " skimage=scikit-image torch torchvision tqdm"
for folder in (pathlib.Path.cwd(), pathlib.Path.cwd().parent):
    if (folder / "colorize" / "notebook").is_dir():
        sys.path.insert(0, str(folder))  # a checkout around this notebook
        break
else:
    if not (importlib.util.find_spec("colorize") and importlib.util.find_spec("colorize.notebook")):
        for name in [name for name in sys.modules if name.partition(".")[0] == "colorize"]:
            del sys.modules[name]  # another package of that name
        sys.path.insert(0, tempfile.mkdtemp(prefix="colorize-"))  # the copy above
        carried = io.BytesIO(bz2.decompress(base64.b85decode(CARRIED)))
        zipfile.ZipFile(carried).extractall(sys.path[0])
pairs = [(*name.split("="), name)[:2] for name in NEEDED.split()]  # import name, package
if missing := [package for module, package in pairs if not importlib.util.find_spec(module)]:
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *missing], check=True)
warnings.filterwarnings("ignore", "IProgress")  # of a progress bar that is not used here
from colorize.notebook.views import one_line_errors  # noqa: E402

one_line_errors()
print("colorize from", importlib.util.find_spec("colorize").origin)"""


def files_of(package: Path) -> dict[str, bytes]:
    """Name in the archive to content; not the web page and the command line: cells use neither."""
    return {
        path.relative_to(package.parent).as_posix(): path.read_bytes()
        for path in package.rglob("*.py")
        if path.parent.name != "web" and path.name not in ("cli.py", "__main__.py")
    }


def pack(files: dict[str, bytes]) -> str:
    """Files as a zip, compressed as a whole, which is a third smaller, in base 85."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in sorted(files):
            archive.writestr(zipfile.ZipInfo(name), files[name])  # of 1980, whatever the disk says
    return base64.b85encode(bz2.compress(file.getvalue())).decode()


def unpack(text: str) -> dict[str, bytes]:
    """The reverse of `pack`; empty if it is none."""
    try:
        with zipfile.ZipFile(io.BytesIO(bz2.decompress(base64.b85decode(text)))) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    except (ValueError, OSError, zipfile.BadZipFile):
        return {}


def setup_cell(old: str, files: dict[str, bytes]) -> str:
    """The set-up cell's code. What the old one carries is kept if it is the same package.

    Another bz2 may pack the same files into other bytes, which are no reason to write anew.
    """
    match = re.search(r'CARRIED = "([^"]*)"', old)
    same = match and unpack(match[1]) == files
    return SETUP.format(
        carried=match[1] if same else pack(files),
    )


def badge(name: str, settings: dict[str, Any]) -> str:
    """A line that opens the notebook in Colab; empty while the project has no address."""
    address = settings.get("project", {}).get("urls", {}).get("Repository", "")
    if not address.startswith("https://github.com/"):
        return ""
    where = address.replace("https://github.com/", "https://colab.research.google.com/github/")
    picture = "https://colab.research.google.com/assets/colab-badge.svg"
    return f"[![Open in Colab]({picture})]({where.rstrip('/')}/blob/main/notebooks/{name})"


def update(path: Path, files: dict[str, bytes], settings: dict[str, Any]) -> str:
    """The text that a notebook should have."""
    notebook = json.loads(path.read_text())
    title = [line for line in notebook["cells"][0]["source"] if "colab-badge.svg" not in line]
    if line := badge(path.name, settings):
        title.insert(1, f"\n{line}\n")
    notebook["cells"][0]["source"] = title
    for cell in notebook["cells"]:
        tags = cell["metadata"].get("tags", [])
        if TAG in tags:
            cell["source"] = setup_cell("".join(cell["source"]), files).splitlines(keepends=True)
    return text_of(notebook)


def text_of(notebook: dict[str, Any]) -> str:
    """A notebook as Jupyter writes it."""
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, only tell")
    args = parser.parse_args()
    files = files_of(PROJECT / "colorize")
    settings = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    stale = []
    for path in sorted((PROJECT / "notebooks").glob("*.ipynb")):
        text = update(path, files, settings)
        if text != path.read_text():
            stale.append(path.name)
            if not args.check:
                path.write_text(text)
    if stale:
        print(f"{'stale, run make notebooks' if args.check else 'written'}: {', '.join(stale)}")
    return 1 if stale and args.check else 0


if __name__ == "__main__":
    sys.exit(main())
