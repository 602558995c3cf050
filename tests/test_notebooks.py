"""The notebooks: house rules, the package they carry, and runs as their users run them."""

import base64
import importlib.util
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import median

import numpy as np
import papermill
import pytest
from conftest import PATIENCE, scene
from packaging.requirements import Requirement
from PIL import Image

PROJECT = Path(__file__).parent.parent
NOTEBOOKS = sorted((PROJECT / "notebooks").glob("*.ipynb"))
BY_NAME = {path.stem: path for path in NOTEBOOKS}


def cells(path, kind="code"):
    return [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == kind]


def tags(cell):
    return cell["metadata"].get("tags", [])


def source(cell):
    return "".join(cell["source"])


@pytest.fixture
def embed():
    spec = importlib.util.spec_from_file_location("embed", PROJECT / "scripts" / "embed.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_all_are_there():
    assert list(BY_NAME) == ["colorize", "evaluate", "experiments", "how_it_works"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_house_rules(path):
    code = cells(path)
    assert path.stat().st_size < 300_000
    assert [tags(c) for c in code].count(["parameters"]) == 1
    assert [tags(c) for c in code].count(["setup"]) == 1
    assert tags(code[0]) == ["setup"]
    lengths = [len(source(c).splitlines()) for c in code if "setup" not in tags(c)]
    assert max(lengths) < 20
    assert median(lengths) <= 6
    for cell in code:
        assert cell["execution_count"] is None
        assert not cell["outputs"] or "keep_output" in tags(cell)
        assert not re.search(r"^\s*(class|def) ", source(cell), re.M), "a notebook imports these"
    text = cells(path, "markdown")
    assert 0.4 < len(text) / len(code) < 1.6
    assert source(text[0]).startswith("# ")
    assert "**Time.**" in source(text[0])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_names_and_links_in_the_text_exist(path):
    text = "\n".join(source(c) for c in cells(path, "markdown"))
    for name in re.findall(r"`([\w/]+\.(?:py|ipynb))`", text):
        assert (PROJECT / name).exists() or (PROJECT / "notebooks" / name).exists(), name
    for link in re.findall(r"\]\((?!https://)([^)]+)\)", text):
        assert (PROJECT / "notebooks" / link).exists(), link


def test_every_notebook_carries_the_package_of_today(embed):
    files = embed.files_of(PROJECT / "colorize")
    for path in NOTEBOOKS:
        text = re.search(r'CARRIED = "([^"]*)"', source(cells(path)[0]))[1]
        assert embed.unpack(text) == files, "stale: run `make notebooks`"
    done = subprocess.run(
        [sys.executable, PROJECT / "scripts" / "embed.py", "--check"], check=False
    )
    assert done.returncode == 0


def test_a_change_of_the_package_is_noticed_and_written(embed, tmp_path):
    for folder in ("colorize", "notebooks", "scripts"):
        shutil.copytree(PROJECT / folder, tmp_path / folder)
    shutil.copy(PROJECT / "pyproject.toml", tmp_path)
    script = [sys.executable, tmp_path / "scripts" / "embed.py"]
    with open(tmp_path / "colorize" / "losses.py", "a") as file:
        file.write("# changed\n")
    assert subprocess.run([*script, "--check"], check=False).returncode == 1
    assert subprocess.run(script, check=False).returncode == 0
    assert subprocess.run([*script, "--check"], check=False).returncode == 0
    text = source(cells(tmp_path / "notebooks" / "colorize.ipynb")[0])
    carried = embed.unpack(re.search(r'CARRIED = "([^"]*)"', text)[1])
    assert carried["colorize/losses.py"].endswith(b"# changed\n")


def test_the_badge_takes_its_address_from_the_project(embed):
    address = {"project": {"urls": {"Repository": "https://github.com/some/one"}}}
    line = embed.badge("colorize.ipynb", address)
    assert "/github/some/one/blob/main/notebooks/colorize.ipynb)" in line
    assert embed.badge("colorize.ipynb", {}) == ""
    text = json.loads(embed.update(BY_NAME["colorize"], {}, address))["cells"][0]["source"]
    assert sum("colab-badge" in x for x in text) == 1


@pytest.mark.slow
@pytest.mark.parametrize("around", ["nothing", "a checkout", "another package of the name"])
def test_the_setup_cell_finds_or_unpacks_the_package(tmp_path, around):
    """In a Python that knows of no colorize."""
    (tmp_path / "notebooks").mkdir()
    if around == "a checkout":
        shutil.copytree(PROJECT / "colorize", tmp_path / "colorize")
    elif around == "another package of the name":
        (tmp_path / "notebooks" / "colorize").mkdir()
        (tmp_path / "notebooks" / "colorize" / "__init__.py").write_text("")
    hide = (
        "import sys\n"
        f"sys.path = [p for p in sys.path if p not in ('', {str(PROJECT)!r})]\n"
        "sys.meta_path = [f for f in sys.meta_path if 'editable' not in repr(f).lower()]\n"
    )
    hide += f"sys.path.append({str(tmp_path / 'notebooks')!r})\n"
    code = hide + source(cells(BY_NAME["colorize"])[0]) + "\nimport colorize.run"
    done = subprocess.run(
        [sys.executable, "-I", "-c", code],
        cwd=tmp_path / "notebooks",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = Path(done.stdout.split()[-1])
    assert found.is_file()
    assert (tmp_path in found.parents) == (around == "a checkout")
    assert PROJECT not in found.parents


def test_all_that_is_needed_is_in_colab():
    def read(name):
        lines = (PROJECT / name).read_text().splitlines()
        return [Requirement(line) for line in lines if line and not line.startswith("#")]

    pins = {pin.name: pin.specifier for pin in read("requirements-colab.txt")}
    needed = read("requirements.txt")
    for one in needed:
        version = str(pins[one.name]).removeprefix("==")
        assert version in one.specifier, f"Colab has {one.name} {version}"
    listed = re.findall(r'NEEDED \+?= "(.*)"', source(cells(BY_NAME["colorize"])[0]))
    packages = {name.split("=")[-1] for name in " ".join(listed).split()}
    assert packages == {one.name for one in needed}


def pictures(path):
    """Pictures that a notebook shows."""
    for cell in cells(path):
        for output in cell["outputs"]:
            for kind in ("image/png", "image/jpeg"):
                if data := output.get("data", {}).get(kind):
                    yield Image.open(io.BytesIO(base64.b64decode("".join(data)))).convert("RGB")


def check(shown):
    """Pictures that can be seen, and have colours."""
    for picture in shown:
        pixels = np.asarray(picture).astype(int)
        assert min(picture.size) > 150
        assert np.ptp(pixels, axis=-1).max() > 40, "a grey picture"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_preview_shows_pictures_without_a_run(path):
    kept = list(pictures(path))
    assert kept
    check(kept)
    assert len(kept) == sum("keep_output" in tags(cell) for cell in cells(path))


def run(name, folder, kernel="python3", runs=0, news=0, **parameters):
    """Run a notebook in a folder as papermill does, and look at what it shows.

    Args:
        runs: of a race, each of which has a line of its own.
        news: lines on photos and device, where a network has to be trained first.
    """
    out = folder / f"{name}.ipynb"
    papermill.execute_notebook(
        BY_NAME[name],
        out,
        parameters,
        cwd=folder,
        kernel_name=kernel,
        progress_bar=False,
        start_timeout=PATIENCE,
    )
    for cell in cells(out):
        outputs = cell["outputs"]
        texts = [output for output in outputs if output["output_type"] == "stream"]
        assert not [text for text in texts if text["name"] == "stderr"]
        # One line for all its bars, two pictures in place, few words.
        assert len(outputs) <= 5 + runs
        assert sum(len("".join(text["text"]).splitlines()) for text in texts) < 12 + news
        assert not [o for o in outputs if "widget" in str(list(o.get("data", {})))]
    shown = list(pictures(out))
    check(shown)
    return out, shown


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The main notebook, run on the built-in photos."""
    folder = tmp_path_factory.mktemp("main")
    parameters = {
        "DATA": "builtin",
        "SIZE": 64,
        "PRETRAIN_EPOCHS": 2,
        "GAN_EPOCHS": 1,
        "HINTS": True,
    }
    return folder, *run("colorize", folder, **parameters), parameters


@pytest.mark.slow
def test_the_main_notebook_runs_to_the_end(finished):
    folder, _, shown, _ = finished
    # Channels, curves and grid of both stages, two comparisons, own photo without and with hints.
    assert len(shown) == 9
    metrics = json.loads((folder / "runs" / "colorize" / "metrics.json").read_text())
    assert metrics["generator"]["colorfulness"] > 5
    assert (folder / "runs" / "colorize" / "generator.zip").is_file()
    with Image.open(folder / "runs" / "colorize" / "coloured.png") as colored:
        assert colored.size == (512, 512)
        assert np.ptp(np.asarray(colored).astype(int), axis=-1).mean() > 3


@pytest.mark.slow
def test_running_it_again_goes_on_and_trains_nothing_twice(finished):
    folder, _, _, parameters = finished
    weights = folder / "runs" / "colorize" / "generator" / "model.safetensors"
    before = weights.read_bytes()
    _, shown = run("colorize", folder, **parameters)
    assert weights.read_bytes() == before
    assert len(shown) == 9  # those of the first time, from the run folder


@pytest.mark.slow
def test_how_it_works_runs_to_the_end(tmp_path):
    _, shown = run("how_it_works", tmp_path, GAN_EPOCHS=2)
    # Channels, curves and grid, two versions, histograms, skips, D, lambda, hints.
    assert len(shown) == 9


@pytest.mark.slow
def test_how_it_works_takes_a_run_of_ones_own(finished, tmp_path):
    folder = finished[0]
    _, shown = run("how_it_works", tmp_path, RUN=str(folder / "runs" / "colorize"))
    assert len(shown) == 7


@pytest.mark.slow
def test_evaluate_runs_to_the_end(finished, tmp_path):
    folder = finished[0]
    (tmp_path / "own").mkdir()
    Image.fromarray(scene(3, 300, 200)).save(tmp_path / "own" / "scene.png")
    weights = str(folder / "runs" / "colorize" / "generator")
    _, shown = run("evaluate", tmp_path, WEIGHTS=weights, SIZE=64, FOLDER="own")
    assert len(shown) == 3
    assert (tmp_path / "runs" / "evaluate" / "measures.csv").read_text().count("\n") == 8
    with Image.open(tmp_path / "runs" / "evaluate" / "coloured" / "own" / "scene.png") as colored:
        assert colored.size == (300, 200)


RACE = {"DATA": "builtin", "SIZE": 64, "PHOTOS": 16, "PRETRAIN_EPOCHS": 1}


@pytest.mark.slow
def test_experiments_runs_to_the_end_and_again(tmp_path):
    small = RACE | {"VARY": ["lambda-l1=100,10"]}
    out, shown = run("experiments", tmp_path, runs=4, **small)
    assert len(shown) == 3  # grid, curves, frontier
    record = json.loads((tmp_path / "runs" / "race" / "race.json").read_text())
    assert [(row["variant"], row["seed"]) for row in record["results"]] == [
        ("lambda-l1=100", 0),
        ("lambda-l1=100", 1),
        ("lambda-l1=10", 0),
        ("lambda-l1=10", 1),
    ]
    table = (tmp_path / "runs" / "race" / "table.md").read_text()
    outputs = [output.get("data", {}) for cell in cells(out) for output in cell["outputs"]]
    assert table in ["".join(data.get("text/markdown", "")) for data in outputs]
    weights = tmp_path / "runs" / "race" / "lambda-l1=10" / "seed-1" / "generator"
    before = (weights / "model.safetensors").stat().st_mtime_ns
    run("experiments", tmp_path, runs=4, **small)
    assert (weights / "model.safetensors").stat().st_mtime_ns == before


@pytest.mark.slow
def test_a_mistake_stops_the_run_with_one_line(tmp_path):
    with pytest.raises(papermill.PapermillExecutionError, match="nowhere"):
        run("evaluate", tmp_path, WEIGHTS="nowhere")
    outputs = [output for cell in cells(tmp_path / "evaluate.ipynb") for output in cell["outputs"]]
    (error,) = [output for output in outputs if output["output_type"] == "error"]
    assert error["ename"] == "ColorizeError"
    assert len(error["traceback"]) == 1


@pytest.mark.slow
@pytest.mark.skipif("COLAB_PYTHON" not in os.environ, reason="docs/design.md says how to run it")
@pytest.mark.parametrize("name", BY_NAME)
def test_uploading_the_notebook_alone_is_enough(name, tmp_path, monkeypatch):
    """In a Python with what Colab has and without colorize, in a folder with nothing else."""
    python = os.environ["COLAB_PYTHON"]

    def installed():
        command = [python, "-m", "pip", "freeze"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    before = installed()
    assert "colorize" not in before
    kernel = tmp_path / "jupyter" / "kernels" / "colab"
    kernel.mkdir(parents=True)
    argv = [python, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": argv, "display_name": "colab", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    folder = tmp_path / "upload"
    folder.mkdir()
    parameters = {
        "colorize": {"DATA": "builtin", "SIZE": 64, "PRETRAIN_EPOCHS": 1, "GAN_EPOCHS": 1},
        "how_it_works": {"GAN_EPOCHS": 1},
        "evaluate": {"SIZE": 64},
        "experiments": RACE,
    }
    more = {"experiments": {"runs": 6}, "evaluate": {"news": 2}}.get(name, {})
    out, _ = run(name, folder, "colab", **more, **parameters[name])
    printed = "".join(cells(out)[0]["outputs"][0]["text"])
    assert str(PROJECT) not in printed
    assert "colorize from" in printed
    assert installed() == before
