"""The scripts that make what `assets/` holds, run as they are."""

import contextlib
import io
import json
import re
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import BROWSER, SMALL_WIDTHS, write_photos
from PIL import Image
from safetensors import safe_open
from skimage.color import rgb2lab

from colorize import Colorizer, cli
from colorize.dataset import PhotoSet, load_photo_set, load_photos
from colorize.evaluate import at_working_size, measure
from colorize.generator import Generator
from colorize.pretrained import load_generator, save_weights
from colorize.run import load_config
from colorize.system.files import write_json

ASSETS = Path(__file__).parent.parent / "assets"
SCRIPTS = ASSETS.parent / "scripts"
SETTINGS = (
    "--size 64 --batch-size 4 --encoder-weights none --pretrain-epochs 1 --gan-epochs 1 "
    "--val-fraction 0.2 --keep-epochs"
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("assets")
    write_photos(folder / "photos", 10)
    out = folder / "run"
    job = ["train", "--data", str(folder / "photos"), "--out", str(out), *SETTINGS.split()]
    assert cli.main(job) == 0
    return out


def script(name, *arguments):
    """What a script prints; it runs in this process, as starting another takes longer."""
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said):
        patch.setattr(sys, "argv", [str(word) for word in (SCRIPTS / name, *arguments)])
        patch.syspath_prepend(SCRIPTS)
        runpy.run_path(str(SCRIPTS / name), run_name="__main__")
    return said.getvalue()


@pytest.mark.slow
def test_shipped_weights_are_half_as_large_and_do_what_their_card_says(run, tmp_path):
    words = ["--val", f"scenes={run.parent / 'photos'}", "--out", tmp_path / "weights"]
    printed = script("ship.py", run, *words, "--size", 48, "--before", "an epoch of nothing")
    with safe_open(tmp_path / "weights" / "model.safetensors", "pt") as file:
        kinds = {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
    assert kinds == {"F16", "I64"}
    card = (tmp_path / "weights" / "README.md").read_text()
    assert "TO BE FILLED" not in card.upper()
    assert "FOLDER OR HUB NAME" not in card
    assert str(run.parent) not in card
    assert printed.strip() in card
    assert "| before that | an epoch of nothing |" in card
    assert "photos of\n48x48, which they see at 64x64" in card
    scenes = str(run.parent / "photos")
    for source, told in ((scenes, "10 scenes |"), ("builtin", "7 photos")):
        (line,) = (line for line in card.splitlines() if line.startswith(f"| {told}"))
        assert_told(line, load_generator(tmp_path / "weights"), source, 48)
    (line,) = (line for line in card.splitlines() if line.startswith("| 10 scenes as old prints"))
    assert_told(line, load_generator(tmp_path / "weights"), scenes, 48, old_photo=True)


def assert_told(line, generator, source, size, old_photo=False):
    """A row of a card's table, to its last digit."""
    photos, _ = load_photo_set(source, size)
    measures = measure(at_working_size(generator), photos, full=True, old_photo=old_photo)
    cells = [cell.strip() for cell in line.split("|")[2:-1]]
    assert float(cells.pop(1)) > 0  # of plain grey
    names = ("l1", "psnr", "ssim", "ciede2000", "colorfulness", "true_colorfulness")
    names += ("ab_distance_scaled",)
    for name, cell in zip(names, cells, strict=True):
        assert cell == f"{measures[name]:.{len(cell.split('.')[1])}f}", name


@pytest.mark.slow
def test_colours_are_strengthened_to_a_share_of_the_truths(run, tmp_path):
    script("ship.py", run, "--val", f"x={run.parent / 'photos'}", "--out", tmp_path, "--share", 0.7)
    config = load_config(run)
    held_out = load_photos(config.data, config.train.seed).val
    found = measure(load_generator(tmp_path), held_out)
    assert found["colorfulness"] == pytest.approx(0.7 * found["true_colorfulness"], rel=0.02)
    card = (tmp_path / "README.md").read_text()
    assert "times as strong" in card.split("## Measures")[0]
    assert "held-out photos, at" not in card  # measures of before that
    assert card.count("## ") == 4


def test_stronger_colours_leave_hints_as_they_are(monkeypatch):
    monkeypatch.syspath_prepend(str(ASSETS.parent / "scripts"))
    from ship import strengthen

    torch.manual_seed(0)
    generator = Generator(decoder_widths=SMALL_WIDTHS, working_size=32, hints=True).eval()
    torch.nn.init.normal_(generator.head.weight, std=0.02)
    for part in (generator.encoder.stem, generator.stages[-1]):
        torch.nn.init.normal_(part.from_hints.weight, std=0.1)
    L, hints = torch.rand(2, 1, 32, 32) - 0.5, torch.zeros(2, 3, 32, 32)
    hints[:, :, 10:15, 10:15] = torch.tensor([0.2, -0.1, 1]).view(3, 1, 1)
    rgb = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    photos = PhotoSet(rgb, np.arange(4), list("abcd"), [50.0] * 4)
    with torch.no_grad():
        before = generator(L, hints).atanh()
        factor = strengthen(generator, photos, 0.7)
        hints[:, :2] *= factor
        after = generator(L, hints).atanh()
    assert factor > 1.1
    torch.testing.assert_close(after, factor * before, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")  # fastai's
def test_the_gallery_is_drawn(run, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ASSETS.parent / "benchmarks"))
    from reference import Reference

    torch.save(Reference(64).generator.state_dict(), tmp_path / "reference-gan.pt")
    (tmp_path / "beside_run.json").write_text('{"size": 64}')
    words = ["--weights", run / "generator", "--run", run, "--beside", tmp_path]
    words += ["--l1", run / "pretrained", "--large", ASSETS / "photos" / "picos.jpg"]
    script("gallery.py", *words, "--out", tmp_path)
    later = tmp_path / "later"
    shutil.copytree(run, later)
    settings = json.loads((later / "config.json").read_text())
    settings["train"]["start_weights"] = "others"
    write_json(later / "config.json", settings)
    (tmp_path / "second").mkdir()
    script(
        "gallery.py", "--weights", run / "generator", "--run", later, "--out", tmp_path / "second"
    )
    drawn = {file.name for file in (tmp_path / "second").iterdir()}
    assert drawn == {"gallery.jpg", "grey-photos.jpg", "l1-and-gan.jpg", "old-prints.jpg"}
    names = ["gallery", "grey-photos", "old-prints", "growth", "l1-and-gan", "beside-reference"]
    for name in (*names, "working-sizes"):
        with Image.open(tmp_path / f"{name}.jpg") as picture:
            assert picture.width > 500
            shades = len(picture.convert("RGB").getcolors(2**24))
            assert shades > (200 if name == "old-prints" else 1000)


@pytest.mark.slow
def test_weights_that_see_best_at_another_size_are_shipped_so(run, tmp_path):
    words = ("--val", f"scenes={run.parent / 'photos'}", "--size", "48", "--share", "0.9")
    script("ship.py", run, *words, "--working-size", "96", "--out", tmp_path / "weights")
    generator = load_generator(tmp_path / "weights")
    assert generator.working_size == 96
    card = (tmp_path / "weights" / "README.md").read_text()
    assert "photos of\n48x48, which they see at 96x96" in card
    assert "| size | 64x64" in card  # in training
    assert "looks at a photo with 96 pixels" in card
    (line,) = (line for line in card.splitlines() if line.startswith("| 10 scenes |"))
    assert_told(line, generator, str(run.parent / "photos"), 48)


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome here")
def test_the_page_is_recorded_from_grey_to_coloured(tmp_path):
    script("record.py", "--out", tmp_path / "app.webp")
    with Image.open(tmp_path / "app.webp") as moving:
        colours = []
        for frame in (0, 1, moving.n_frames - 1):
            moving.seek(frame)
            colours.append(np.ptp(np.asarray(moving.convert("RGB")).astype(int), axis=-1).mean())
    assert colours == sorted(colours)  # examples in grey, half of a photo, nearly all and stronger
    assert colours[2] > colours[1] + 1


def test_the_shipped_weights_are_small_and_do_what_their_card_says():
    """On the photos that everybody has."""
    folder = ASSETS / "weights" / "general"
    assert sum(file.stat().st_size for file in folder.iterdir()) < 30_000_000
    card = (folder / "README.md").read_text()
    (line,) = (line for line in card.splitlines() if line.startswith("| 7 photos"))
    size = int(re.search(r"(?:at|photos of)\s(\d+)x\1[,;]", card)[1])
    assert_told(line, load_generator(), "builtin", size)
    assert "not settled" in card  # the licence of the photos


def test_a_mean_of_weights_is_their_mean_and_has_the_first_ones_card(tmp_path):
    for seed, name in enumerate(("first", "second", "third")):
        torch.manual_seed(seed)
        save_weights(Generator("resnet18", SMALL_WIDTHS), tmp_path / name)
    (tmp_path / "first" / "README.md").write_text("the first")
    shares = {"first": 0.5, "second": 0.2, "third": 0.3}
    parts = [f"{tmp_path / name}:{share}" for name, share in shares.items()]
    script("mean.py", tmp_path / "mean", *parts)
    states = {name: load_generator(tmp_path / name).state_dict() for name in (*shares, "mean")}
    mean = states.pop("mean")
    assert not torch.allclose(*(states[name]["head.weight"] for name in ("first", "second")))
    for name, value in mean.items():
        if value.is_floating_point():  # batch norm's statistics too
            wanted = sum(share * states[of][name] for of, share in shares.items())
            torch.testing.assert_close(value, wanted)
    assert (tmp_path / "mean" / "README.md").read_text() == "the first"


@pytest.mark.parametrize(
    ("shares", "told"),
    [
        ((0.5, 0.4), "do not add up to 1"),
        ((0.5, 0.5), "another network"),
        ((1.5, -0.5), "is not WEIGHTS:SHARE"),
    ],
)
def test_what_has_no_mean_is_refused(tmp_path, capsys, shares, told):
    parts = []
    for share, widths in zip(shares, (SMALL_WIDTHS, [2 * w for w in SMALL_WIDTHS]), strict=True):
        save_weights(Generator("resnet18", widths), tmp_path / str(widths[0]))
        parts.append(f"{tmp_path / str(widths[0])}:{share}")
    with pytest.raises(SystemExit):
        script("mean.py", tmp_path / "mean", *parts)
    assert told in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "mean").exists()


def test_the_shipped_weights_know_the_sky():
    """The README's lines, on a photo that they were not trained on: blue above, not below."""
    colorizer = Colorizer.from_pretrained()
    with Image.open(ASSETS / "photos" / "picos.jpg") as photo:
        colored = colorizer(photo.convert("L"))
    assert colored.size == photo.size
    b = rgb2lab(np.asarray(colored))[..., 2]
    left, right = photo.width // 2, photo.width - 40
    assert b[10 : photo.height // 6, left:right].mean() < -15
    assert b[-photo.height // 4 :].mean() > -5


def test_every_photo_says_whose_it_is():
    told = (ASSETS / "photos" / "README.md").read_text()
    photos = sorted((ASSETS / "photos").glob("*.jpg"))
    assert len(photos) >= 8
    for photo in photos:
        assert f"`{photo.name}`" in told
        with Image.open(photo) as image:
            assert max(image.size) <= 640
