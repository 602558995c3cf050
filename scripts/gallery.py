"""Draw the pictures of README and docs, by the weights that come along.

    python scripts/gallery.py               # people, animals, places, things; some that come in
                                           # grey; clean photos as old prints; hints
    python scripts/gallery.py --l1 WEIGHTS  # also beside weights of L1 alone
    python scripts/gallery.py --run RUN     # also from a run with --keep-epochs: L1 and GAN,
                                           # and, if it began with random weights, how colours grow
    python scripts/gallery.py --beside OUT  # also beside the reference, as benchmarks/beside_run.py
                                           # has trained it
    python scripts/gallery.py --large PHOTO # also a large photo at several working sizes

What the photos are and what their licences say: photos/README.md.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont, ImageOps

from colorize import Colorizer
from colorize.aging import aged_lightness
from colorize.color import L_SCALE, lightness_to_grey
from colorize.metrics import to_uint8
from colorize.photos.read import fit_square, open_photo
from colorize.photos.sources import builtin_photos
from colorize.predict import in_grey
from colorize.run import load_config
from colorize.system.errors import ColorizeError
from colorize.system.files import ASSETS, write_whole

PHOTOS = ASSETS / "photos"
KINDS = {
    "people and animals": ("astronaut", "grace_hopper", "dogs", "chelsea"),
    "places": ("mountains", "picos", "stream", "sunset"),
    "things": ("fig", "coffee", "dandelions", "rocket"),
}
WORKING_SIZES = (96, 160, 256, 512, 1024)
CUT = 0.18  # share of a large photo's width
CUTS = {"the middle": (0.41, 0.41), "lower right": (0.68, 0.72)}
AGED = ("mountains", "grace_hopper", "dogs", "coffee")
HINTS = {  # x and y as shares of width and height
    "fig": (
        (0.75, 0.35, "#d03010"),
        (0.35, 0.55, "#d03010"),
        (0.52, 0.53, "#a02020"),
        (0.1, 0.88, "#a8a094"),
        (0.9, 0.1, "#a8a094"),
    ),
    "coffee": (
        (0.3, 0.75, "#8a3018"),
        (0.72, 0.5, "#8a3018"),
        (0.45, 0.3, "#c88a50"),
        (0.88, 0.25, "#8a6040"),
        (0.1, 0.35, "#8a6040"),
    ),
    "astronaut": (
        (0.38, 0.6, "#c8552a"),
        (0.12, 0.8, "#c8552a"),
        (0.55, 0.75, "#c8552a"),
        (0.42, 0.2, "#d0a080"),
        (0.94, 0.3, "#b8b0a8"),
    ),
}
SHOWN_GROWING = ("mountains", "stream", "picos", "sunset")
TILE, WIDTH, GAP, LINE = 240, 1200, 6, 18  # pixels
Row = tuple[str, list[Image.Image]]  # a caption, and pictures from left to right


def photo(name: str) -> Image.Image:
    """One of `photos/`, or else one that a Python package brings."""
    own = PHOTOS / f"{name}.jpg"
    paths = [own] if own.is_file() else [path for path in builtin_photos() if path.stem == name]
    if not paths:
        raise ColorizeError(f"no photo {name}; pip install scikit-image matplotlib")
    return open_photo(paths[0])


def grey_photos() -> dict[str, Image.Image]:
    """Photographs that come in grey: nobody here knows the true colours."""
    folder = Path(importlib.util.find_spec("skimage").origin).parent / "data"
    return {
        "an expedition, 1897": photo("expedition-1897"),
        "a cameraman": open_photo(folder / "camera.png"),
    }


def sheet(groups: dict[str, list[Row]], titles: list[str], across: int = 1) -> Image.Image:
    """Rows of pictures in columns with titles, `across` rows beside each other.

    Args:
        groups: heading -> rows, each a caption and its pictures; no heading is drawn for "".
    """
    font = ImageFont.load_default(13)
    columns = len(titles) * across
    wide = min(TILE, (WIDTH - GAP * (columns - 1)) // columns)
    tile, step = (wide, wide * 3 // 4), wide + GAP
    lines = [heading for heading in groups if heading]
    bands = sum(math.ceil(len(rows) / across) for rows in groups.values())
    height = (LINE + GAP) * (1 + len(lines)) + (LINE + tile[1] + GAP) * bands
    whole = Image.new("RGB", (columns * step - GAP, height), "white")
    draw = ImageDraw.Draw(whole)
    for column in range(columns):
        draw.text((column * step, 0), titles[column % len(titles)], "black", font)
    top = LINE + GAP
    for heading, rows in groups.items():
        if heading:
            draw.text((0, top), heading, "black", font)
            top += LINE + GAP
        for i, (caption, pictures) in enumerate(rows):
            left = i % across * len(titles) * step
            draw.text((left, top), caption, "#555555", font)
            for column, picture in enumerate(pictures):
                fitted = ImageOps.fit(picture.convert("RGB"), tile, Image.Resampling.LANCZOS)
                whole.paste(fitted, (left + column * step, top + LINE))
            if i % across == across - 1 or i == len(rows) - 1:
                top += LINE + tile[1] + GAP
    return whole


def write(picture: Image.Image, file: Path) -> None:
    picture.save(encoded := BytesIO(), "jpeg", quality=88, optimize=True)
    with write_whole(file) as temporary:
        temporary.write_bytes(encoded.getbuffer())
    print(file, *picture.size)


def versions(colorizers: list[Colorizer], name: str) -> Row:
    """A row: grey, coloured by each, true."""
    true = photo(name)
    return name, [in_grey(true), *(colorizer(true) for colorizer in colorizers), true]


def by_kind(colorizers: list[Colorizer]) -> dict[str, list[Row]]:
    return {kind: [versions(colorizers, name) for name in names] for kind, names in KINDS.items()}


def old_prints(names: tuple[str, ...] = AGED, each: int = 4, size: int = 256) -> list[Row]:
    """Photos in grey, and as the old prints that `train --old-photo` makes of them."""
    torch.manual_seed(0)
    rows = []
    for name in names:
        square = fit_square(photo(name).convert("RGB"), size)
        rgb = torch.from_numpy(np.array(square)).permute(2, 0, 1).expand(each, -1, -1, -1)
        grey = lightness_to_grey((aged_lightness(rgb) + 1) * L_SCALE)
        prints = [Image.fromarray(to_uint8(print_[0]).numpy()) for print_ in grey]
        rows.append((name, [in_grey(square), *prints]))
    return rows


def hinted(colorizer: Colorizer, name: str) -> Row:
    """A photo coloured without hints, the hints on grey, what they make of it, and the truth."""
    image = photo(name)
    width, height = image.size
    hints = [(x * width, y * height, color) for x, y, color in HINTS[name]]
    marked = in_grey(image).convert("RGB")
    drawing, radius = ImageDraw.Draw(marked), width / 36
    for x, y, color in hints:
        box = (x - radius, y - radius, x + radius, y + radius)
        drawing.ellipse(box, fill=color, outline="white", width=round(radius / 3))
    return name, [colorizer(image), marked, colorizer(image, hints), image]


def at_sizes(weights: str | None, large: Path) -> list[Row]:
    """A large photo, and two cuts of it, seen at several working sizes."""
    true = open_photo(large)
    pictures = [Colorizer.from_pretrained(weights, size)(true) for size in WORKING_SIZES]
    pictures = [in_grey(true), *pictures, true]
    rows = [("the whole", pictures)]
    side = true.width * CUT
    for caption, (x, y) in CUTS.items():
        left, top = x * true.width, y * true.height
        box = [round(n) for n in (left, top, left + side, top + side * 3 / 4)]
        rows.append((caption, [picture.crop(box) for picture in pictures]))
    return rows


def draw_run(run: Path, out: Path) -> None:
    """What only the run itself can show: its epochs and stages."""
    stages = [
        sorted((run / "epochs").glob(f"{stage}-*"), key=lambda path: int(path.name.split("-")[1]))
        for stage in ("pretrain", "gan")
    ]
    if not all(stages):
        raise ColorizeError(f"{run}: not both stages in its epochs/; train with --keep-epochs")
    if load_config(run).train.start_weights is None:
        draw_growth(*stages, out)
    colorizers = [Colorizer.from_pretrained(run / name) for name in ("pretrained", "generator")]
    titles = ["grey", "L1 alone", "L1, then GAN", "true"]
    write(sheet(by_kind(colorizers), titles), out / "l1-and-gan.jpg")


def draw_growth(first: list[Path], gan: list[Path], out: Path) -> None:
    """Photos by the weights of some epochs of L1, and of the last one of the GAN."""
    count = len(first)
    shown = sorted({0, count // 8, count // 4, count // 2, count - 1})
    chosen = [*(first[i] for i in shown), gan[-1]]
    colorizers = [Colorizer.from_pretrained(path) for path in chosen]
    rows = [versions(colorizers, name) for name in SHOWN_GROWING]
    titles = ["grey", *(path.name.replace("-", ", epoch ") for path in chosen), "true"]
    write(sheet({"": rows}, titles), out / "growth.jpg")


def reference(beside: Path) -> Colorizer:
    """The recipe of most tutorials, as it was trained beside a run, and at its size."""
    sys.path.append(str(ASSETS.parent / "benchmarks"))
    from reference import Reference

    file = beside / "reference-gan.pt"
    if not file.is_file():
        raise ColorizeError(f"{file}: not there; train it with benchmarks/beside_run.py")
    try:
        size = json.loads((beside / "beside_run.json").read_text())["size"]
    except (OSError, ValueError, KeyError) as error:
        raise ColorizeError(f"{beside / 'beside_run.json'}: does not say the size") from error
    generator = Reference(size).generator
    generator.load_state_dict(torch.load(file, weights_only=True))
    return Colorizer(generator, size)


def draw(args: argparse.Namespace) -> None:
    if args.run:
        draw_run(args.run, args.out)
    colorizer = Colorizer.from_pretrained(args.weights)
    if args.l1:
        colorizers = [Colorizer.from_pretrained(args.l1), colorizer]
        titles = ["grey", "L1 alone", "L1, then GAN", "true"]
        write(sheet(by_kind(colorizers), titles), args.out / "l1-and-gan.jpg")
    if args.large:
        titles = ["grey", *(f"working size {size}" for size in WORKING_SIZES), "true"]
        rows = at_sizes(args.weights, args.large)
        write(sheet({"": rows}, titles), args.out / "working-sizes.jpg")
    if args.beside:
        colorizers = [reference(args.beside), colorizer]
        titles = ["grey", "the usual recipe", "this project", "true"]
        write(sheet(by_kind(colorizers), titles), args.out / "beside-reference.jpg")
    titles = ["grey", "coloured", "true"]
    write(sheet(by_kind([colorizer]), titles, across=2), args.out / "gallery.jpg")
    rows = [(name, [in_grey(old), colorizer(old)]) for name, old in grey_photos().items()]
    write(sheet({"": rows}, ["grey", "coloured"], across=2), args.out / "grey-photos.jpg")
    if colorizer.generator.hints:
        titles = ["without hints", "five hints", "with them", "true"]
        rows = [hinted(colorizer, name) for name in HINTS]
        write(sheet({"": rows}, titles), args.out / "hints.jpg")
    titles = ["in grey", *["as an old print"] * 4]
    write(sheet({"": old_prints()}, titles), args.out / "old-prints.jpg")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, help="run folder of a training with --keep-epochs")
    parser.add_argument("--beside", type=Path, help="what benchmarks/beside_run.py has written")
    parser.add_argument(
        "--large", type=Path, metavar="PHOTO", help="a large photo to see at several working sizes"
    )
    parser.add_argument("--weights", help="others than those that come along")
    parser.add_argument("--l1", help="weights of L1 alone, to be shown beside them")
    parser.add_argument("--out", type=Path, default=ASSETS, help="folder for the pictures")
    args = parser.parse_args()
    try:
        draw(args)
    except ColorizeError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
