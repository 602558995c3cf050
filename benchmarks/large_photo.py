"""Seconds and peak memory of `Colorizer` on one large photo, as a line of JSON.

python benchmarks/large_photo.py WIDTH HEIGHT WORKING_SIZE DEVICE
"""

from __future__ import annotations

import json
import sys
import time
from statistics import median

import torch
from machine import peak_gb
from PIL import Image

from colorize import Colorizer
from colorize.generator import Generator
from colorize.photos.sources import builtin_photos


def main() -> None:
    width, height, size = map(int, sys.argv[1:4])
    torch.manual_seed(0)
    generator = Generator()
    # Untrained, but as colourful as a trained one: a sixth of the colours leave the gamut.
    torch.nn.init.normal_(generator.head.weight, std=0.004)
    colorizer = Colorizer(generator, size, sys.argv[4])
    photo = Image.open(builtin_photos()[0]).convert("RGB").resize((width, height))
    colorizer(photo.resize((size, size)))
    times = []
    for _ in range(3):
        started = time.perf_counter()
        colorizer(photo)
        times.append(time.perf_counter() - started)
    peak = peak_gb(sys.argv[4])
    print(json.dumps({"seconds": round(median(times), 3), "peak_gb": round(peak, 3)}))


if __name__ == "__main__":
    main()
