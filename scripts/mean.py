"""A mean of weights: better than each, where all went on from the same ones.

    python scripts/mean.py OUT WEIGHTS:SHARE WEIGHTS:SHARE ...

The shares add up to 1. OUT gets the card of the first. Wortsman et al., "Model soups", 2022.
"""

from __future__ import annotations

import argparse
import math
from contextlib import suppress
from pathlib import Path

import torch
from ship import towards

from colorize.generator import Generator
from colorize.pretrained import load_generator, save_weights
from colorize.system.errors import ColorizeError


def part(text: str) -> tuple[str, float]:
    """Weights and their share, out of "WEIGHTS:SHARE"."""
    weights, _, share = text.rpartition(":")
    with suppress(ValueError):
        if 0 < float(share) <= 1:
            return weights, float(share)
    raise argparse.ArgumentTypeError(f"{text!r} is not WEIGHTS:SHARE, a share up to 1")


def mean(parts: list[tuple[str, float]], out: Path) -> None:
    """Write the mean; the networks must be alike."""
    if not math.isclose(sum(share for _, share in parts), 1):
        raise ColorizeError("the shares do not add up to 1")
    (first, total), *others = parts
    generator = load_generator(first).float()
    for weights, share in others:
        other = load_generator(weights).float()
        if shapes(other) != shapes(generator):
            raise ColorizeError(f"{weights}: another network than {first}")
        total += share
        towards(other, generator, 1 - share / total)
    save_weights(generator, out)


def shapes(generator: Generator) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in generator.state_dict().items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("parts", nargs="+", type=part, metavar="WEIGHTS:SHARE")
    args = parser.parse_args()
    try:
        mean(args.parts, args.out)
    except ColorizeError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
