"""Make `assets/weights/landscapes` of a run: half precision, measured, with its model card.

    python assets/ship.py RUN --val PHOTOS

PHOTOS are colour photos that the run has never seen. What is measured is what was written, loaded
the way users load it.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from colorize.card import CARD_NAME
from colorize.checkpoint import ASSETS, load_generator, save_weights
from colorize.data import load_photo_set
from colorize.evaluate import measure
from colorize.files import write_whole
from colorize.report import table

DATA = "the training part of the Intel natural-scenes set"
LICENCE = """\
The code is under the MIT licence. The weights learnt from photos of the Intel natural-scenes set,
which were collected for research: their licence allows that, but not to redistribute them with a
product, and whether that binds what was learnt from them is not settled. Take these weights for
research and for trying things out; for a product, train on photos whose licence you know.
"""
MEASURES = """\
On {count:,} photos of that set's test part, never trained on, at {size}x{size}, by these weights as
they are here (16 bits), computed in float32:

{table}
To measure them yourself: `colorize evaluate --data PHOTOS --size {size}`.
"""


def card(text: str, measures: str) -> str:
    """The card of a run, told of these weights."""
    text = text.replace("FOLDER OR HUB NAME OF THESE WEIGHTS", "assets/weights/landscapes")
    text = re.sub(r"(?m)^\| photos \| [^:|]*:", f"| photos | {DATA}:", text)
    text = re.sub(r"(?s)(## Licence\n\n).*?(?=\n## )", lambda m: m[1] + LICENCE, text)
    return text.replace("\n## Licence", f"\n{measures}\n## Licence")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="run folder; its generator/ is taken")
    parser.add_argument("--val", required=True, help="photos to measure on")
    parser.add_argument("--out", type=Path, default=ASSETS / "weights" / "landscapes")
    args = parser.parse_args()
    generator = load_generator(args.run / "generator")
    told = generator.card
    save_weights(generator.half(), args.out)
    shipped = load_generator(args.out)
    size = shipped.working_size
    photos, unreadable = load_photo_set(args.val, size)
    if unreadable:
        parser.error(f"cannot be read: {unreadable[0]}")
    shown = table({"these weights": measure(shipped, photos, full=True)})
    quoted = "".join(f"    {line}\n" for line in shown.splitlines())
    measures = MEASURES.format(count=len(photos), size=size, table=quoted)
    with write_whole(args.out / CARD_NAME) as temporary:
        temporary.write_text(card(told, measures), encoding="utf-8")
    print(shown)


if __name__ == "__main__":
    main()
