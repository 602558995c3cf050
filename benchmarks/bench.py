"""Both recipes in one run, alternating: Lab, photos, steps, epochs; `Colorizer`; folders.

python benchmarks/bench.py            # table, and benchmarks/results.json
python benchmarks/bench.py --quick    # the same in two minutes, smaller and rougher

The table is written row by row: what is done counts.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from ours import make_trainer, photo_set, repeat, seconds_of, spare
from PIL import Image
from reference import Reference, loader
from skimage import color as skimage_color

from colorize.color import lab_to_rgb, rgb_to_lab
from colorize.dataset import (
    Batches,
    Photos,
    PhotoSet,
    crop_flip,
    random_crops,
    to_network,
    train_loader,
)
from colorize.folders import colorize_files
from colorize.photos.cache import decode_once
from colorize.photos.sources import builtin_photos
from colorize.predict import Colorizer
from colorize.system.files import write_json
from colorize.system.machine import commit, cores, describe
from colorize.trainer import run_epoch

RESULTS = Path(__file__).with_name("results.json")
LARGE = {1: (1152, 864), 12: (4000, 3000), 48: (8000, 6000)}  # megapixels to width and height
WORKING_SIZE = 512  # of `Colorizer`
PARTS = ("prepare", "steps", "epochs", "colorizers", "folders")


@dataclass
class Setting:
    """What is measured, on which device."""

    size: int
    batch_size: int
    device: str
    rounds: int
    photos: list[Path]
    folder: Path


def write_jpegs(folder: Path, count: int, random: np.random.Generator) -> list[Path]:
    """Photos as COCO has them, 640x480 JPEGs: random parts of the built-in photos, enlarged."""
    originals = [Image.open(path).convert("RGB") for path in builtin_photos()]
    paths = [folder / f"{i:04d}.jpg" for i in range(count)]
    for i, path in enumerate(paths):
        photo = originals[i % len(originals)]
        side = int(min(photo.size) * random.uniform(0.6, 1.0))
        left, top = (int(random.integers(0, n - side + 1)) for n in photo.size)
        box = (left, top, left + side, top + side * 3 // 4)
        photo.resize((640, 480), Image.Resampling.BICUBIC, box).save(path, quality=90)
    return paths


def race(
    rounds: int, ours: Callable[[], Any], reference: Callable[[], Any] | None, device: str
) -> tuple[float, float | None]:
    """Median seconds of both, taken in turns after one turn that does not count."""
    runs = [run for run in (ours, reference) if run is not None]
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(rounds + 1):
        for run, spent in zip(runs, times, strict=True):
            spent.append(seconds_of(run, device))
    fast, *slow = (median(spent[1:]) for spent in times)
    return fast, slow[0] if slow else None


def rival(setting: Setting) -> Reference | None:
    """The reference on the device, ready for both stages; None without fastai."""
    try:
        reference = Reference(setting.size, setting.device)
    except ImportError as error:
        print(f"no reference: {error}")
        return None
    reference.start_gan()
    return reference


def row(name: str, device: str, ours: float, reference: float | None, unit: str) -> dict[str, Any]:
    """A row of the table; `unit` says whether more or less is better."""
    ratio = None
    if reference is not None:
        ratio = round(ours / reference if unit.endswith("/s") else reference / ours, 2)
        reference = round(reference, 4)
    result = {"name": name, "device": device, "ours": round(ours, 4), "reference": reference}
    result |= {"unit": unit, "ratio": ratio}
    against = "" if ratio is None else f"{reference:>12.4g}{ratio:>9.2f}x"
    print(f"{name:<28}{device:<6}{ours:>12.4g}{against or ' ' * 22}  {unit}", flush=True)
    return result


def conversions(setting: Setting, photos: PhotoSet) -> list[dict[str, Any]]:
    """sRGB to Lab and back, a batch at a time; the reference is scikit-image's, on one core."""
    rgb = photos.__getitems__(range(setting.batch_size)).to(setting.device)
    lab = rgb_to_lab(rgb)
    images, labs = (batch.permute(0, 2, 3, 1).cpu().numpy() for batch in (rgb, lab))
    rows = []
    for name, ours, reference in (
        ("rgb_to_lab", partial(rgb_to_lab, rgb), partial(skimage_color.rgb2lab, images)),
        ("lab_to_rgb", partial(lab_to_rgb, lab), partial(skimage_color.lab2rgb, labs)),
    ):
        fast, slow = race(setting.rounds, ours, reference, setting.device)
        rows.append(row(name, setting.device, len(rgb) / fast, len(rgb) / slow, "photos/s"))
    return rows


def prepare(setting: Setting) -> list[dict[str, Any]]:
    """From JPEG files to scaled L and ab on the device, an epoch at a time."""
    batches = loader(setting.photos, setting.size, setting.batch_size, cores())
    count, side = len(setting.photos), spare(setting.size)
    array = decode_once(setting.photos, side, str(setting.folder), progress=False).array
    trainer = make_trainer(photo_set(array), setting.size, setting.batch_size, "fp32")

    def reference() -> None:
        for L, ab in batches:
            L.to(setting.device), ab.to(setting.device)

    def first() -> None:
        with tempfile.TemporaryDirectory(dir=setting.folder) as cache:
            later(decode_once(setting.photos, side, cache, progress=False).array)

    def later(array: np.ndarray) -> None:
        photos = Photos(photo_set(array), photo_set(array, 0), setting.size)
        for _ in Batches(trainer.accelerator, photos, trainer.config).epoch(seed=0):
            pass

    def feed(array: np.ndarray) -> None:
        for rgb in train_loader(photo_set(array), setting.batch_size, seed=0):
            rgb.to(setting.device)

    rows = []
    for name, ours in (
        ("prepare_first_epoch", first),
        ("prepare_later_epochs", partial(later, array)),
        ("feed_later_epochs", partial(feed, array)),  # all that is not done on the device
    ):
        fast, slow = race(setting.rounds, ours, reference, setting.device)
        rows.append(row(name, setting.device, count / fast, count / slow, "photos/s"))
    return rows


def steps(setting: Setting, photos: PhotoSet) -> list[dict[str, Any]]:
    """One pretraining step and one GAN step on the same batch, in every useful number format."""
    rgb = photos.__getitems__(range(setting.batch_size)).to(setting.device)
    crops = random_crops(len(rgb), rgb.shape[-1], setting.size, seed=0)
    batch = to_network(crop_flip(rgb, setting.size, crops))
    times = 10 if setting.device == "cuda" else 1  # there one step is too short to be timed
    automatic = make_trainer(photos, setting.size, setting.batch_size, "auto").precision
    rows = []
    for stage in ("pretrain", "gan"):
        for precision in dict.fromkeys((automatic, "fp32")):
            trainer = make_trainer(photos, setting.size, setting.batch_size, precision)
            ours = partial(repeat, getattr(trainer, f"{stage}_stage")().step, batch, times)
            theirs = None
            if reference := rival(setting):
                theirs = partial(repeat, getattr(reference, f"{stage}_step"), batch, times)
            pair = race(setting.rounds, ours, theirs, setting.device)
            fast, slow = (spent and spent / times for spent in pair)
            name = f"{stage}_step" + ("" if precision == automatic else f"_{precision}")
            rows.append(row(name, setting.device, fast, slow, f"s a batch, {precision}"))
    return rows


def epochs(setting: Setting, photos: PhotoSet) -> list[dict[str, Any]]:
    """A whole epoch of GAN training, loader included, on photos decoded before."""
    trainer = make_trainer(photos, setting.size, setting.batch_size, "auto")
    stage = trainer.gan_stage()
    reference = rival(setting)
    files = [setting.photos[row] for row in photos.rows]
    batches = loader(files, setting.size, setting.batch_size, cores())
    count = len(photos) // setting.batch_size

    def ours() -> None:
        run_epoch(stage, 0, trainer.batches.epoch(seed=0), count, show=False)

    def theirs() -> None:
        for batch in batches:
            reference.gan_step(*batch)

    rounds = max(1, setting.rounds // 2)
    fast, slow = race(rounds, ours, theirs if reference else None, setting.device)
    seen = count * setting.batch_size
    return [row("epoch", setting.device, seen / fast, slow and seen / slow, "photos/s")]


def colorizers(sizes: Sequence[int], device: str) -> list[dict[str, Any]]:
    """`Colorizer` on large photos, each in a process of its own for the sake of peak memory."""
    rows = []
    for megapixels in sizes:
        width, height = LARGE[megapixels]
        script = Path(__file__).with_name("large_photo.py")
        command = [sys.executable, str(script), str(width), str(height), str(WORKING_SIZE), device]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        result = json.loads(output)
        rows += [
            row(f"colorizer_{megapixels}mp", device, result["seconds"], None, "s a photo"),
            row(f"colorizer_{megapixels}mp_peak", device, result["peak_gb"], None, "GB"),
        ]
    return rows


def folders(count: int, rounds: int) -> list[dict[str, Any]]:
    """A folder of photos beside a process that is busy for ever, on the CPU.

    As `predict` does it, beside photo after photo with all threads, and with one thread.
    """
    threads, colorizer = torch.get_num_threads(), Colorizer.from_pretrained(device="cpu")
    with tempfile.TemporaryDirectory() as name:
        photos = write_jpegs(Path(name), count, np.random.default_rng(0))
        out = Path(name) / "coloured"

        def predict(*some: Path) -> None:
            if colorize_files(colorizer, some, out, overwrite=True).failed:
                raise RuntimeError("a photo has failed")

        def one_by_one() -> None:
            for photo in photos:
                predict(photo)

        def one_thread() -> None:
            torch.set_num_threads(1)
            try:
                predict(*photos)
            finally:
                torch.set_num_threads(threads)

        busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        try:
            together = partial(predict, *photos)
            rows = []
            for rival, which in ((one_by_one, "all_threads"), (one_thread, "one_thread")):
                ours, theirs = race(rounds, together, rival, "cpu")
                speeds = count / ours, theirs and count / theirs
                rows.append(row(f"folder_{which}", "cpu", *speeds, "photos/s"))
        finally:
            busy.kill()
            busy.wait()
    return rows


def measure_device(device: str, args: argparse.Namespace) -> Iterator[list[dict[str, Any]]]:
    """Rows of one device, a few at a time."""
    batch_sizes = args.batch_size or [32 if device == "cuda" else 4]
    for batch_size in batch_sizes:
        with tempfile.TemporaryDirectory() as name:
            for rows in measure_batch_size(device, batch_size, Path(name), args):
                suffix = f"_batch{batch_size}" if len(batch_sizes) > 1 else ""
                yield [row | {"name": row["name"] + suffix} for row in rows]
    if "colorizers" in args.only:
        yield colorizers([1] if args.quick else list(LARGE), device)
    if "folders" in args.only and device == "cpu":
        yield folders(*((10, 1) if args.quick else (40, args.rounds or 3)))


def measure_batch_size(
    device: str, batch_size: int, folder: Path, args: argparse.Namespace
) -> Iterator[list[dict[str, Any]]]:
    """Rows of training with batches of one size."""
    if not {"prepare", "steps", "epochs"} & set(args.only):
        return
    count = max(64 if args.quick else 256, 4 * batch_size)
    jpegs = write_jpegs(folder, count, np.random.default_rng(0))
    rounds = args.rounds or (1 if args.quick else 5)
    setting = Setting(args.size, batch_size, device, rounds, jpegs, folder)
    decoded = decode_once(jpegs, spare(args.size), str(folder), progress=False)
    # Enough steps that starting an epoch does not count; on a CPU each takes seconds.
    photos = photo_set(decoded.array, (64 if device == "cuda" else 4) * batch_size)
    if "prepare" in args.only:
        yield conversions(setting, photos) + prepare(setting)
    if "steps" in args.only:
        yield steps(setting, photos)
    if "epochs" in args.only:
        yield epochs(setting, photos)


def measure_cpu_apart(out: Path) -> list[dict[str, Any]]:
    """The CPU's rows on a machine with a GPU: from a process that does not see it."""
    command = [sys.executable, *sys.argv, "--out", str(out)]
    subprocess.run(command, check=True, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""})
    return json.loads(out.read_text())["rows"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="128x128, one round: two minutes")
    parser.add_argument("--size", type=int)
    parser.add_argument("--batch-size", type=int, nargs="+", help="4 on a CPU, 32 on a GPU")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--only", choices=PARTS, nargs="+", default=PARTS)
    parser.add_argument("--device", choices=("cpu", "cuda"), help="without it, all there are")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    args.size = args.size or (128 if args.quick else 256)
    warnings.filterwarnings("ignore", category=FutureWarning)  # fastai's
    about = {"machine": describe(), "commit": commit(), "size": args.size, "quick": args.quick}
    print(about["machine"])
    print(f"{'':<34}{'ours':>12}{'reference':>12}{'ratio':>10}")
    cuda = args.device != "cpu" and torch.cuda.is_available()
    if not cuda:
        os.environ["ACCELERATE_USE_CPU"] = "true"  # ours too, on a Mac
    rows: list[dict[str, Any]] = []
    for more in measure_device("cuda" if cuda else "cpu", args):
        rows += more
        write_json(args.out, {**about, "rows": rows})
    if cuda and not args.device:
        rows += measure_cpu_apart(args.out)
        write_json(args.out, {**about, "rows": rows})


if __name__ == "__main__":
    main()
