"""Make the weights that come along of a run: half precision, measured, with its model card.

    python scripts/ship.py RUN --val PHOTOS [--size 96] [--working-size 160] [--share 0.93]
        [--before "30 epochs of ..."]

PHOTOS are colour photos that the run has never seen. What is measured is what was written, loaded
the way users load it. How far colours are strengthened, if at all, is found on the run's own
held-out photos; `evaluate --working-size` helps to find the size at which the network sees best.
"""

from __future__ import annotations

import argparse
import re
import shutil
from pathlib import Path

from colorize.dataset import PhotoSet, load_photo_set, load_photos
from colorize.evaluate import at_working_size, measure
from colorize.generator import Generator
from colorize.pretrained import SHIPPED, load_generator, save_weights
from colorize.run import load_config
from colorize.system.errors import ColorizeError
from colorize.system.files import ASSETS, folder_beside
from colorize.weights.card import CARD_NAME

DATA = "the training part of the Intel natural-scenes set"
LICENCE = """\
The code is under the MIT licence. The weights learnt from photos of the Intel natural-scenes set,
as kept in the public repository afroozsheikh/Intel-Image-Classifier. Those may be used for
research, but not be redistributed with a product, and whether that binds what was learnt from them
is not settled. Take these weights for research and for trying things out; for a product, train on
photos whose licence you know.
"""
BEFORE = "| before that | {before} |\n"
STRONGER = (
    "| after training | colours made {factor:.3f} times as strong in the last layer: mean "
    "colourfulness {share:g} of the truth's on the photos held out |\n"
)
MEASURES = """\
By these weights as they are here (16 bits), computed in float32 on a CPU, on photos of
{size}x{size}, which they see at {seen}x{seen}; never trained on:

{rows}
To measure them yourself: `colorize evaluate --data PHOTOS --size {size}`; the second row is
`--data builtin`.
"""
# Columns of the card, and digits: what another processor's rounding does not reach.
COLUMNS = {
    "l1": ("L1 of ab / 110", 4),
    "grey_l1": ("of plain grey", 4),
    "psnr": ("PSNR, dB", 2),
    "ssim": ("SSIM", 3),
    "ciede2000": ("CIEDE2000", 2),
    "colorfulness": ("colourfulness", 1),
    "true_colorfulness": ("of the truth", 1),
}


def strengthen(generator: Generator, photos: PhotoSet, share: float) -> float:
    """Scale the colours until their mean colourfulness is a share of the truth's.

    Returns:
        The factor. It goes into the last convolution, before its tanh.
    """
    factor = 1.0
    for _ in range(3):  # colourfulness is nearly, but not quite, proportional to it
        found = measure(at_working_size(generator), photos)
        step = share * found["true_colorfulness"] / found["colorfulness"]
        for parameter in generator.head.parameters():
            parameter.data *= step
        factor *= step
    return factor


def card(text: str, seen: int, more: str, measures: str) -> str:
    """The card of a run, told of these weights.

    Args:
        seen: their working size.
        more: lines for the table of the training.
    """
    text = text.replace("FOLDER OR HUB NAME OF THESE WEIGHTS", f"assets/weights/{SHIPPED}")
    text = re.sub(r"(?m)^\| photos \| [^:|]*:", f"| photos | {DATA}:", text)
    text = re.sub(r"(looks at a photo with )\d+ pixels", rf"\g<1>{seen} pixels", text)
    text = text.replace("\n## Measures", f"{more}\n## Measures")
    for section, content in (("Measures", measures), ("Licence", LICENCE)):
        text = re.sub(
            rf"(?s)(## {section}\n\n).*?(?=\n## )", lambda m, new=content: m[1] + new, text
        )
    return text


def row(photos: str, generator: Generator, size: int) -> str:
    """A line of the card: what these weights are worth on photos (a folder, or "builtin")."""
    photo_set, unreadable = load_photo_set(photos, size)
    if unreadable:
        raise ColorizeError(unreadable[0])
    measures = measure(at_working_size(generator), photo_set, full=True)
    grey = measure(lambda L: L.new_zeros(len(L), 2, *L.shape[-2:]), photo_set)
    measures["grey_l1"] = grey["l1"]
    cells = (f"{measures[name]:.{digits}f}" for name, (_, digits) in COLUMNS.items())
    what = "photos that this project's packages bring" if photos == "builtin" else "landscapes"
    return f"| {len(photo_set)} {what} | {' | '.join(cells)} |\n"


def ship(args: argparse.Namespace) -> str:
    """Write the folder, whole or not at all; gives the measures."""
    run, out = args.run, args.out
    generator = load_generator(run / "generator")
    generator.working_size = args.working_size or generator.working_size
    size, told = args.size or generator.working_size, generator.card
    more = BEFORE.format(before=args.before) if args.before else ""
    if "## Licence" not in told:
        raise ColorizeError(f"{run}: its weights have no card of a finished run")
    if args.share:
        config = load_config(run)
        held_out = load_photos(config.data, config.train.seed).val
        factor = strengthen(generator, held_out, args.share)
        more += STRONGER.format(factor=factor, share=args.share)
    out.parent.mkdir(parents=True, exist_ok=True)
    with folder_beside(out) as temporary:
        new = temporary / out.name
        save_weights(generator.half(), new)
        rows = f"| photos | {' | '.join(title for title, _ in COLUMNS.values())} |\n"
        rows += "|---" * (1 + len(COLUMNS)) + "|\n"
        rows += "".join(row(photos, load_generator(new), size) for photos in (args.val, "builtin"))
        measures = MEASURES.format(size=size, seen=generator.working_size, rows=rows)
        (new / CARD_NAME).write_text(
            card(told, generator.working_size, more, measures), encoding="utf-8"
        )
        shutil.rmtree(out, ignore_errors=True)
        new.rename(out)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="run folder; its generator/ is taken")
    parser.add_argument("--val", required=True, help="photos to measure on")
    parser.add_argument("--out", type=Path, default=ASSETS / "weights" / SHIPPED)
    parser.add_argument("--size", type=int, help="of the photos measured; else the working size")
    parser.add_argument("--working-size", type=int, help="of the weights; else that of training")
    parser.add_argument("--before", help="what the weights had learnt that the run started from")
    parser.add_argument(
        "--share", type=float, help="strengthen colours to this share of the truth's colourfulness"
    )
    args = parser.parse_args()
    try:
        print(ship(args))
    except ColorizeError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
