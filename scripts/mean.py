"""A mean of weights: better than each, where all went on from the same ones.

    python scripts/mean.py OUT WEIGHTS:SHARE WEIGHTS:SHARE ...

The shares add up to 1. OUT gets the card of the first. Wortsman et al., "Model soups", 2022.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from colorize.pretrained import load_generator, save_weights
from colorize.system.errors import ColorizeError


def part(text: str) -> tuple[str, float]:
    """Weights and their share, out of "WEIGHTS:SHARE"."""
    weights, _, share = text.rpartition(":")
    try:
        return weights, float(share)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not WEIGHTS:SHARE") from error


def mean(parts: list[tuple[str, float]], out: Path) -> None:
    """Write the mean; the networks must be alike."""
    if not math.isclose(sum(share for _, share in parts), 1):
        raise ColorizeError("the shares do not add up to 1")
    generators = [load_generator(weights).float() for weights, _ in parts]
    first, states = generators[0], [generator.state_dict() for generator in generators]
    for weights, state in zip(parts, states, strict=True):
        if {k: v.shape for k, v in state.items()} != {k: v.shape for k, v in states[0].items()}:
            raise ColorizeError(f"{weights[0]}: another network than {parts[0][0]}")
    first.load_state_dict(
        {
            name: sum(share * state[name] for (_, share), state in zip(parts, states, strict=True))
            if value.is_floating_point()
            else value
            for name, value in states[0].items()
        }
    )
    save_weights(first, out)


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
