"""What true hints at random places bring, beside spreading their colours without a network.

    python benchmarks/hints.py --weights RUN/generator --data FOLDER --rival --json FILE

The points of a photo are drawn once: the first 5 of its 50 are its 5. Each is a square of the size
that a click has, and has its true mean colour. Measured is the network, with and without
`spread_hints` over its colours, and as the rival that alone, which is Levin, Lischinski and Weiss,
"Colorization using optimization", 2004.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from colorize.dataset import PhotoSet, load_photo_set, to_network
from colorize.evaluate import means, measure_batch, table
from colorize.generator import Generator
from colorize.hints import spread_hints, square_side, true_hints
from colorize.predict import smooth
from colorize.pretrained import load_generator
from colorize.system.device import process_state
from colorize.system.errors import ColorizeError
from colorize.system.progress import bar

COUNTS = (0, 1, 2, 5, 10, 20, 50)
MEASURES = ("l1", "ciede2000", "psnr")


def random_points(size: int, seed: int) -> Tensor:
    """As many squares as there may be, (n, 3): top, left, side; their middles lie in the photo."""
    random = torch.Generator().manual_seed(seed)
    side = square_side(size, size)
    corners = torch.randint(size, (max(COUNTS), 2), generator=random) - side // 2
    return torch.cat((corners, torch.full_like(corners[:, :1], side)), dim=1)


def alone(L: Tensor, hints: Tensor) -> Tensor:
    """What hints (B, 3, H, W) give to L (B, 1, H, W) without a network, scaled ab (B, 2, H, W)."""
    return spread_hints(L, hints, torch.zeros_like(hints[:, :2]), anchor=0)


@torch.no_grad()
def measure(generator: Generator, photos: PhotoSet, rival: bool) -> dict[str, dict[int, dict]]:
    """Means over the photos, by who coloured them and by the number of points."""
    device = next(generator.parameters()).device

    def network(L: Tensor, hints: Tensor) -> Tensor:
        return generator(L, hints if hints[:, 2].any() else None)

    painters = {
        "network": network,
        "Colorizer": lambda L, hints: spread_hints(L, hints, smooth(L, network(L, hints))),
    }
    if rival:
        painters["no network"] = alone
    rows = {name: {count: [] for count in COUNTS} for name in painters}
    at_hints = []
    for i in bar(range(len(photos)), "measuring", unit="photo"):
        rgb = photos.__getitems__([i]).to(device)
        _, ab = to_network(rgb)
        points = random_points(ab.shape[-1], seed=i)
        for count in COUNTS:
            hints = true_hints(ab, [points[:count]])
            for name, paint in painters.items():
                rows[name][count] += measure_batch(partial(paint, hints=hints), rgb, full=True)
        mask = hints[:, 2:].bool().expand(-1, 2, -1, -1)  # of most points
        predicted = generator(to_network(rgb)[0], hints)
        at_hints.append((predicted - hints[:, :2])[mask].abs().mean().item() * 110)
    print(f"at the hints themselves, |ab| is off by {np.mean(at_hints):.2f}")
    return {
        name: {count: means(some) for count, some in counts.items()}
        for name, counts in rows.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", help="weights folder that knows hints")
    parser.add_argument("--data", required=True, help="folder of photos in colour")
    parser.add_argument("--size", type=int, help="side of the squares (default: the working size)")
    parser.add_argument("--max-photos", type=int, help="a choice of so many (default: all)")
    parser.add_argument("--rival", action="store_true", help="also without a network: seconds each")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the means here")
    args = parser.parse_args()
    generator = load_generator(args.weights)
    if not generator.hints:
        raise ColorizeError(f"{args.weights}: know no colour hints; train with --hints")
    generator.to(process_state().device)
    size = args.size or generator.working_size
    photos, _ = load_photo_set(args.data, size, max_photos=args.max_photos)
    found = measure(generator, photos, args.rival)
    none = found["network"][0]["l1"]
    for name, counts in found.items():
        print(f"{name}, {len(photos)} photos of {size}x{size}")
        print(table({str(n): {m: row[m] for m in MEASURES} for n, row in counts.items()}))
        shares = (f"{n}: {100 * (row['l1'] / none - 1):+.0f} %" for n, row in counts.items())
        print("L1 beside the network without hints:", ", ".join(shares))
    if args.json:
        args.json.write_text(json.dumps({"photos": len(photos), "size": size} | found, indent=1))


if __name__ == "__main__":
    main()
