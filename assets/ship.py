"""Make `assets/weights/landscapes` of a run: half precision, measured, with its model card.

    python assets/ship.py RUN --val PHOTOS [--share 0.93]

PHOTOS are colour photos that the run has never seen. What is measured is what was written, loaded
the way users load it. How far colours are strengthened, if at all, is found on the run's own
held-out photos.
"""

from __future__ import annotations

import argparse
import re
import shutil
from pathlib import Path

from colorize.card import CARD_NAME
from colorize.checkpoint import ASSETS, load_generator, save_weights
from colorize.data import PhotoSet, load_photo_set, load_photos
from colorize.errors import ColorizeError
from colorize.evaluate import measure
from colorize.files import folder_beside
from colorize.generator import Generator
from colorize.report import table
from colorize.run import load_config

DATA = "the training part of the Intel natural-scenes set"
LICENCE = """\
The code is under the MIT licence. The weights learnt from photos of the Intel natural-scenes set,
as kept in the public repository afroozsheikh/Intel-Image-Classifier. Those may be used for
research, but not be redistributed with a product, and whether that binds what was learnt from them
is not settled. Take these weights for research and for trying things out; for a product, train on
photos whose licence you know.
"""
STRONGER = (
    "| after training | colours made {factor:.3f} times as strong in the last layer: mean "
    "colourfulness {share:g} of the truth's on the photos held out |\n"
)
MEASURES = """\
On {count:,} photos of that set's test part, never trained on, at {size}x{size}, by these weights as
they are here (16 bits), computed in float32:

{table}
To measure them yourself: `colorize evaluate --data PHOTOS --size {size}`.
"""


def strengthen(generator: Generator, photos: PhotoSet, share: float) -> float:
    """Scale the colours until their mean colourfulness is a share of the truth's.

    Returns:
        The factor. It goes into the last convolution, before its tanh.
    """
    factor = 1.0
    for _ in range(3):  # colourfulness is nearly, but not quite, proportional to it
        found = measure(generator, photos)
        step = share * found["true_colorfulness"] / found["colorfulness"]
        for parameter in generator.head.parameters():
            parameter.data *= step
        factor *= step
    return factor


def card(text: str, stronger: str, measures: str) -> str:
    """The card of a run, told of these weights."""
    text = text.replace("FOLDER OR HUB NAME OF THESE WEIGHTS", "assets/weights/landscapes")
    text = re.sub(r"(?m)^\| photos \| [^:|]*:", f"| photos | {DATA}:", text)
    text = text.replace("\n## Measures", f"{stronger}\n## Measures")
    for section, content in (("Measures", measures), ("Licence", LICENCE)):
        text = re.sub(
            rf"(?s)(## {section}\n\n).*?(?=\n## )", lambda m, new=content: m[1] + new, text
        )
    return text


def ship(run: Path, val: str, out: Path, share: float | None = None) -> str:
    """Write the folder, whole or not at all; gives the measures."""
    generator, stronger = load_generator(run / "generator"), ""
    size, told = generator.working_size, generator.card
    if "## Licence" not in told:
        raise ColorizeError(f"{run}: its weights have no card of a finished run")
    photos, unreadable = load_photo_set(val, size)
    if unreadable:
        raise ColorizeError(unreadable[0])
    if share:
        config = load_config(run)
        held_out = load_photos(config.data, config.train.seed).val
        stronger = STRONGER.format(factor=strengthen(generator, held_out, share), share=share)
    out.parent.mkdir(parents=True, exist_ok=True)
    with folder_beside(out) as temporary:
        new = temporary / out.name
        save_weights(generator.half(), new)
        shown = table({"these weights": measure(load_generator(new), photos, full=True)})
        quoted = "".join(f"    {line}\n" for line in shown.splitlines())
        measures = MEASURES.format(count=len(photos), size=size, table=quoted)
        (new / CARD_NAME).write_text(card(told, stronger, measures), encoding="utf-8")
        shutil.rmtree(out, ignore_errors=True)
        new.rename(out)
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="run folder; its generator/ is taken")
    parser.add_argument("--val", required=True, help="photos to measure on")
    parser.add_argument("--out", type=Path, default=ASSETS / "weights" / "landscapes")
    parser.add_argument(
        "--share", type=float, help="strengthen colours to this share of the truth's colourfulness"
    )
    args = parser.parse_args()
    try:
        print(ship(args.run, args.val, args.out, args.share))
    except ColorizeError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
